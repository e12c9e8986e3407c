//! One right, with its reason.

use std::fmt;

use k8s_openapi::api::authorization::v1::ResourceAttributes;

use crate::cluster::request;

/// Where a rule holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Extent {
    /// Everywhere: objects without namespaces, or those of every namespace.
    Cluster,
    /// In one namespace.
    Namespace(String),
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster => f.write_str("(everywhere)"),
            Self::Namespace(name) => f.write_str(name),
        }
    }
}

/// Verbs on one kind of objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// API group. Empty for the core group.
    pub group: &'static str,
    /// Resource in the plural, with the subresource if there is one: `pods/exec`.
    pub resource: &'static str,
    /// Verbs, such as `list`.
    pub verbs: Vec<&'static str>,
    /// Where.
    pub extent: Extent,
    /// What meshproof does with it.
    pub why: String,
}

impl Rule {
    /// A rule for the whole cluster.
    pub(super) fn everywhere(group: &'static str, resource: &'static str, verbs: &[&'static str], why: &str) -> Self {
        Self { group, resource, verbs: verbs.to_vec(), extent: Extent::Cluster, why: why.to_owned() }
    }

    /// The same rule, for one namespace.
    pub(super) fn within(self, namespace: &str) -> Self {
        Self { extent: Extent::Namespace(namespace.to_owned()), ..self }
    }

    /// `RESOURCE`, or `RESOURCE.GROUP`.
    pub fn resource_name(&self) -> String {
        if self.group.is_empty() { self.resource.to_owned() } else { format!("{}.{}", self.resource, self.group) }
    }

    /// What to ask the API server about one verb.
    pub(super) fn attributes(&self, verb: &str) -> ResourceAttributes {
        let (resource, subresource) = match self.resource.split_once('/') {
            Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
            None => (self.resource, None),
        };
        let namespace = match &self.extent {
            Extent::Cluster => None,
            Extent::Namespace(name) => Some(name.clone()),
        };
        ResourceAttributes { subresource, namespace, ..request(verb, self.group, resource) }
    }
}

/// One rule for each kind and place, with the verbs and reasons of all. A rule for the cluster contains those for
/// namespaces.
pub(super) fn merged(rules: impl IntoIterator<Item = Rule>) -> Vec<Rule> {
    let mut all: Vec<Rule> = Vec::new();
    for rule in rules {
        let same =
            |one: &&mut Rule| (one.group, one.resource, &one.extent) == (rule.group, rule.resource, &rule.extent);
        let Some(known) = all.iter_mut().find(same) else {
            all.push(rule);
            continue;
        };
        let new: Vec<&str> = rule.verbs.iter().copied().filter(|verb| !known.verbs.contains(verb)).collect();
        known.verbs.extend(new);
        if !known.why.contains(&rule.why) {
            known.why = format!("{}; {}", known.why, rule.why);
        }
    }
    let everywhere: Vec<Rule> = all.iter().filter(|rule| rule.extent == Extent::Cluster).cloned().collect();
    for rule in all.iter_mut().filter(|rule| rule.extent != Extent::Cluster) {
        let wider = everywhere.iter().find(|wide| (wide.group, wide.resource) == (rule.group, rule.resource));
        if let Some(wider) = wider {
            rule.verbs.retain(|verb| !wider.verbs.contains(verb));
        }
    }
    all.retain(|rule| !rule.verbs.is_empty());
    all
}
