//! Authorization policies, as in their manifests.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Annotation of a policy that is evaluated and not enforced.
const DRY_RUN: &str = "istio.io/dry-run";

/// An `AuthorizationPolicy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Whether the policy is only evaluated, and not enforced.
    pub dry_run: bool,
    /// What the policy says.
    pub spec: Spec,
}

/// The `spec` of an `AuthorizationPolicy`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Spec {
    /// The workloads. Without a selector: all of the namespace, or of the mesh if the namespace is the root namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<Selector>,
    /// The action for a call that a rule matches.
    pub action: Action,
    /// The external authorizer of [`Action::Custom`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<Provider>,
    /// The rules. One that matches is enough. Without rules, no call matches.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
}

/// Labels that a workload must have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Selector {
    /// All of these labels.
    pub match_labels: BTreeMap<String, String>,
}

/// The action for a call that a rule matches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Action {
    /// Allows the call. If any policy of the workload has this action, calls that match none of them are denied.
    #[default]
    Allow,
    /// Denies the call, whatever the other policies say.
    Deny,
    /// Reports the call, and decides nothing.
    Audit,
    /// Asks an external authorizer.
    Custom,
}

/// An extension provider of the mesh configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// Name.
    pub name: String,
}

/// A rule. Matches a call if one source, one operation and all conditions match.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rule {
    /// The sources. None: any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<From>,
    /// The operations. None: any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<To>,
    /// The conditions. None: always.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub when: Vec<Condition>,
}

/// An entry of `from`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct From {
    /// Field name to its values, for example `principals`.
    pub source: BTreeMap<SourceField, Vec<String>>,
}

/// An entry of `to`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct To {
    /// Field name to its values, for example `paths`.
    pub operation: BTreeMap<OperationField, Vec<String>>,
}

/// An entry of `when`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Condition {
    /// Name of an attribute, for example `request.headers[x-version]`.
    pub key: String,
    /// One of these, if there are any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
    /// None of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_values: Vec<String>,
}

/// A field of `source`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the names are those of Istio's reference")]
pub enum SourceField {
    Principals,
    NotPrincipals,
    RequestPrincipals,
    NotRequestPrincipals,
    Namespaces,
    NotNamespaces,
    ServiceAccounts,
    NotServiceAccounts,
    IpBlocks,
    NotIpBlocks,
    RemoteIpBlocks,
    NotRemoteIpBlocks,
}

/// A field of `operation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "the names are those of Istio's reference")]
pub enum OperationField {
    Hosts,
    NotHosts,
    Ports,
    NotPorts,
    Methods,
    NotMethods,
    Paths,
    NotPaths,
}

impl Policy {
    /// The policy with this `spec`, as in a manifest.
    ///
    /// # Errors
    /// The spec has a field or a value that Istio's reference does not have, or that this model does not know.
    pub fn parse(namespace: &str, name: &str, spec: Value) -> Result<Self, serde_json::Error> {
        let spec = serde_json::from_value(spec)?;
        Ok(Self { namespace: namespace.into(), name: name.into(), dry_run: false, spec })
    }

    /// The same policy, evaluated and not enforced.
    #[must_use]
    pub fn dry_run(self) -> Self {
        Self { dry_run: true, ..self }
    }

    /// The Kubernetes object.
    pub fn object(&self) -> Value {
        let mut object = json!({
            "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
            "metadata": { "name": self.name, "namespace": self.namespace },
            "spec": self.spec,
        });
        if self.dry_run {
            object["metadata"]["annotations"][DRY_RUN] = "true".into();
        }
        object
    }

    /// Whether the policy is about a workload with these labels in `namespace`.
    pub fn selects(&self, root_namespace: &str, namespace: &str, labels: &BTreeMap<String, String>) -> bool {
        let reaches = self.namespace == namespace || self.namespace == root_namespace;
        let selected =
            self.spec.selector.as_ref().is_none_or(|selector| {
                selector.match_labels.iter().all(|(label, value)| labels.get(label) == Some(value))
            });
        reaches && selected
    }
}
