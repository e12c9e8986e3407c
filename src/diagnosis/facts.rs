//! What a diagnosis reads: objects of the clusters, what istiods see, and what proxies are configured to do.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;

use futures::future::join_all;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Pod, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use kube::api::{Api, DynamicObject, ListParams};
use kube::core::NamespaceResourceScope;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;

use crate::cluster::{Cluster, Workload, brief, has_container, is_ready};
use crate::istio::{self, Endpoint, Listening, ProxySecrets, Upstream};
use crate::policy::Policies;
use crate::record::Gateway;
use crate::report::Place;

/// Most requests at once.
const AT_ONCE: usize = 16;

/// Annotation of a remote secret with the name of its cluster.
const REMOTE_CLUSTER: &str = "networking.istio.io/cluster";

/// Something that was asked: the answer, or why there is none. What is unknown is never taken for a fault.
pub(super) type Answer<T> = Result<T, String>;

/// The facts of one cluster.
#[derive(Debug)]
pub(super) struct ClusterFacts {
    pub(super) cluster: Arc<Cluster>,
    pub(super) namespaces: BTreeMap<String, Namespace>,
    pub(super) services: Vec<Service>,
    pub(super) slices: Vec<EndpointSlice>,
    pub(super) pods: Vec<Pod>,
    pub(super) deployments: Vec<Deployment>,
    /// Remote secrets: the name of the cluster, and the Secret's name.
    pub(super) remote_secrets: Answer<BTreeMap<String, String>>,
    /// The clusters that istiod sees, with their status.
    pub(super) seen: Answer<BTreeMap<String, String>>,
    pub(super) policies: Policies,
    pub(super) sidecars: Vec<DynamicObject>,
    pub(super) gateways: Answer<Vec<DynamicObject>>,
}

/// What one proxy says.
#[derive(Debug)]
pub(super) struct ProxyFacts {
    pub(super) endpoints: Answer<Vec<Endpoint>>,
    pub(super) upstreams: BTreeMap<(String, u16), Answer<Option<Upstream>>>,
    pub(super) listeners: Answer<Vec<Listening>>,
    pub(super) secrets: Answer<ProxySecrets>,
}

/// What a proxy is asked.
#[derive(Debug, Clone, Default)]
pub(super) struct Questions {
    /// Whether it is a gateway, or else a workload's.
    pub(super) is_gateway: bool,
    /// Services that the workload calls.
    pub(super) calls: BTreeSet<(String, u16)>,
}

/// Reads with a bound on the requests at once.
pub(super) struct Reader {
    limit: Semaphore,
}

impl Reader {
    pub(super) fn new() -> Self {
        Self { limit: Semaphore::new(AT_ONCE) }
    }

    async fn ask<T, E: ToString>(&self, asking: impl Future<Output = Result<T, E>>) -> Answer<T> {
        let _permit = self.limit.acquire().await.map_err(|error| error.to_string())?;
        asking.await.map_err(|error| error.to_string())
    }

    /// The objects of a kind in all of these namespaces. An error is never an empty list.
    async fn list<K>(&self, cluster: &Cluster, namespaces: &BTreeSet<String>) -> Answer<Vec<K>>
    where
        K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let listing = namespaces.iter().map(async |namespace| {
            let api = cluster.api::<K>(namespace);
            self.ask(async { api.list(&ListParams::default()).await.map_err(|error| brief(&error)) }).await
        });
        let listed: Answer<Vec<_>> = join_all(listing).await.into_iter().collect();
        Ok(listed?.into_iter().flatten().collect())
    }

    /// Reads a cluster, as far as these namespaces need it.
    ///
    /// # Errors
    /// What every layer rests on cannot be read.
    pub(super) async fn cluster(&self, cluster: &Arc<Cluster>, namespaces: &BTreeSet<String>) -> Answer<ClusterFacts> {
        let all = Api::<Namespace>::all(cluster.client());
        let labels = join_all(namespaces.iter().map(async |name| {
            let found = self.ask(async { all.get_opt(name).await.map_err(|error| brief(&error)) }).await;
            Some((name.clone(), found.ok().flatten()?))
        }));
        let networking = "networking.istio.io";
        let (found, services, slices, pods, deployments) = futures::join!(
            labels,
            self.list(cluster, namespaces),
            self.list(cluster, namespaces),
            self.list(cluster, namespaces),
            self.list(cluster, namespaces),
        );
        let (remote_secrets, seen, policies, sidecars, gateways) = futures::join!(
            self.remote_secrets(cluster),
            self.ask(istio::seen_by_istiod(cluster)),
            self.ask(async { Ok::<_, String>(istio::peer_authentications(cluster).await) }),
            self.ask(cluster.list(networking, "Sidecar")),
            self.ask(cluster.list(networking, "Gateway")),
        );
        Ok(ClusterFacts {
            cluster: Arc::clone(cluster),
            namespaces: found.into_iter().flatten().collect(),
            services: services?,
            slices: slices?,
            pods: pods?,
            deployments: deployments.unwrap_or_default(),
            remote_secrets,
            seen,
            policies: policies.unwrap_or_else(|reason| Policies::Unknown { reason }),
            sidecars: sidecars.unwrap_or_default(),
            gateways,
        })
    }

    /// Only the metadata of secrets is read: they are keys to other clusters.
    async fn remote_secrets(&self, cluster: &Cluster) -> Answer<BTreeMap<String, String>> {
        let api = cluster.api::<Secret>(&cluster.record().istio.namespace);
        let which = ListParams::default().labels(&format!("{}=true", istio::MULTI_CLUSTER));
        let listed = self.ask(async { api.list_metadata(&which).await.map_err(|error| brief(&error)) }).await?;
        let of = |secret: &kube::api::PartialObjectMeta<Secret>| {
            let name = secret.name_any();
            let annotated = secret.annotations().get(REMOTE_CLUSTER).cloned();
            (annotated.unwrap_or_else(|| name.trim_start_matches("istio-remote-secret-").to_owned()), name)
        };
        Ok(listed.items.iter().map(of).collect())
    }

    /// Asks a proxy.
    pub(super) async fn proxy(&self, workload: &Workload, questions: &Questions) -> ProxyFacts {
        let asking = questions
            .calls
            .iter()
            .map(async |(host, port)| ((host.clone(), *port), self.ask(istio::upstream(workload, *port, host)).await));
        let listeners = async {
            match questions.is_gateway {
                true => self.ask(istio::listeners(workload)).await,
                false => self.ask(istio::inbound_listeners(workload)).await,
            }
        };
        let endpoints = async {
            if questions.calls.is_empty() { Ok(Vec::new()) } else { self.ask(istio::endpoints(workload)).await }
        };
        let (upstreams, listeners, endpoints, secrets) =
            futures::join!(join_all(asking), listeners, endpoints, self.ask(istio::secrets(workload)));
        ProxyFacts { endpoints, upstreams: upstreams.into_iter().collect(), listeners, secrets }
    }
}

impl ClusterFacts {
    /// The pod of this name.
    pub(super) fn pod(&self, place: &Place) -> Option<&Pod> {
        let is = |pod: &&Pod| pod.name_any() == place.pod && pod.namespace().as_ref() == Some(&place.namespace);
        self.pods.iter().find(is)
    }

    /// The Service of this name.
    pub(super) fn service(&self, namespace: &str, name: &str) -> Option<&Service> {
        let is = |service: &&Service| service.name_any() == name && service.namespace().as_deref() == Some(namespace);
        self.services.iter().find(is)
    }

    /// The pods of a namespace that a selector of `KEY=VALUE`s selects.
    pub(super) fn selected<'a>(&'a self, namespace: &'a str, selector: &'a str) -> impl Iterator<Item = &'a Pod> {
        let of_namespace = self.pods.iter().filter(move |pod| pod.namespace().as_deref() == Some(namespace));
        of_namespace.filter(move |pod| {
            selector.split(',').filter_map(|one| one.split_once('=')).all(|(key, value)| {
                pod.labels().get(key.trim()).is_some_and(|found| found == value.trim_start_matches('=').trim())
            })
        })
    }

    /// Whether a pod has a proxy of the mesh.
    pub(super) fn has_proxy(&self, pod: &Pod) -> bool {
        has_container(pod, &self.cluster.record().istio.proxy.container)
    }

    /// The ready pods of a gateway.
    pub(super) fn ready_pods_of(&self, gateway: &Gateway) -> Vec<Place> {
        let pods = self.selected(&gateway.namespace, &gateway.selector).filter(|pod| is_ready(pod));
        let (cluster, namespace) = (self.cluster.name(), &gateway.namespace);
        pods.map(|pod| Place { cluster: cluster.into(), namespace: namespace.clone(), pod: pod.name_any() }).collect()
    }

    /// A command line of kubectl for this cluster.
    pub(super) fn kubectl(&self, rest: impl std::fmt::Display) -> String {
        format!("{} {rest}", self.cluster.command("kubectl"))
    }

    /// A command line of istioctl for this cluster.
    pub(super) fn istioctl(&self, rest: impl std::fmt::Display) -> String {
        format!("{} {rest}", self.cluster.command("istioctl"))
    }
}

/// The Deployment that a pod belongs to, or else the pod, as `KIND NAMESPACE/NAME`: the object that somebody edits.
pub(super) fn owner(pod: &Pod) -> String {
    let namespace = pod.namespace().unwrap_or_default();
    let owner = pod.owner_references().iter().find(|owner| owner.controller == Some(true));
    let hash = pod.labels().get("pod-template-hash").map(|hash| format!("-{hash}"));
    match owner {
        Some(owner) if owner.kind == "ReplicaSet" => {
            match hash.and_then(|hash| owner.name.strip_suffix(&hash).map(str::to_owned)) {
                Some(name) => format!("Deployment {namespace}/{name}"),
                None => format!("ReplicaSet {namespace}/{}", owner.name),
            }
        }
        Some(owner) if owner.kind != "Node" => format!("{} {namespace}/{}", owner.kind, owner.name),
        _ => format!("Pod {namespace}/{}", pod.name_any()),
    }
}
