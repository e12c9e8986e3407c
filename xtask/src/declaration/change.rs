//! What of a changed declaration `up` can change in place, and what needs the testbed to be made anew.

use super::{Cluster, Declaration, Istio, Mesh, Namespace};

/// The differences that need `down` first, each as `what: old, now new`. Number of nodes, application, mesh-wide policy,
/// trust domain aliases, candidate networks, further namespaces and what these enforce change in place.
pub(crate) fn not_in_place(old: &Declaration, new: &Declaration) -> Vec<String> {
    let mut found = Differences::default();
    found.mesh(&old.mesh, &new.mesh);
    found.istio(&old.istio, &new.istio);
    found.add("preparation for suites", &old.prepared, &new.prepared);
    if old.application.is_some() && new.application.is_none() {
        found.note("application", &"the boutique", &"none");
    }
    found.add("clusters", &old.names().join(", "), &new.names().join(", "));
    for Namespace { name, .. } in &old.namespaces {
        if !new.namespaces.iter().any(|namespace| namespace.name == *name) {
            found.note(&format!("namespace {name}"), &"declared", &"not declared");
        }
    }
    for cluster in &new.clusters {
        if let Some(before) = old.clusters.iter().find(|before| before.name == cluster.name) {
            found.cluster(before, cluster);
        }
    }
    found.0
}

#[derive(Default)]
struct Differences(Vec<String>);

impl Differences {
    fn mesh(&mut self, old: &Mesh, new: &Mesh) {
        self.add("mesh id", &old.id, &new.id);
        self.add("trust domain", &old.trust_domain, &new.trust_domain);
        self.add_debug("authority", &old.authority, &new.authority);
    }

    fn istio(&mut self, old: &Istio, new: &Istio) {
        self.add_debug("revision", &old.revision, &new.revision);
        self.add_debug("revision tags", &old.tags, &new.tags);
        self.add_debug("injection", &old.injection, &new.injection);
        self.add("native sidecars", &old.native_sidecars, &new.native_sidecars);
        self.add("Istio CNI", &old.cni, &new.cni);
    }

    fn cluster(&mut self, old: &Cluster, new: &Cluster) {
        let of = |what: &str| format!("{what} of {}", new.name);
        self.add(&of("network"), &old.network, &new.network);
        self.add(&of("pod subnet"), &old.pods, &new.pods);
        self.add(&of("service subnet"), &old.services, &new.services);
        self.add_debug(&of("ingress gateway"), &old.ingress, &new.ingress);
        self.add_debug(&of("east-west gateway"), &old.eastwest, &new.eastwest);
        self.add(&of("enforcement of network policies"), &old.network_policies, &new.network_policies);
    }

    fn add<T: PartialEq + ToString>(&mut self, what: &str, old: &T, new: &T) {
        if old != new {
            self.note(what, old, new);
        }
    }

    fn add_debug<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, old: &T, new: &T) {
        if old != new {
            self.note(what, &format!("{old:?}"), &format!("{new:?}"));
        }
    }

    fn note(&mut self, what: &str, old: &dyn ToString, new: &dyn ToString) {
        self.0.push(format!("{what}: {}, now {}", old.to_string(), new.to_string()));
    }
}
