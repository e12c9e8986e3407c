//! The rules as objects to apply.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;

use super::needs::Places;
use super::rule::{Extent, Rule};
use crate::probe::deploy;

const GROUP: &str = "rbac.authorization.k8s.io";

/// Who gets the rights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A service account.
    ServiceAccount {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// A user, as the API server knows it.
    User(String),
    /// A group, as the API server knows it.
    Group(String),
}

impl Subject {
    fn reference(&self) -> k8s_openapi::api::rbac::v1::Subject {
        let group = Some(GROUP.to_owned());
        let (kind, name, namespace, api_group) = match self {
            Self::ServiceAccount { namespace, name } => ("ServiceAccount", name, Some(namespace.clone()), None),
            Self::User(name) => ("User", name, None, group),
            Self::Group(name) => ("Group", name, None, group),
        };
        k8s_openapi::api::rbac::v1::Subject { kind: kind.into(), name: name.clone(), namespace, api_group }
    }
}

/// The roles and bindings called `name` that give `subject` these rights, and meshproof's own namespaces that they are
/// about, as YAML for `kubectl apply`. Comments say what each right is for.
pub fn to_yaml(rules: &[Rule], places: &Places, name: &str, subject: &Subject) -> String {
    let mut by_extent: BTreeMap<&Extent, Vec<&Rule>> = BTreeMap::new();
    for rule in rules {
        by_extent.entry(&rule.extent).or_default().push(rule);
    }
    let mut text = String::new();
    for namespace in own(by_extent.keys().copied(), places) {
        let comment = "# Meshproof makes this namespace itself, unless it is there.\n";
        let labels = Some(deploy::labels());
        let metadata = ObjectMeta { name: Some(namespace.to_owned()), labels, ..ObjectMeta::default() };
        document(&mut text, comment, &Namespace { metadata, ..Namespace::default() });
    }
    for (extent, rules) in by_extent {
        let comment = rules.iter().fold(String::new(), |mut comment, rule| {
            let _ = writeln!(comment, "# {}: {}", rule.resource_name(), rule.why);
            comment
        });
        let rules = Some(rules.into_iter().map(policy_rule).collect());
        let namespace = match extent {
            Extent::Cluster => None,
            Extent::Namespace(namespace) => Some(namespace.clone()),
        };
        let metadata = ObjectMeta { name: Some(name.to_owned()), namespace, ..ObjectMeta::default() };
        let subjects = Some(vec![subject.reference()]);
        let to = |kind: &str| RoleRef { api_group: GROUP.into(), kind: kind.into(), name: name.into() };
        match extent {
            Extent::Cluster => {
                let role = ClusterRole { metadata: metadata.clone(), rules, ..ClusterRole::default() };
                document(&mut text, &comment, &role);
                document(&mut text, "", &ClusterRoleBinding { metadata, role_ref: to("ClusterRole"), subjects });
            }
            Extent::Namespace(_) => {
                document(&mut text, &comment, &Role { metadata: metadata.clone(), rules });
                document(&mut text, "", &RoleBinding { metadata, role_ref: to("Role"), subjects });
            }
        }
    }
    text
}

/// The namespaces of the rules that meshproof would make itself.
fn own<'a>(extents: impl Iterator<Item = &'a Extent>, places: &'a Places) -> BTreeSet<&'a str> {
    let named = extents.filter_map(|extent| match extent {
        Extent::Namespace(name) => Some(name),
        Extent::Cluster => None,
    });
    named.filter(|name| places.own.contains(*name)).map(String::as_str).collect()
}

fn policy_rule(rule: &Rule) -> PolicyRule {
    PolicyRule {
        api_groups: Some(vec![rule.group.into()]),
        resources: Some(vec![rule.resource.into()]),
        verbs: rule.verbs.iter().map(|verb| (*verb).to_owned()).collect(),
        ..PolicyRule::default()
    }
}

fn document(text: &mut String, comment: &str, object: &impl Serialize) {
    // Plain data: nothing in it can fail to be written.
    let yaml = serde_saphyr::to_string(object).unwrap_or_else(|error| format!("# not written: {error}\n"));
    let _ = write!(text, "---\n{comment}{yaml}");
}
