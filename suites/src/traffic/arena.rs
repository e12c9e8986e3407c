//! Two servers of a test's own in one cluster, services with rules about them, and the callers in all clusters.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use meshproof::istio::{await_services, eastwest_gateway, evidence_log, exposed, outbound_name};
use meshproof::probe::{self, Dial, Protocol, Vantage, dial, evidence_label};
use meshproof::record::{HostPort, Requirement, Write};
use meshproof::report::Claim;
use meshproof::scope::{ProbePlan, deploy_probes};
use meshproof::{Cluster, Error, Result, Scope, Seen, Workload, cluster, eventually};
use serde_json::{Value, json};

/// Name of the suite.
pub(crate) const SUITE: &str = "traffic";

/// What every test of the suite requires.
pub(crate) const REQUIRED: [Requirement; 3] =
    [Requirement::Probes, Requirement::AccessLog, Requirement::Write(Write::Namespaces)];

/// Names of the servers, and of the subsets that are one server each. A service of the same name leads to each.
pub(crate) const SERVERS: [&str; 2] = ["one", "two"];

/// A service without rules: the control of every rule.
pub(crate) const PLAIN: &str = "plain";

/// Label of a server with its name.
const VERSION: &str = "version";

/// Label of all servers.
const GROUP: &str = "group";

/// Calls to each place that must be answered before the test begins.
const FIRST: usize = 8;

/// Longest wait for a proxy to receive the rules.
const CONFIGURED: Duration = Duration::from_secs(30);

/// Where the services are.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) namespace: String,
    pub(crate) domain: String,
}

impl Place {
    /// A namespace of one name in each of these clusters, with sidecars.
    pub(crate) async fn make(scope: &Scope, clusters: &[Arc<Cluster>], purpose: &str) -> Result<Self> {
        let first = clusters.first().ok_or_else(|| Error::suite("the mesh has no cluster"))?;
        let made = try_join_all(clusters.iter().map(|cluster| scope.injected_namespace(cluster, purpose))).await?;
        let namespace = made.into_iter().next().unwrap_or_default();
        Ok(Self { namespace, domain: first.record().domain.clone() })
    }

    /// The namespace in one of the clusters.
    pub(crate) fn of(&self, cluster: &Cluster) -> Self {
        Self { namespace: self.namespace.clone(), domain: cluster.record().domain.clone() }
    }

    /// The full name of a service.
    pub(crate) fn host(&self, service: &str) -> String {
        format!("{service}.{}.svc.{}", self.namespace, self.domain)
    }

    /// An object of Istio's networking API.
    pub(crate) fn object(&self, kind: &str, name: &str, spec: Value) -> Value {
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": kind,
            "metadata": { "name": name, "namespace": self.namespace }, "spec": spec,
        })
    }

    /// Routes for requests to a service.
    pub(crate) fn routes(&self, service: &str, http: Value) -> Value {
        self.object("VirtualService", service, json!({ "hosts": [self.host(service)], "http": http }))
    }

    /// The servers of a service as subsets, and a policy for connections.
    pub(crate) fn policy(&self, service: &str, policy: Option<Value>) -> Value {
        let subsets = SERVERS.map(|name| json!({ "name": name, "labels": { VERSION: name } }));
        let mut spec = json!({ "host": self.host(service), "subsets": subsets });
        // Istio refuses an empty policy.
        if let Some(policy) = policy {
            spec["trafficPolicy"] = policy;
        }
        self.object("DestinationRule", service, spec)
    }

    /// A destination of a route: one server of a service.
    pub(crate) fn subset(&self, service: &str, subset: &str) -> Value {
        json!({ "host": self.host(service), "subset": subset })
    }
}

/// A service of both servers, with its rules.
pub(crate) struct Service {
    pub(crate) name: &'static str,
    /// `VirtualService` and `DestinationRule`, each of the service's name.
    pub(crate) rules: Vec<Value>,
}

impl Service {
    /// A service whose requests take these routes.
    pub(crate) fn routed(place: &Place, name: &'static str, http: Value) -> Self {
        Self { name, rules: vec![place.policy(name, None), place.routes(name, http)] }
    }

    /// The service without rules. Each request has a connection of its own: behind an east-west gateway, a connection
    /// stays with one server.
    pub(crate) fn plain(place: &Place) -> Self {
        let policy = json!({ "connectionPool": { "http": { "maxRequestsPerConnection": 1 } } });
        Self { name: PLAIN, rules: vec![place.policy(PLAIN, Some(policy))] }
    }

    fn has(&self, kind: &str) -> bool {
        self.rules.iter().any(|rule| rule["kind"] == kind)
    }
}

/// The servers in one cluster, and their callers.
pub(crate) struct Arena {
    pub(crate) owner: Arc<Cluster>,
    pub(crate) place: Place,
    pub(crate) servers: [Workload; 2],
    /// A caller in each cluster, in a namespace of its own.
    pub(crate) callers: Vec<Workload>,
}

impl Arena {
    /// Makes an arena in each cluster, and waits until each caller knows its services and rules. Services have the ports of
    /// these protocols, HTTP/1.1 among them.
    pub(crate) async fn all(
        scope: &Scope,
        purpose: &str,
        protocols: &[Protocol],
        services: impl Fn(&Place) -> Vec<Service>,
    ) -> Result<Vec<Self>> {
        let making = scope.testbed.clusters.iter().map(|owner| Self::make(scope, purpose, owner, protocols, &services));
        try_join_all(making).await
    }

    async fn make(
        scope: &Scope,
        purpose: &str,
        owner: &Arc<Cluster>,
        protocols: &[Protocol],
        services: &impl Fn(&Place) -> Vec<Service>,
    ) -> Result<Self> {
        // A namespace of each cluster's own, so that calls go to one cluster.
        let purpose = format!("{purpose}-{}", owner.name());
        let place = Place::make(scope, &scope.testbed.clusters, &purpose).await?.of(owner);
        let services = services(&place);
        // Gateways know a subset by the rule in their own cluster.
        let naming = scope.testbed.clusters.iter().map(async |cluster| {
            let rules = services.iter().flat_map(|service| service.rules.clone());
            let objects = kubernetes(owner, &place, protocols, &services)?.into_iter().chain(rules);
            scope.apply_all(cluster, objects.collect()).await
        });
        scope.apply_all(owner, own_objects(owner, &place)?).await?;
        let plans = SERVERS.map(plan);
        let deploying = deploy_probes(scope, owner, &place.namespace, &plans);
        let calling = try_join_all(scope.testbed.clusters.iter().map(probe::caller));
        let calling = async { Ok::<_, Error>(calling.await?) };
        let (servers, callers, _) = futures::try_join!(deploying, calling, try_join_all(naming))?;
        let servers = <[Workload; 2]>::try_from(servers).map_err(|_| Error::suite("there are not two servers"))?;
        let arena = Self { owner: Arc::clone(owner), place, servers, callers };
        arena.await_known(&services).await?;
        Ok(arena)
    }

    /// Judges the calls of each caller to each arena.
    pub(crate) async fn judge_each(
        scope: &Scope,
        arenas: &[Self],
        judge: impl AsyncFn(&Self, &Workload) -> Result<Vec<Claim>>,
    ) {
        let ways = arenas.iter().flat_map(|arena| arena.callers.iter().map(move |caller| (arena, caller)));
        let name = |(arena, caller): &(&Self, &Workload)| arena.way(caller);
        scope
            .for_each(ways, name, async |(arena, caller)| {
                let commands = arena.commands(caller);
                let claims = judge(arena, caller).await?.into_iter();
                claims.for_each(|claim| scope.claim(claim.with_commands(commands.clone())));
                Ok(())
            })
            .await;
    }

    /// The caller in the cluster of the servers.
    pub(crate) fn own_caller(&self) -> Result<&Workload> {
        let own = |caller: &&Workload| caller.cluster.name() == self.owner.name();
        self.callers.iter().find(own).ok_or_else(|| Error::suite("the servers' cluster has no caller"))
    }

    /// A name for what `caller` asks here.
    pub(crate) fn way(&self, caller: &Workload) -> String {
        format!("{}-to-{}", caller.cluster.name(), self.owner.name())
    }

    /// The port for a protocol, the same at services and servers.
    pub(crate) fn port(&self, protocol: Protocol) -> Result<u16> {
        Ok(probe::port(&self.owner, protocol)?)
    }

    /// Commands that show the rules, and what the caller's proxy makes of them.
    pub(crate) fn commands(&self, caller: &Workload) -> Vec<String> {
        let Workload { cluster, namespace, pod, .. } = caller;
        let (kubectl, istioctl) = (cluster.command("kubectl"), cluster.command("istioctl"));
        vec![
            format!("{kubectl} -n {} get virtualservices,destinationrules -o yaml", self.place.namespace),
            format!("{istioctl} proxy-config routes {pod}.{namespace} -o yaml"),
        ]
    }

    async fn await_known(&self, services: &[Service]) -> Result<()> {
        let port = self.port(Protocol::Http1)?;
        let with_subsets = |service: &&Service| service.has("DestinationRule");
        let names = |of: &dyn Fn(&str, &str) -> String| -> BTreeSet<String> {
            let own = SERVERS.iter().map(|name| of("", &self.place.host(name)));
            let plain = services.iter().map(|service| of("", &self.place.host(service.name)));
            let subsets = services
                .iter()
                .filter(with_subsets)
                .flat_map(|service| SERVERS.map(|subset| of(subset, &self.place.host(service.name))));
            own.chain(plain).chain(subsets).collect()
        };
        let at_gateway = async {
            if self.owner.record().gateways.eastwest.is_some() {
                let gateway = eastwest_gateway(&self.owner).await?;
                let of = |subset: &str, host: &str| format!("outbound_.{port}_.{subset}_.{host}");
                await_services(&gateway, &names(&of)).await?;
            }
            Ok::<_, Error>(())
        };
        let of = |subset: &str, host: &str| match subset {
            "" => outbound_name(port, host),
            subset => format!("outbound|{port}|{subset}|{host}"),
        };
        let known = names(&of);
        let at_callers = self.callers.iter().map(async |caller| {
            await_services(caller, &known).await?;
            let routed = services.iter().filter(|service| service.has("VirtualService"));
            let marks = routed.map(|service| mark(&self.place.namespace, "virtual-service", service.name));
            await_marks(caller, "dynamic_route_configs", marks.collect()).await?;
            let last = SERVERS.map(|name| HostPort::new(self.place.host(name), port));
            await_answers(caller, &last).await
        });
        futures::try_join!(at_gateway, try_join_all(at_callers))?;
        Ok(())
    }
}

/// How a proxy's configuration names the object that a part of it comes from.
pub(crate) fn mark(namespace: &str, kind: &str, name: &str) -> String {
    format!("/namespaces/{namespace}/{kind}/{name}\"")
}

/// Waits until a part of a proxy's configuration has all of these texts.
pub(crate) async fn await_marks(workload: &Workload, resource: &str, marks: Vec<String>) -> Result<()> {
    let path = format!("config_dump?resource={resource}");
    Ok(eventually(format!("{resource} of the proxy of {workload}"), CONFIGURED, async || {
        let dump = workload.proxy_admin(&path).await?;
        let missing: Vec<&str> = marks.iter().map(String::as_str).filter(|mark| !dump.contains(mark)).collect();
        let seen = if missing.is_empty() { Seen::Yes(()) } else { Seen::NotYet(format!("without {missing:?}")) };
        Ok::<_, cluster::Error>(seen)
    })
    .await?)
}

/// Waits until all of these places answer, over HTTP/1.1, and several times: on the way, a gateway may know less than the
/// caller's proxy.
pub(crate) async fn await_answers(caller: &Workload, places: &[HostPort]) -> Result<()> {
    let vantage = Vantage::Meshed(caller.clone());
    Ok(eventually(format!("{caller} to be answered"), CONFIGURED, async || {
        let of =
            |place: &HostPort| Dial { source_port: None, ..dial("first", Protocol::Http1, &place.host, place.port) };
        let dials = places.iter().flat_map(|place| (0..FIRST).map(move |_| of(place)));
        let seen = vantage.dial(dials.collect()).await?;
        let lost = seen.iter().find(|exchange| !exchange.outcome().is_answered());
        Ok::<_, cluster::Error>(match lost {
            None => Seen::Yes(()),
            Some(lost) => Seen::NotYet(format!("{}: {}", lost.destination(), lost.outcome())),
        })
    })
    .await?)
}

fn plan(name: &str) -> ProbePlan {
    let labels = [(VERSION, name), (GROUP, "servers")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    ProbePlan { name: name.into(), labels: BTreeMap::from(labels), ..ProbePlan::default() }
}

/// The services: of both servers, and of each.
fn kubernetes(owner: &Cluster, place: &Place, protocols: &[Protocol], services: &[Service]) -> Result<Vec<Value>> {
    let of_both = services.iter().map(|one| service(owner, place, protocols, one.name, json!({ GROUP: "servers" })));
    let of_one = SERVERS.iter().map(|name| service(owner, place, &[Protocol::Http1], name, json!({ VERSION: name })));
    of_both.chain(of_one).collect()
}

/// A service with the probes' ports for these protocols, and no other: each port is a part of the configuration that every
/// proxy of the mesh receives.
pub(crate) fn service(
    owner: &Cluster,
    place: &Place,
    protocols: &[Protocol],
    name: &str,
    selector: Value,
) -> Result<Value> {
    let wanted: Vec<u16> = protocols.iter().map(|protocol| probe::port(owner, *protocol)).collect::<Result<_, _>>()?;
    let ports = probe::declared(owner)?.ports.named().into_iter().filter(|(_, port)| wanted.contains(port));
    let ports: Vec<Value> = ports.map(|(name, port)| json!({ "name": name, "port": port })).collect();
    Ok(json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": name, "namespace": place.namespace },
        "spec": { "selector": selector, "ports": ports },
    }))
}

/// What makes arrivals visible, and lets other networks in.
pub(crate) fn own_objects(owner: &Cluster, place: &Place) -> Result<Vec<Value>> {
    let record = owner.record();
    let log = record.declared("the proxies' access log", record.istio.access_log.as_ref())?;
    let mut objects = vec![evidence_log(log, "meshproof-evidence", &place.namespace, &evidence_label())];
    let gateway = record.gateways.eastwest.as_ref();
    objects.extend(gateway.and_then(|gateway| exposed(gateway, &place.namespace, &record.domain)));
    Ok(objects)
}
