//! What all of Istio's objects have in common.

use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::Value;

/// An object's name and age.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) namespace: String,
    pub(super) name: String,
    /// RFC 3339, which sorts as text.
    created: String,
}

impl Named {
    /// What objects are sorted by: the oldest first. Of two created in the same second, the first by name.
    pub(super) fn age(&self) -> (&str, &str) {
        (&self.created, &self.name)
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The name and age of a Kubernetes object.
pub(super) fn named(object: &Value) -> Named {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    Named { namespace: text("namespace"), name: text("name"), created: text("creationTimestamp") }
}

/// The `spec` of a Kubernetes object. The default if there is none; `None` if it has another shape.
pub(super) fn spec<S: DeserializeOwned + Default>(object: &Value) -> Option<S> {
    match object.get("spec") {
        None | Some(Value::Null) => Some(S::default()),
        Some(spec) => S::deserialize(spec).ok(),
    }
}
