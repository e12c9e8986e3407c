//! Namespaces with a server in each cluster, and callers beside it whose proxies know more or less of the mesh.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future::try_join_all;
use meshproof::istio::{await_services, outbound_name, strict};
use meshproof::probe::{self, Protocol};
use meshproof::record::{Gateway, HostPort, Label};
use meshproof::scope::{ProbePlan, deploy_probes};
use meshproof::{Cluster, Error, Result, Scope, Workload};
use serde_json::{Map, Value, json};

use super::arena::{Place, await_answers, await_marks, mark, own_objects, service};

/// Label of a server with the index of its cluster.
const OWNER: &str = "owner";

/// A host that no cluster knows but by a `ServiceEntry`: the naked probe of the caller's own cluster.
pub(crate) const LEDGER: &str = "ledger.meshproof.test";

/// Status with which the routes of [`Kind::InnerRoute`] and [`Kind::OuterRoute`] answer.
pub(crate) const TEAPOT: u16 = 418;

/// Services of each owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// In the scope of every caller.
    Known,
    /// Not in the scope of [`Side::scoped`].
    Unknown,
    /// Exported to its own namespace only.
    Private,
    /// With a route that aborts, exported to its own namespace only.
    InnerRoute,
    /// With a route that aborts, exported to all.
    OuterRoute,
    /// With plaintext by rule, exported to its own namespace only.
    InnerRule,
    /// With plaintext by rule, exported to all.
    OuterRule,
}

impl Kind {
    const ALL: [Self; 7] = [
        Self::Known,
        Self::Unknown,
        Self::Private,
        Self::InnerRoute,
        Self::OuterRoute,
        Self::InnerRule,
        Self::OuterRule,
    ];

    /// Name of the service of this kind of an owner, by index.
    pub(crate) fn of(self, owner: usize) -> String {
        let kind = match self {
            Self::Known => "known",
            Self::Unknown => "unknown",
            Self::Private => "private",
            Self::InnerRoute => "inner-route",
            Self::OuterRoute => "outer-route",
            Self::InnerRule => "inner-rule",
            Self::OuterRule => "outer-rule",
        };
        format!("{kind}-{owner}")
    }

    /// What is special about the service: its export, or a rule.
    fn objects(self, owner: usize, cluster: &Cluster, place: &Place) -> Result<Vec<Value>> {
        let name = self.of(owner);
        let mut service = service(cluster, place, &[Protocol::Http1], &name, json!({ OWNER: owner.to_string() }))?;
        let host = place.host(&name);
        let route = |export: &str| {
            let abort = json!({ "abort": { "httpStatus": TEAPOT, "percentage": { "value": 100 } } });
            let route = json!([{ "fault": abort, "route": [{ "destination": { "host": host } }] }]);
            place.object("VirtualService", &name, json!({ "hosts": [host], "exportTo": [export], "http": route }))
        };
        let rule = |export: &str| {
            let plaintext = json!({ "tls": { "mode": "DISABLE" } });
            let spec = json!({ "host": host, "exportTo": [export], "trafficPolicy": plaintext });
            place.object("DestinationRule", &name, spec)
        };
        let special = match self {
            Self::Known | Self::Unknown => None,
            Self::Private => {
                service["metadata"]["annotations"] = json!({ "networking.istio.io/exportTo": "." });
                None
            }
            Self::InnerRoute => Some(route(".")),
            Self::OuterRoute => Some(route("*")),
            Self::InnerRule => Some(rule(".")),
            Self::OuterRule => Some(rule("*")),
        };
        Ok(std::iter::once(service).chain(special).collect())
    }
}

/// The pods of one cluster.
pub(crate) struct Side {
    pub(crate) index: usize,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) server: Workload,
    /// A caller that knows all.
    pub(crate) open: Workload,
    /// A caller that reaches only what is registered: `REGISTRY_ONLY`.
    pub(crate) closed: Workload,
    /// A caller in whose scope there are [`Kind::Known`] services alone.
    pub(crate) scoped: Workload,
    /// A caller in another namespace.
    pub(crate) stranger: Workload,
    /// A server outside of the mesh.
    pub(crate) naked: Workload,
}

/// The sides, and where their services are.
pub(crate) struct Town {
    pub(crate) place: Place,
    pub(crate) sides: Vec<Side>,
    port: u16,
}

impl Town {
    pub(crate) async fn make(scope: &Scope) -> Result<Self> {
        let clusters = &scope.testbed.clusters;
        let place = Place::make(scope, clusters, "town").await?;
        let sides = try_join_all((0..clusters.len()).map(|index| side(scope, index, &place))).await?;
        let first = sides.first().ok_or_else(|| Error::suite("the mesh has no cluster"))?;
        let town = Self { port: probe::port(&first.cluster, Protocol::Http1)?, place, sides };
        let sharing = town.sides.iter().map(|side| {
            scope.apply_all(&side.cluster, town.sides.iter().map(|owner| town.shared_entry(owner)).collect())
        });
        try_join_all(sharing).await?;
        try_join_all(town.sides.iter().map(|side| town.await_known(side))).await?;
        Ok(town)
    }

    /// The port of HTTP/1.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The host by which a `ServiceEntry` names the server of `owner`.
    pub(crate) fn shared(&self, owner: &Side) -> String {
        format!("shared-{}.{}.meshproof.test", owner.index, self.place.namespace)
    }

    /// An entry whose endpoint is in one cluster: others reach it through a gateway.
    fn shared_entry(&self, owner: &Side) -> Value {
        let endpoint = json!({
            "address": owner.server.address, "network": owner.cluster.record().network,
            "labels": { "security.istio.io/tlsMode": "istio" },
        });
        let spec = json!({
            "hosts": [self.shared(owner)], "location": "MESH_INTERNAL", "resolution": "STATIC",
            "ports": [{ "number": self.port, "name": "http", "protocol": "HTTP" }], "endpoints": [endpoint],
        });
        self.place.object("ServiceEntry", &format!("shared-{}", owner.index), spec)
    }

    async fn await_known(&self, side: &Side) -> Result<()> {
        let hosts = |kinds: &[Kind]| -> Vec<String> {
            let of = |kind: Kind, owner: &Side| self.place.host(&kind.of(owner.index));
            kinds.iter().flat_map(|kind| self.sides.iter().map(move |owner| of(*kind, owner))).collect()
        };
        let marks = |object: &str, kinds: &[Kind]| -> Vec<String> {
            let of = |kind: Kind, owner: &Side| mark(&self.place.namespace, object, &kind.of(owner.index));
            kinds.iter().flat_map(|kind| self.sides.iter().map(move |owner| of(*kind, owner))).collect()
        };
        let names = |hosts: Vec<String>| -> BTreeSet<String> {
            hosts.iter().map(|host| outbound_name(self.port, host)).collect()
        };
        // In plaintext no gateway leads on, so a rule takes the endpoints of other networks away.
        let (own, others) = ([Kind::InnerRule, Kind::OuterRule], [Kind::OuterRule]);
        // The entries are the last that were placed: a proxy that knows them has been told of all.
        let entries = self.sides.iter().map(|owner| self.shared(owner));
        let routed = [Kind::Known, Kind::Unknown, Kind::Private, Kind::InnerRoute, Kind::OuterRoute];
        let all = names(hosts(&routed).into_iter().chain(entries).collect());
        let (in_scope, exported) = (names(hosts(&routed[..1])), names(hosts(&[Kind::Known, Kind::InnerRoute])));
        futures::try_join!(
            await_services(&side.open, &all),
            await_services(&side.closed, &all),
            await_services(&side.scoped, &in_scope),
            await_services(&side.stranger, &exported),
        )?;
        let (routes, clusters) = ("dynamic_route_configs", "dynamic_active_clusters");
        let (route, rule) = ("virtual-service", "destination-rule");
        futures::try_join!(
            await_marks(&side.open, routes, marks(route, &[Kind::InnerRoute, Kind::OuterRoute])),
            await_marks(&side.open, clusters, marks(rule, &own)),
            await_marks(&side.stranger, routes, marks(route, &[Kind::OuterRoute])),
            await_marks(&side.stranger, clusters, marks(rule, &others)),
        )?;
        let known: Vec<HostPort> =
            hosts(&[Kind::Known]).into_iter().map(|host| HostPort::new(host, self.port)).collect();
        let callers = [&side.open, &side.closed, &side.scoped, &side.stranger];
        try_join_all(callers.into_iter().map(|caller| await_answers(caller, &known))).await.map(drop)
    }
}

async fn side(scope: &Scope, index: usize, common: &Place) -> Result<Side> {
    let (cluster, owners) = (&scope.testbed.clusters[index], 0..scope.testbed.clusters.len());
    let place = common.of(cluster);
    let naked = probe::naked(cluster).await?;
    let stranger = probe::caller(cluster).await?;
    let mut objects = own_objects(cluster, &place)?;
    objects.push(strict(&place.namespace));
    for owner in owners.clone() {
        for kind in Kind::ALL {
            objects.extend(kind.objects(owner, cluster, &place)?);
        }
    }
    let known = owners.map(|owner| format!("./{}", place.host(&Kind::Known.of(owner))));
    objects.push(sidecar(&place, "closed", vec!["*/*".into()]));
    objects.push(sidecar(&place, "scoped", known.collect()));
    objects.push(ledger(&place, &naked, probe::port(cluster, Protocol::Http1)?));
    objects.extend(cluster.record().gateways.eastwest.as_ref().and_then(|gateway| open_for_entries(gateway, &place)));
    scope.apply_all(cluster, objects).await?;
    let plan = |name: &str, labels: &[(&str, &str)]| ProbePlan {
        name: name.into(),
        labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<BTreeMap<_, _>>(),
        ..ProbePlan::default()
    };
    let plans =
        [plan("server", &[(OWNER, &index.to_string())]), plan("open", &[]), plan("closed", &[]), plan("scoped", &[])];
    let pods = deploy_probes(scope, cluster, &place.namespace, &plans).await?;
    let [server, open, closed, scoped] =
        <[Workload; 4]>::try_from(pods).map_err(|_| Error::suite("a pod is missing"))?;
    Ok(Side { index, cluster: Arc::clone(cluster), server, open, closed, scoped, stranger, naked })
}

/// What the proxy of the workload `app` may reach.
fn sidecar(place: &Place, app: &str, hosts: Vec<String>) -> Value {
    let spec = json!({
        "workloadSelector": { "labels": { "app": app } },
        "outboundTrafficPolicy": { "mode": "REGISTRY_ONLY" }, "egress": [{ "hosts": hosts }],
    });
    place.object("Sidecar", app, spec)
}

/// Makes a server outside of the mesh known by a name.
fn ledger(place: &Place, server: &Workload, port: u16) -> Value {
    let spec = json!({
        "hosts": [LEDGER], "exportTo": ["."], "location": "MESH_EXTERNAL", "resolution": "STATIC",
        "ports": [{ "number": port, "name": "http", "protocol": "HTTP" }],
        "endpoints": [{ "address": server.address }],
    });
    place.object("ServiceEntry", "ledger", spec)
}

/// Lets an east-west gateway lead to the hosts of entries.
fn open_for_entries(gateway: &Gateway, place: &Place) -> Option<Value> {
    let label = |one: &str| {
        let (key, value) = one.split_once('=')?;
        Some(Label { key: key.trim().into(), value: value.trim().into() })
    };
    let labels = gateway.selector.split(',').map(label).collect::<Option<Vec<Label>>>()?;
    let selector: Map<String, Value> = labels.into_iter().map(|label| (label.key, json!(label.value))).collect();
    let spec = json!({
        "selector": selector,
        "servers": [{
            "port": { "number": gateway.port, "name": "tls-entries", "protocol": "TLS" },
            "tls": { "mode": "AUTO_PASSTHROUGH" },
            "hosts": [format!("*.{}.meshproof.test", place.namespace)],
        }],
    });
    Some(place.object("Gateway", "entries", spec))
}
