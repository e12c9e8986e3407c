//! Nodes, namespaces and restrictions of a cluster.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Namespace, Node, ResourceQuota};
use kube::ResourceExt;

use super::error::Result;
use super::found::Surroundings;
use super::reader::Reader;
use crate::probe::PROBES_LABEL;
use crate::record::Label;
use crate::scope::RUN_LABEL;

/// Label of a namespace in the ambient mesh.
const DATAPLANE: &str = "istio.io/dataplane-mode";

/// Label of the level of Pod Security that a namespace enforces.
const POD_SECURITY: &str = "pod-security.kubernetes.io/enforce";

/// Label selector of Istio's CNI agent.
const CNI: &str = "k8s-app=istio-cni-node";

/// Reads nodes and namespaces. `injection` enables sidecars. `ours` are the namespaces that suites will create.
///
/// # Errors
/// [`Error::Cluster`](super::Error::Cluster).
pub(super) async fn read(reader: &Reader, injection: &Label, ours: &[String]) -> Result<Surroundings> {
    let (nodes, namespaces, quotas, agents) = futures::try_join!(
        reader.list_all::<Node>("the architectures of the nodes are unknown"),
        reader.list_all::<Namespace>("ambient namespaces and levels of Pod Security are unknown"),
        reader.list::<ResourceQuota>(None, "", "quotas are unknown"),
        reader.list::<DaemonSet>(None, CNI, "whether Istio's CNI agent is there, is unknown"),
    )?;
    let namespaces = namespaces.unwrap_or_default();
    let has =
        |namespace: &&Namespace, key: &str, value: &str| namespace.labels().get(key).is_some_and(|is| is == value);
    let injected = namespaces.iter().filter(|one| has(one, &injection.key, &injection.value));
    let is_ours = |namespace: &&Namespace| {
        let labels = namespace.labels();
        labels.contains_key(PROBES_LABEL) || labels.contains_key(RUN_LABEL)
    };
    let taken = namespaces.iter().filter(|one| ours.contains(&one.name_any()) && !is_ours(one));
    let quotas: BTreeSet<String> = quotas.unwrap_or_default().iter().filter_map(ResourceExt::namespace).collect();
    Ok(Surroundings {
        architectures: counted(nodes.iter().flatten().filter_map(architecture)),
        pod_security: counted(namespaces.iter().filter_map(|one| one.labels().get(POD_SECURITY).cloned())),
        namespaces: namespaces.len(),
        injected: injected.count(),
        ambient: namespaces.iter().filter(|one| has(one, DATAPLANE, "ambient")).map(ResourceExt::name_any).collect(),
        quotas: quotas.into_iter().collect(),
        cni: agents.is_some_and(|agents| !agents.is_empty()),
        taken: taken.map(ResourceExt::name_any).collect(),
    })
}

fn architecture(node: &Node) -> Option<String> {
    Some(node.status.as_ref()?.node_info.as_ref()?.architecture.clone())
}

fn counted(values: impl Iterator<Item = String>) -> BTreeMap<String, usize> {
    let mut counted = BTreeMap::new();
    for value in values {
        *counted.entry(value).or_default() += 1;
    }
    counted
}
