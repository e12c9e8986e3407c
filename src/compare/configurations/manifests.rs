//! The manifests of one side of a comparison.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::error::{Error, Result};

/// Stands for the namespace of an arm, in any text of a manifest.
pub const NAMESPACE: &str = "${NAMESPACE}";

/// Names of the workloads of an arm. A Deployment of that name is a patch of the workload.
pub const WORKLOADS: [&str; 2] = ["client", "server"];

/// Kinds outside of namespaces. A comparison touches only namespaces of its own.
const CLUSTER_WIDE: [&str; 10] = [
    "APIService",
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "GatewayClass",
    "MutatingWebhookConfiguration",
    "Node",
    "PersistentVolume",
    "StorageClass",
    "ValidatingWebhookConfiguration",
];

/// Kinds that other namespaces see, unless they say otherwise.
const EXPORTED: [&str; 3] = ["DestinationRule", "ServiceEntry", "VirtualService"];

/// The objects of one side.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Manifests {
    objects: BTreeMap<ObjectName, Value>,
}

/// Kind and name of an object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectName {
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

/// How an object of the treatment differs from the control's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Declaration {
    /// Only the control has it.
    Removed,
    /// Only the treatment has it.
    Added,
    /// Both have it, and it differs.
    Changed,
}

impl fmt::Display for Declaration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Removed => "removed",
            Self::Added => "added",
            Self::Changed => "changed",
        })
    }
}

/// An object that the two sides declare differently.
#[derive(Debug, Clone, PartialEq)]
pub struct Declared {
    /// The object.
    pub object: ObjectName,
    /// How it differs.
    pub how: Declaration,
    /// Labels of the pods that the object selects. `None` for an object without a selector.
    pub selector: Option<BTreeMap<String, String>>,
}

impl Manifests {
    /// Reads `*.yaml`, `*.yml` and `*.json` in a directory, without its subdirectories. A file may have several documents.
    ///
    /// # Errors
    /// [`Error::Manifest`], with the file.
    pub fn read(directory: &Path) -> Result<Self> {
        let failed = |reason: String| Error::Manifest { path: directory.into(), reason };
        let entries = std::fs::read_dir(directory).map_err(|error| failed(error.to_string()))?;
        let is_manifest = |path: &PathBuf| {
            path.extension().is_some_and(|end| ["yaml", "yml", "json"].iter().any(|known| end == *known))
        };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(is_manifest).collect();
        paths.sort();
        let mut all = Self::default();
        for path in &paths {
            let text = std::fs::read_to_string(path);
            let text = text.map_err(|error| Error::Manifest { path: path.clone(), reason: error.to_string() })?;
            all.add(&text, path)?;
        }
        Ok(all)
    }

    /// Parses the text of a file. `path` is for errors.
    ///
    /// # Errors
    /// [`Error::Manifest`].
    pub fn parse(text: &str, path: &Path) -> Result<Self> {
        let mut all = Self::default();
        all.add(text, path)?;
        Ok(all)
    }

    fn add(&mut self, text: &str, path: &Path) -> Result<()> {
        let failed = |reason: String| Error::Manifest { path: path.into(), reason };
        let documents: Vec<Value> = serde_saphyr::from_multiple(text).map_err(|error| failed(error.to_string()))?;
        let items = documents.into_iter().flat_map(|document| match document.get("items") {
            Some(Value::Array(items)) if is_list(&document) => items.clone(),
            _ => vec![document],
        });
        for object in items.filter(|object| !object.is_null()) {
            let name = named(&object).map_err(failed)?;
            if self.objects.contains_key(&name) {
                return Err(failed(format!("{name} is there twice")));
            }
            self.objects.insert(name, object);
        }
        Ok(())
    }

    /// Number of objects.
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether there is no object.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// The objects that go into the namespace of an arm: all but the namespace itself and the patches of our workloads.
    pub(super) fn in_namespace(&self, namespace: &str) -> Vec<Value> {
        let own = self.objects.iter().filter(|(name, _)| name.kind != "Namespace" && !is_patch(name));
        own.map(|(_, object)| placed(object, namespace)).collect()
    }

    /// The patch of a workload of ours.
    pub(super) fn patch(&self, workload: &str, namespace: &str) -> Option<Value> {
        let name = ObjectName { kind: "Deployment".into(), name: workload.into() };
        self.objects.get(&name).map(|object| placed(object, namespace))
    }

    /// Labels that the manifests declare for the namespace of an arm.
    pub(super) fn namespace_labels(&self) -> BTreeMap<String, String> {
        let namespace = self.objects.iter().find(|(name, _)| name.kind == "Namespace");
        let labels = namespace.and_then(|(_, object)| object.pointer("/metadata/labels"));
        labels.and_then(|labels| serde_json::from_value(labels.clone()).ok()).unwrap_or_default()
    }

    /// The objects that `treatment` declares differently.
    pub fn declared(&self, treatment: &Self) -> Vec<Declared> {
        let names: std::collections::BTreeSet<&ObjectName> =
            self.objects.keys().chain(treatment.objects.keys()).collect();
        let difference = |name: &ObjectName| {
            let (one, other) = (self.objects.get(name), treatment.objects.get(name));
            let how = match (one, other) {
                (Some(one), Some(other)) if one == other => return None,
                (Some(_), Some(_)) => Declaration::Changed,
                (Some(_), None) => Declaration::Removed,
                (None, _) => Declaration::Added,
            };
            Some(Declared { object: name.clone(), how, selector: other.or(one).and_then(selector) })
        };
        names.into_iter().filter_map(difference).collect()
    }
}

fn is_list(document: &Value) -> bool {
    document["kind"].as_str().is_some_and(|kind| kind.ends_with("List"))
}

/// Whether the object is a patch of a workload of ours.
pub(super) fn is_patch(name: &ObjectName) -> bool {
    name.kind == "Deployment" && WORKLOADS.contains(&name.name.as_str())
}

fn named(object: &Value) -> Result<ObjectName, String> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (kind, name) = (text("/kind"), text("/metadata/name"));
    if text("/apiVersion").is_empty() || kind.is_empty() || name.is_empty() {
        return Err("a document has no apiVersion, kind or metadata.name".into());
    }
    if CLUSTER_WIDE.contains(&kind) {
        return Err(format!("{kind}/{name} is in no namespace, and a comparison touches only namespaces of its own"));
    }
    Ok(ObjectName { kind: kind.into(), name: name.into() })
}

/// The labels by which an object selects pods.
fn selector(object: &Value) -> Option<BTreeMap<String, String>> {
    let places = ["/spec/selector/matchLabels", "/spec/workloadSelector/labels", "/spec/workloadSelector/matchLabels"];
    let found = places.iter().find_map(|place| object.pointer(place))?;
    serde_json::from_value(found.clone()).ok()
}

/// The object in the namespace of an arm. What the other arm would see too is kept from it.
fn placed(object: &Value, namespace: &str) -> Value {
    let mut object = substituted(object, namespace);
    object["metadata"]["namespace"] = namespace.into();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        // An exported object has them, and an API server refuses or ignores them.
        ["uid", "resourceVersion", "creationTimestamp", "managedFields", "generation"].iter().for_each(|field| {
            metadata.remove(*field);
        });
    }
    let kind = object["kind"].as_str().unwrap_or_default().to_owned();
    if EXPORTED.contains(&kind.as_str()) && object["spec"].get("exportTo").is_none() {
        object["spec"]["exportTo"] = serde_json::json!(["."]);
    }
    if kind == "Service" && object.pointer("/metadata/annotations/networking.istio.io~1exportTo").is_none() {
        object["metadata"]["annotations"]["networking.istio.io/exportTo"] = ".".into();
    }
    object
}

fn substituted(value: &Value, namespace: &str) -> Value {
    match value {
        Value::String(text) => text.replace(NAMESPACE, namespace).into(),
        Value::Array(items) => items.iter().map(|item| substituted(item, namespace)).collect(),
        Value::Object(fields) => fields
            .iter()
            .map(|(key, value)| (key.replace(NAMESPACE, namespace), substituted(value, namespace)))
            .collect(),
        other => other.clone(),
    }
}

/// Merges a patch into an object, as `kubectl patch` does: objects by field, lists of named things by name, all else is
/// replaced. `null` removes a field.
pub(super) fn patch(object: &mut Value, with: &Value) {
    match (object, with) {
        (Value::Object(fields), Value::Object(changes)) => {
            for (key, change) in changes {
                match (fields.get_mut(key), change) {
                    (_, Value::Null) => drop(fields.remove(key)),
                    (Some(field), change) => patch(field, change),
                    (None, change) => drop(fields.insert(key.clone(), change.clone())),
                }
            }
        }
        (Value::Array(items), Value::Array(changes)) if is_named(items) && is_named(changes) => {
            for change in changes {
                match items.iter_mut().find(|item| item["name"] == change["name"]) {
                    Some(item) => patch(item, change),
                    None => items.push(change.clone()),
                }
            }
        }
        (object, with) => *object = with.clone(),
    }
}

fn is_named(items: &[Value]) -> bool {
    items.iter().all(|item| item["name"].is_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parsed(text: &str) -> Manifests {
        Manifests::parse(text, Path::new("here.yaml")).unwrap()
    }

    const TWO: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: allow, namespace: shop, uid: a}
spec:
  selector: {matchLabels: {app: server}}
  rules: [{from: [{source: {principals: ['cluster.local/ns/${NAMESPACE}/sa/client']}}]}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: far}
spec: {hosts: [far.example]}
";

    #[test]
    fn objects_go_into_the_namespace_of_the_arm_and_the_other_arm_does_not_see_them() {
        let objects = parsed(TWO).in_namespace("arm");
        assert_eq!(objects[0]["metadata"], json!({ "name": "allow", "namespace": "arm" }));
        let principal = objects[0].pointer("/spec/rules/0/from/0/source/principals/0").unwrap();
        assert_eq!(principal, "cluster.local/ns/arm/sa/client");
        assert_eq!(objects[1]["spec"]["exportTo"], json!(["."]));
    }

    #[test]
    fn what_differs_between_the_sides_is_declared_with_what_it_selects() {
        let (control, treatment) = (parsed(TWO), parsed(&TWO.replace("app: server", "app: sever")));
        assert_eq!(control.declared(&control), []);
        let declared = control.declared(&treatment);
        let [one] = declared.as_slice() else { panic!("{declared:?}") };
        assert_eq!((one.object.to_string(), one.how), ("AuthorizationPolicy/allow".into(), Declaration::Changed));
        assert_eq!(one.selector.as_ref().unwrap()["app"], "sever");
        let hows: Vec<Declaration> = control.declared(&Manifests::default()).iter().map(|one| one.how).collect();
        assert_eq!(hows, [Declaration::Removed; 2]);
    }

    #[test]
    fn a_document_that_is_no_object_is_refused_with_its_file() {
        for (text, said) in [
            ("kind: ConfigMap", "no apiVersion, kind or metadata.name"),
            ("{apiVersion: v1, kind: Node, metadata: {name: one}}", "namespaces of its own"),
            ("a: [", "here.yaml"),
            (
                "{apiVersion: v1, kind: Secret, metadata: {name: one}}\n---\n{apiVersion: v1, kind: Secret, metadata: {name: one}}",
                "twice",
            ),
        ] {
            let error = Manifests::parse(text, Path::new("here.yaml")).unwrap_err();
            assert!(error.is_usage() && error.to_string().contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn a_list_is_its_items() {
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": [
            { "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "a" } },
            { "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "b" } },
        ]});
        assert_eq!(parsed(&list.to_string()).len(), 2);
    }

    #[test]
    fn a_patch_merges_containers_by_name_and_removes_what_is_null() {
        let mut object =
            json!({ "spec": { "containers": [{ "name": "client", "image": "a" }], "grace": 1, "args": ["x"] } });
        let proxy = json!({ "name": "istio-proxy", "resources": { "limits": { "cpu": "1" } } });
        let change =
            json!({ "spec": { "containers": [proxy, { "name": "client", "env": [] }], "grace": null, "args": ["y"] } });
        patch(&mut object, &change);
        let owed =
            json!({ "spec": { "containers": [{ "name": "client", "image": "a", "env": [] }, proxy], "args": ["y"] } });
        assert_eq!(object, owed);
    }
}
