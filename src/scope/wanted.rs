//! The objects of the probes that suites deploy, as far as a record alone tells them.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Service};
use kube::Resource;
use kube::api::ObjectMeta;
use kube::discovery::ApiResource;
use serde::Serialize;
use serde_json::{Value, json};

use super::bench::Benches;
use crate::istio::{self, evidence_log};
use crate::probe::deploy::{self, Plan};
use crate::probe::evidence_label;
use crate::record::{self, Istio, Label, Record, Write};

/// Label that makes Kubernetes refuse pods in a namespace that do not comply with a level of Pod Security.
const POD_SECURITY: &str = "pod-security.kubernetes.io/enforce";

/// Name of the object that enables the evidence log of the probes.
const EVIDENCE: &str = "meshproof-evidence";

/// The objects that suites write into a cluster before the first test.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// The cluster's name in the mesh.
    pub cluster: String,
    /// The objects, in the order in which they are written. The copy of a pull secret is not among them.
    pub objects: Vec<Value>,
}

/// The objects that suites write into each cluster before the first test. None if the record does not permit that.
pub fn planned(record: &Record) -> Vec<Planned> {
    Wanted::of(record).iter().map(Wanted::planned).collect()
}

/// The probes to deploy in one cluster.
pub(super) struct Wanted<'a> {
    pub(super) record: &'a record::Cluster,
    pub(super) plan: Plan<'a>,
    /// The plans of all clusters: a service exists everywhere.
    all: Vec<Plan<'a>>,
    /// The namespaces of the probes of all clusters, each with whether it is in the mesh.
    namespaces: BTreeMap<&'a str, bool>,
    /// The workloads of performance comparisons, if they are to be deployed.
    pub(super) benches: Option<Benches<'a>>,
}

impl<'a> Wanted<'a> {
    /// For each cluster whose probes must be deployed. None if the record does not permit that.
    pub(super) fn of(record: &'a Record) -> Vec<Self> {
        // Every object is in a namespace of the probes' own.
        if !record.capabilities.may_write(Write::Namespaces) {
            return Vec::new();
        }
        let all: Vec<Plan<'a>> = record.clusters.iter().filter_map(Plan::of).collect();
        let namespaces: BTreeMap<&str, bool> = all.iter().flat_map(Plan::namespaces).collect();
        let wanted = record.clusters.iter().filter_map(|cluster| {
            let benches = Benches::of(cluster);
            let mut namespaces = namespaces.clone();
            namespaces.extend(benches.iter().flat_map(Benches::namespaces));
            Some(Self { record: cluster, plan: Plan::of(cluster)?, all: all.clone(), namespaces, benches })
        });
        wanted.collect()
    }

    pub(super) fn namespaces(&self) -> Vec<Namespace> {
        self.namespaces.keys().map(|name| self.namespace(name)).collect()
    }

    /// A namespace of the probes. A namespace of the Lease alone is not in the mesh.
    pub(super) fn namespace(&self, name: &str) -> Namespace {
        let meshed = self.namespaces.get(name).copied().unwrap_or(false);
        let mut labels = deploy::labels();
        labels.extend(labels_of(&self.record.istio, meshed).map(|Label { key, value }| (key, value)));
        let metadata = ObjectMeta { name: Some(name.into()), labels: Some(labels), ..ObjectMeta::default() };
        Namespace { metadata, ..Namespace::default() }
    }

    pub(super) fn services(&self) -> Vec<Service> {
        let of_probes = self.all.iter().filter_map(Plan::meshed_service).chain(self.plan.naked_service());
        of_probes.chain(self.benches.iter().flat_map(Benches::services)).collect()
    }

    /// Mutual TLS only, the evidence log, and the way in from other networks, for each namespace in the mesh.
    pub(super) fn policies(&self) -> Vec<Value> {
        let mut policies = Vec::new();
        for namespace in self.namespaces.iter().filter_map(|(name, meshed)| meshed.then_some(*name)) {
            policies.push(istio::strict(namespace));
            if self.is_bench(namespace) {
                continue;
            }
            if let Some(log) = &self.record.istio.access_log {
                policies.push(evidence_log(log, EVIDENCE, namespace, &evidence_label()));
            }
            let gateway = self.record.gateways.eastwest.as_ref();
            policies.extend(gateway.and_then(|gateway| istio::exposed(gateway, namespace, &self.record.domain)));
        }
        policies.extend(self.benches.iter().flat_map(Benches::rules));
        policies.into_iter().map(signed).collect()
    }

    /// The probes, and the workloads of performance comparisons.
    pub(super) fn deployments(&self) -> Vec<Deployment> {
        self.plan.deployments().into_iter().chain(self.benches.iter().flat_map(Benches::deployments)).collect()
    }

    /// All namespaces in which images are pulled.
    pub(super) fn pulling(&self) -> impl Iterator<Item = &str> {
        self.plan
            .namespaces()
            .into_keys()
            .chain(self.benches.iter().flat_map(|benches| benches.namespaces().into_keys()))
    }

    /// What is measured writes no evidence log, and nobody calls it from another network.
    fn is_bench(&self, namespace: &str) -> bool {
        self.benches.is_some_and(|benches| benches.namespaces().contains_key(namespace))
    }

    pub(super) fn planned(&self) -> Planned {
        let mut objects: Vec<Value> = self.namespaces().iter().map(as_value).collect();
        objects.extend(self.plan.accounts().iter().map(as_value));
        objects.extend(self.services().iter().map(as_value));
        objects.extend(self.policies());
        objects.extend(self.deployments().iter().map(as_value));
        Planned { cluster: self.record.name.clone(), objects }
    }
}

/// The labels of a namespace whose pods are in the mesh, or are not. The pods comply with the level of Pod Security.
pub(crate) fn labels_of(istio: &Istio, meshed: bool) -> [Label; 2] {
    // The init container that Istio adds without its CNI may do what `restricted` forbids.
    let level = if meshed && istio.proxy.init_container { "privileged" } else { "restricted" };
    [istio::injection(istio, meshed), Label { key: POD_SECURITY.into(), value: level.into() }]
}

/// The object, with the label of the probes.
fn signed(mut object: Value) -> Value {
    object["metadata"]["labels"] = json!(deploy::labels());
    object
}

fn as_value<K: Resource<DynamicType = ()> + Serialize>(object: &K) -> Value {
    let ApiResource { api_version, kind, .. } = ApiResource::erase::<K>(&());
    let mut value = serde_json::to_value(object).unwrap_or_default();
    value["apiVersion"] = api_version.into();
    value["kind"] = kind.into();
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::{cluster, record};
    use crate::record::{AccessLog, BenchDeployment, ProbeDeployment};

    fn to_deploy() -> Record {
        let clusters = ["east", "west"].map(|name| {
            let mut cluster = cluster(name);
            let image = "registry.example/probe:1".into();
            cluster.probes.as_mut().unwrap().deployment =
                Some(ProbeDeployment { image, pull_policy: None, pull_secret: None });
            cluster.istio.access_log = Some(AccessLog::Filter);
            cluster
        });
        record(clusters.into())
    }

    #[test]
    fn everything_planned_is_labelled_and_in_a_planned_namespace() {
        let mut record = to_deploy();
        record.capabilities.writes = vec![Write::Namespaces];
        let planned = planned(&record);
        assert_eq!(planned.len(), 2);
        for Planned { cluster, objects } in &planned {
            let namespaces: Vec<&str> = objects
                .iter()
                .filter(|object| object["kind"] == "Namespace")
                .filter_map(|object| object["metadata"]["name"].as_str())
                .collect();
            assert_eq!(namespaces, ["meshproof-naked", "pinnacle"], "{cluster}");
            for object in objects {
                assert_eq!(object["metadata"]["labels"][crate::probe::PROBES_LABEL], "deployed", "{object:#}");
                let place = object["metadata"]["namespace"].as_str();
                assert!(place.is_none_or(|place| namespaces.contains(&place)), "{object:#}");
                assert!(object["apiVersion"].is_string() && object["kind"].is_string());
            }
            let kinds = objects.iter().filter(|object| object["kind"] == "Deployment").count();
            assert_eq!(kinds, 3, "{cluster}");
        }
    }

    #[test]
    fn namespaces_for_comparisons_are_strict_and_have_workloads_of_their_own_and_no_evidence_log() {
        let mut record = to_deploy();
        record.capabilities.writes = vec![Write::Namespaces];
        let image = "registry.example/load:1".to_owned();
        record.clusters[0].bench.as_mut().unwrap().deployment = Some(BenchDeployment { image, pull_policy: None });
        let planned = planned(&record);
        let of = |cluster: usize, kind: &str, namespace: &str| {
            let is_it = |object: &&Value| object["kind"] == kind && object["metadata"]["namespace"] == namespace;
            planned[cluster].objects.iter().filter(is_it).count()
        };
        for (namespace, policies) in [("meshproof-perf", 1), ("meshproof-perf-naked", 0)] {
            assert_eq!(of(0, "Deployment", namespace), 2);
            assert_eq!(of(0, "Service", namespace), 1);
            assert_eq!(of(0, "DestinationRule", namespace), 1);
            assert_eq!(of(0, "PeerAuthentication", namespace), policies);
            assert_eq!(of(0, "EnvoyFilter", namespace) + of(0, "Gateway", namespace), 0);
            assert_eq!(of(1, "Deployment", namespace), 0, "the other cluster's record deploys none");
        }
        assert_eq!(of(0, "EnvoyFilter", "pinnacle"), 1);
        for object in &planned[0].objects {
            assert_eq!(object["metadata"]["labels"][crate::probe::PROBES_LABEL], "deployed", "{object:#}");
        }
    }

    #[test]
    fn without_the_permission_nothing_is_planned() {
        let mut record = to_deploy();
        record.capabilities.writes.clear();
        assert!(planned(&record).is_empty());
    }
}
