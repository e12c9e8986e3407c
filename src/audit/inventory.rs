//! What runs in a cluster: namespaces, pods, the ports that Services target, and the policies that explain a verdict.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Pod as PodObject, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::{Api, ListParams};
use kube::core::NamespaceResourceScope;
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::Result;
use super::pod::{Pod, Port, PortKey, Transport};
use crate::cluster::{Cluster, code, pages};
use crate::istio;
use crate::policy::{Configuration, DestinationRule, Policies};

/// Namespaces of Kubernetes itself.
const KUBERNETES: &[&str] = &["kube-system", "kube-public", "kube-node-lease", "local-path-storage"];

/// What runs in a cluster.
#[derive(Debug, Clone)]
pub struct Inventory {
    /// The cluster.
    pub cluster: Arc<Cluster>,
    /// Namespaces, by name.
    pub namespaces: BTreeMap<String, NamespaceFacts>,
    /// Pods.
    pub pods: Vec<Pod>,
    /// Services.
    pub services: Vec<ServiceFacts>,
    /// `PeerAuthentication`s.
    pub policies: Policies,
    /// `DestinationRule`s, as far as they can be read.
    pub rules: Vec<DestinationRule>,
    /// Policies of the network that restrict who may reach a pod.
    pub network_policies: Vec<Restriction>,
}

/// A namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NamespaceFacts {
    /// Labels. `None` if they could not be read.
    pub labels: Option<BTreeMap<String, String>>,
    /// Whether it is being removed.
    pub terminating: bool,
}

/// A service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceFacts {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Whether it has no address of its own.
    pub headless: bool,
    /// Ports.
    pub ports: Vec<ServicePort>,
    /// Whether any endpoint is ready in this cluster.
    pub has_endpoints: bool,
}

/// A port of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// Number and transport.
    pub key: PortKey,
    /// The name, and the application protocol, as Istio reads them.
    pub names: Port,
}

/// A `NetworkPolicy` that restricts ingress.
#[derive(Debug, Clone)]
pub struct Restriction {
    namespace: String,
    name: String,
    selector: LabelSelector,
}

impl Restriction {
    /// Whether the policy may select the pod. An expression that is not understood may.
    fn may_select(&self, pod: &Pod) -> bool {
        let labels = self.selector.match_labels.iter().flatten();
        self.namespace == pod.namespace && labels.into_iter().all(|(key, value)| pod.labels.get(key) == Some(value))
    }
}

impl Inventory {
    /// Reads a cluster. An empty list of namespaces means all.
    ///
    /// # Errors
    /// [`cluster::Error::Api`](crate::cluster::Error::Api): something cannot be listed. Policies that cannot be listed
    /// are [unknown](Policies::Unknown), and are not an error.
    pub async fn read(cluster: &Arc<Cluster>, only: &[String]) -> Result<Self> {
        let namespaces = namespaces(cluster, only).await?;
        let only: Vec<String> = only.iter().filter(|name| namespaces.contains_key(*name)).cloned().collect();
        if namespaces.is_empty() {
            return Ok(Self::nothing(cluster));
        }
        let istio = &cluster.record().istio;
        let labels = |namespace: &str| namespaces.get(namespace).and_then(|facts| facts.labels.as_ref());
        let pod = |pod: PodObject| Some(Pod::of(&pod, labels(&pod.namespace().unwrap_or_default()), istio));
        let (mut pods, mut services, slices, configuration, network_policies) = futures::try_join!(
            list(cluster, "pods", &only, pod),
            list(cluster, "services", &only, |service| Some(service_facts(&service))),
            list(cluster, "endpoint slices", &only, Some),
            async { Ok(istio::configuration(cluster).await) },
            restrictions(cluster, &only),
        )?;
        target(&mut pods, &mut services, &slices);
        let Configuration { policies, rules, .. } = configuration;
        let cluster = Arc::clone(cluster);
        Ok(Self { cluster, namespaces, pods, services, policies, rules, network_policies })
    }

    /// A cluster that has none of the namespaces.
    fn nothing(cluster: &Arc<Cluster>) -> Self {
        Self {
            cluster: Arc::clone(cluster),
            namespaces: BTreeMap::new(),
            pods: Vec::new(),
            services: Vec::new(),
            policies: Policies::Unknown { reason: "nothing was read".into() },
            rules: Vec::new(),
            network_policies: Vec::new(),
        }
    }

    /// Whether a namespace is being removed here.
    pub(super) fn is_ending(&self, namespace: &str) -> bool {
        self.namespaces.get(namespace).is_some_and(|namespace| namespace.terminating)
    }

    /// Whether a namespace is Kubernetes' own, or Istio's.
    pub fn is_system(&self, namespace: &str) -> bool {
        KUBERNETES.contains(&namespace) || namespace == self.cluster.record().istio.namespace
    }

    /// The policies of the network that may keep a prober from the pod.
    pub fn restrictions(&self, pod: &Pod) -> Vec<String> {
        let selecting = self.network_policies.iter().filter(|one| one.may_select(pod));
        selecting.map(|one| format!("{}/{}", one.namespace, one.name)).collect()
    }
}

/// The namespaces to judge. Without the right to read a namespace, its labels are unknown.
async fn namespaces(cluster: &Arc<Cluster>, only: &[String]) -> Result<BTreeMap<String, NamespaceFacts>> {
    let api: Api<Namespace> = Api::all(cluster.client());
    let facts = |namespace: &Namespace| NamespaceFacts {
        labels: Some(namespace.labels().clone()),
        terminating: namespace.metadata.deletion_timestamp.is_some(),
    };
    if only.is_empty() {
        let listed = api.list(&ListParams::default()).await.map_err(cluster.failed("list the namespaces"))?;
        return Ok(listed.items.iter().map(|namespace| (namespace.name_any(), facts(namespace))).collect());
    }
    let mut found = BTreeMap::new();
    for name in only {
        match api.get_opt(name).await {
            Ok(Some(namespace)) => drop(found.insert(name.clone(), facts(&namespace))),
            Ok(None) => {}
            Err(error) if code(&error) == Some(403) => {
                found.insert(name.clone(), NamespaceFacts::default());
            }
            Err(error) => return Err(cluster.failed(format!("read namespace {name}"))(error).into()),
        }
    }
    Ok(found)
}

/// Lists the objects of a kind in pieces, and keeps of each what `reduce` makes of it.
async fn list<K, T>(
    cluster: &Arc<Cluster>,
    what: &str,
    namespaces: &[String],
    reduce: impl Fn(K) -> Option<T>,
) -> Result<Vec<T>>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let apis: Vec<(Api<K>, String)> = match namespaces {
        [] => vec![(Api::all(cluster.client()), format!("list all {what}"))],
        some => some.iter().map(|name| (cluster.api(name), format!("list the {what} of {name}"))).collect(),
    };
    let mut kept = Vec::new();
    for (api, doing) in apis {
        let listed = pages(&api, &ListParams::default(), &reduce).await;
        kept.extend(listed.map_err(cluster.failed(doing))?);
    }
    Ok(kept)
}

fn service_facts(service: &Service) -> ServiceFacts {
    let spec = service.spec.clone().unwrap_or_default();
    let ports = spec.ports.unwrap_or_default().into_iter().filter_map(|port| {
        let number = u16::try_from(port.port).ok()?;
        let names = port.name.into_iter().chain(port.app_protocol).collect();
        let key = PortKey { number, transport: Transport::of(port.protocol.as_deref()) };
        Some(ServicePort { key, names: Port { names, ..Port::default() } })
    });
    ServiceFacts {
        namespace: service.namespace().unwrap_or_default(),
        name: service.name_any(),
        headless: spec.cluster_ip.as_deref() == Some("None"),
        ports: ports.collect(),
        has_endpoints: false,
    }
}

/// Adds to each pod the ports that Services target, by the endpoint slices, in which every port has its number.
fn target(pods: &mut [Pod], services: &mut [ServiceFacts], slices: &[EndpointSlice]) {
    let index = |pod: (usize, &Pod)| ((pod.1.namespace.clone(), pod.1.name.clone()), pod.0);
    let by_name: BTreeMap<(String, String), usize> = pods.iter().enumerate().map(index).collect();
    let mut served: BTreeSet<(String, String)> = BTreeSet::new();
    for slice in slices {
        let namespace = slice.namespace().unwrap_or_default();
        let Some(service) = slice.labels().get("kubernetes.io/service-name") else { continue };
        for endpoint in &slice.endpoints {
            let ready = endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true);
            if ready {
                served.insert((namespace.clone(), service.clone()));
            }
            let Some(name) = endpoint.target_ref.as_ref().and_then(|target| target.name.clone()) else { continue };
            let Some(&at) = by_name.get(&(namespace.clone(), name)) else { continue };
            for port in slice.ports.iter().flatten() {
                let Some(number) = port.port.and_then(|number| u16::try_from(number).ok()) else { continue };
                let key = PortKey { number, transport: Transport::of(port.protocol.as_deref()) };
                let targeted = pods[at].ports.entry(key).or_default();
                targeted
                    .names
                    .extend(port.name.iter().chain(&port.app_protocol).filter(|one| !one.is_empty()).cloned());
                targeted.services.insert(service.clone());
            }
        }
    }
    for service in services {
        service.has_endpoints = served.contains(&(service.namespace.clone(), service.name.clone()));
    }
}

/// The policies that restrict ingress. They only explain, so a cluster that does not show them has none to show.
async fn restrictions(cluster: &Arc<Cluster>, only: &[String]) -> Result<Vec<Restriction>> {
    let restriction = |policy: NetworkPolicy| {
        let (namespace, name) = (policy.namespace().unwrap_or_default(), policy.name_any());
        let spec = policy.spec?;
        let restricts = spec.policy_types.is_none_or(|types| types.iter().any(|one| one == "Ingress"));
        restricts.then(|| Restriction { namespace, name, selector: spec.pod_selector.unwrap_or_default() })
    };
    Ok(list(cluster, "network policies", only, restriction).await.unwrap_or_default())
}

#[cfg(test)]
mod tests;
