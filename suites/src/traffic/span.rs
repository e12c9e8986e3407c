//! Services that span two clusters: a server in each, and a caller beside it, each side in a region of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Patch, PatchParams};
use meshproof::istio::{await_services, eastwest_gateway, endpoints, outbound_name, sni_of};
use meshproof::probe::{self, Protocol};
use meshproof::record::HostPort;
use meshproof::scope::{ProbePlan, deploy_probes};
use meshproof::{Cluster, Error, Result, Scope, Seen, Workload, cluster, eventually};
use serde_json::{Value, json};

use super::arena::{Place, await_answers, await_marks, mark, own_objects, service};

/// Label of the servers, with the number of their side.
const SIDE: &str = "side";

/// Label of all servers.
const GROUP: &str = "group";

/// Name of the servers' workloads.
const SERVER: &str = "server";

/// Istio takes the locality of a pod from this label, before that of its node.
const LOCALITY: &str = "istio-locality";

/// Longest wait for pods to go or to come, and for proxies to learn it.
const CHANGED: Duration = Duration::from_secs(60);

/// The part of the servers that a service has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Servers {
    /// Those of all sides.
    All,
    /// That of one side, by its index.
    Of(usize),
}

impl Servers {
    fn include(self, index: usize) -> bool {
        self == Self::All || self == Self::Of(index)
    }
}

/// A service, and the policy for connections to it, if there is one.
pub(crate) struct Spanning {
    pub(crate) name: String,
    pub(crate) servers: Servers,
    pub(crate) policy: Option<Value>,
}

/// A cluster's server and caller.
pub(crate) struct Side {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) server: Workload,
    pub(crate) caller: Workload,
    pub(crate) index: usize,
}

/// The services and their sides.
pub(crate) struct Span {
    pub(crate) place: Place,
    pub(crate) sides: Vec<Side>,
    port: u16,
}

/// The region of a side.
pub(crate) fn region(index: usize) -> String {
    format!("region{index}")
}

impl Span {
    /// Makes the services in the first two clusters with the ports of these protocols, HTTP/1.1 among them, and waits until
    /// each caller knows them. `extra` makes further objects for the side with an index.
    pub(crate) async fn make(
        scope: &Scope,
        purpose: &str,
        protocols: &[Protocol],
        services: Vec<Spanning>,
        extra: impl Fn(&Place, usize) -> Vec<Value>,
    ) -> Result<Self> {
        let clusters = scope.testbed.clusters.get(..2).ok_or_else(|| Error::suite("the mesh has no two clusters"))?;
        let common = Place::make(scope, clusters, purpose).await?;
        let making = clusters.iter().enumerate().map(async |(index, cluster)| {
            let place = common.of(cluster);
            let mut objects = own_objects(cluster, &place)?;
            for spanning in &services {
                objects.extend(spanning.objects(cluster, &place, protocols)?);
            }
            objects.extend(extra(&place, index));
            scope.apply_all(cluster, objects).await?;
            let pods = deploy_probes(scope, cluster, &place.namespace, &plans(index)).await?;
            let [server, caller] = <[Workload; 2]>::try_from(pods).map_err(|_| Error::suite("a pod is missing"))?;
            Ok::<_, Error>(Side { cluster: Arc::clone(cluster), server, caller, index })
        });
        let sides = try_join_all(making).await?;
        let span = Self { place: common, sides, port: probe::port(&clusters[0], Protocol::Http1)? };
        span.await_known(&services).await?;
        Ok(span)
    }

    async fn await_known(&self, services: &[Spanning]) -> Result<()> {
        let names: BTreeSet<String> =
            services.iter().map(|one| outbound_name(self.port, &self.place.host(&one.name))).collect();
        let marks = || {
            let ruled = services.iter().filter(|one| one.policy.is_some());
            ruled.map(|one| mark(&self.place.namespace, "destination-rule", &one.name)).collect()
        };
        let waiting = self.sides.iter().map(async |side| {
            await_services(&side.caller, &names).await?;
            await_marks(&side.caller, "dynamic_active_clusters", marks()).await?;
            for spanning in services.iter().filter(|one| one.servers == Servers::All) {
                self.await_endpoints(side, &spanning.name, self.sides.len()).await?;
            }
            Ok::<_, Error>(())
        });
        try_join_all(waiting).await?;
        // Gateways, too, must know what callers know.
        let at_gateways = self.sides.iter().map(async |side| {
            if side.cluster.record().gateways.eastwest.is_some() {
                let gateway = eastwest_gateway(&side.cluster).await?;
                let here = services.iter().filter(|one| one.servers.include(side.index));
                let names = here.map(|one| sni_of(self.port, &self.place.host(&one.name))).collect();
                await_services(&gateway, &names).await?;
            }
            Ok::<_, Error>(())
        });
        try_join_all(at_gateways).await?;
        let free = services.iter().filter(|one| one.policy.is_none());
        let free: Vec<HostPort> = free.map(|one| HostPort::new(self.place.host(&one.name), self.port)).collect();
        try_join_all(self.sides.iter().map(|side| await_answers(&side.caller, &free))).await.map(drop)
    }

    /// Waits until the caller's proxy knows this number of healthy endpoints of a service.
    async fn await_endpoints(&self, side: &Side, service: &str, count: usize) -> Result<()> {
        let name = outbound_name(self.port, &self.place.host(service));
        let want = format!("the proxy of {} to know {count} endpoints of {service}", side.caller);
        Ok(eventually(want, CHANGED, async || {
            let known = endpoints(&side.caller).await?;
            let known: Vec<_> = known.iter().filter(|one| one.upstream_cluster == name && one.healthy).collect();
            let seen = || Seen::NotYet(format!("{known:?}"));
            Ok::<_, cluster::Error>(if known.len() == count { Seen::Yes(()) } else { seen() })
        })
        .await?)
    }

    /// Removes the server of a side, or brings it back, and waits until its caller's proxy knows for each of these
    /// services. A server that is back is another pod.
    pub(crate) async fn set_server(&mut self, index: usize, is_there: bool, services: &[&str]) -> Result<()> {
        let (side, namespace) = (&self.sides[index], &self.place.namespace);
        let deployments = side.cluster.api::<Deployment>(namespace);
        let patch = json!({ "spec": { "replicas": i32::from(is_there) } });
        let scaled = deployments.patch(SERVER, &PatchParams::default(), &Patch::Merge(patch)).await;
        scaled.map_err(side.cluster.failed(format!("scale deployment {namespace}/{SERVER}")))?;
        let selector = format!("app={SERVER}");
        if is_there {
            let found = Workload::await_ready(&side.cluster, namespace, &selector, CHANGED).await?;
            self.sides[index].server = found;
        } else {
            side.cluster.no_pods(namespace, &selector, CHANGED).await?;
        }
        let (side, count) = (&self.sides[index], self.sides.len() - usize::from(!is_there));
        let waiting = services.iter().map(|service| self.await_endpoints(side, service, count));
        try_join_all(waiting).await.map(drop)
    }

    /// The port of HTTP/1.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The side that is not this.
    pub(crate) fn other(&self, index: usize) -> &Side {
        &self.sides[1 - index]
    }
}

impl Spanning {
    /// A service of all servers.
    pub(crate) fn of_all(name: &str, policy: Option<Value>) -> Self {
        Self { name: name.into(), servers: Servers::All, policy }
    }

    fn objects(&self, owner: &Cluster, place: &Place, protocols: &[Protocol]) -> Result<Vec<Value>> {
        let selector = match self.servers {
            Servers::All => json!({ GROUP: "servers" }),
            Servers::Of(index) => json!({ SIDE: index.to_string() }),
        };
        let mut objects = vec![service(owner, place, protocols, &self.name, selector)?];
        objects.extend(self.policy.as_ref().map(|policy| {
            // Of the callers alone: a gateway would hold the connections of all callers against the same limits, and reset
            // those beyond.
            let spec = json!({ "host": place.host(&self.name), "exportTo": ["."], "trafficPolicy": policy });
            place.object("DestinationRule", &self.name, spec)
        }));
        Ok(objects)
    }
}

/// The server and the caller of a side.
fn plans(index: usize) -> [ProbePlan; 2] {
    let locality = (LOCALITY.to_owned(), format!("{}.zone.rack", region(index)));
    let labels = [(GROUP, "servers".to_owned()), (SIDE, index.to_string())];
    let labels = labels.map(|(key, value)| (key.to_owned(), value));
    // Proxies leave these counters out otherwise.
    let counters = json!({ "proxyStatsMatcher": { "inclusionRegexps": [".*upstream_rq_pending_overflow.*"] } });
    let annotations = BTreeMap::from([("proxy.istio.io/config".to_owned(), counters.to_string())]);
    [
        ProbePlan {
            name: SERVER.into(),
            labels: labels.into_iter().chain([locality.clone()]).collect(),
            ..ProbePlan::default()
        },
        ProbePlan { name: "caller".into(), labels: BTreeMap::from([locality]), annotations, ..ProbePlan::default() },
    ]
}
