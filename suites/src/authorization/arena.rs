//! Servers of a test's own with their policies, one in each cluster, and the callers in all clusters.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use meshproof::cluster::Pair;
use meshproof::istio::{Authorizer, authorization_config, eastwest_gateway, endpoints, evidence_log, exposed, sni_of};
use meshproof::policy::authorization::{Mesh, Policy};
use meshproof::probe::{self, Outcome, Protocol, RawRequest, Vantage, evidence_label};
use meshproof::record::{HostPort, Requirement, Write};
use meshproof::scope::deploy_probe_serving;
use meshproof::{Cluster, Error, Result, Scope, Seen, Workload, cluster, eventually};
use serde_json::{Value, json};

use super::rows::CONTROL;

/// What every test of the suite requires.
pub(crate) const REQUIRED: [Requirement; 3] =
    [Requirement::Probes, Requirement::AccessLog, Requirement::Write(Write::Namespaces)];

/// A port of the servers whose service does not name its protocol.
pub(crate) const AUTO_PORT: u16 = 8085;

/// Path of Envoy's admin interface with the listeners.
const LISTENERS: &str = "config_dump?resource=dynamic_listeners";

/// Longest wait for a proxy to receive its policies.
const CONFIGURED: Duration = Duration::from_secs(30);

/// A meshed workload of the test's own, with policies.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) workload: Workload,
    /// Name of its service, valid in every cluster.
    pub(crate) host: String,
    /// What its policies depend on.
    pub(crate) mesh: Mesh,
    /// Its policies.
    pub(crate) policies: Vec<Policy>,
    /// Address that its proxy sees of callers on other networks.
    pub(crate) gateway: Option<IpAddr>,
}

/// A place from which a server is called.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) name: String,
    pub(crate) vantage: Vantage,
    pub(crate) cluster: Arc<Cluster>,
}

impl Caller {
    /// The pod. Every caller is one.
    pub(crate) fn workload(&self) -> &Workload {
        match &self.vantage {
            Vantage::Meshed(workload) | Vantage::Naked(workload) => workload,
            Vantage::Host => unreachable!("no caller is this machine"),
        }
    }

    /// Two meshed callers of each cluster, with identities of their own.
    pub(crate) async fn meshed(scope: &Scope) -> Result<Vec<Self>> {
        let found = scope.testbed.clusters.iter().map(async |cluster| {
            let (caller, probe) = futures::try_join!(probe::caller(cluster), probe::meshed(cluster))?;
            let of = |role: &str, workload| Self {
                name: format!("{role}-of-{}", cluster.name()),
                vantage: Vantage::Meshed(workload),
                cluster: Arc::clone(cluster),
            };
            Ok::<_, Error>([of("caller", caller), of("probe", probe)])
        });
        Ok(try_join_all(found).await?.into_iter().flatten().collect())
    }

    /// A caller without a sidecar in the cluster of `server`: it has no identity.
    pub(crate) async fn naked(server: &Server) -> Result<Self> {
        let cluster = Arc::clone(&server.workload.cluster);
        let workload = probe::naked(&cluster).await?;
        Ok(Self { name: format!("naked-of-{}", cluster.name()), vantage: Vantage::Naked(workload), cluster })
    }

    /// The address that the proxy of `server` sees of this caller.
    pub(crate) fn address_at(&self, server: &Server) -> Option<IpAddr> {
        let pair = Pair { from: Arc::clone(&self.cluster), to: Arc::clone(&server.workload.cluster) };
        if pair.crosses_networks() { server.gateway } else { self.workload().address.parse().ok() }
    }

    /// Where this caller dials `server`.
    pub(crate) fn entrance(&self, server: &Server, port: u16) -> HostPort {
        match self.vantage {
            Vantage::Meshed(_) => HostPort::new(&server.host, port),
            _ => HostPort::new(&server.workload.address, port),
        }
    }
}

/// What a server has beside its probe.
pub(crate) struct Setup {
    pub(crate) policies: Vec<Policy>,
    /// Other objects, placed before the server starts.
    pub(crate) objects: Vec<Value>,
    /// Ports of raw TCP.
    pub(crate) lines: Option<RangeInclusive<u16>>,
}

impl Setup {
    /// These policies, and nothing else.
    pub(crate) fn new(policies: Vec<Policy>) -> Self {
        Self { policies, objects: Vec::new(), lines: None }
    }
}

/// Makes a server with its policies in each cluster, and waits until each of these meshed callers knows it. `setup` is given
/// the server's cluster and namespace.
pub(crate) async fn servers(
    scope: &Scope,
    purpose: &str,
    callers: &[Caller],
    setup: impl Fn(&Arc<Cluster>, &str) -> Result<Setup>,
) -> Result<Vec<Server>> {
    let making = scope.testbed.clusters.iter().map(|owner| server(scope, purpose, callers, owner, &setup));
    try_join_all(making).await
}

async fn server(
    scope: &Scope,
    purpose: &str,
    callers: &[Caller],
    owner: &Arc<Cluster>,
    setup: &impl Fn(&Arc<Cluster>, &str) -> Result<Setup>,
) -> Result<Server> {
    // A namespace of each cluster's own, so that calls go to one cluster.
    let purpose = format!("{purpose}-{}", owner.name());
    let namespace = scope.injected_namespace(owner, &purpose).await?;
    let Setup { policies, objects, lines } = setup(owner, &namespace)?;
    let host = host(owner, &namespace)?;
    let last_line = lines.as_ref().map(|lines| *lines.end());
    let others = scope.testbed.clusters.iter().filter(|cluster| cluster.name() != owner.name());
    let naming = others.map(async |cluster| {
        scope.injected_namespace(cluster, &purpose).await?;
        for mut service in services(owner, &namespace)? {
            scope.apply(cluster, &mut service).await?;
        }
        Ok::<_, Error>(())
    });
    let serving = async {
        let own = own_objects(owner, &namespace)?;
        let objects = own.into_iter().chain(policies.iter().map(Policy::object)).chain(objects);
        try_join_all(objects.map(async |mut object| scope.apply(owner, &mut object).await)).await?;
        deploy_probe_serving(scope, owner, &namespace, lines).await
    };
    let (_, workload) = futures::try_join!(try_join_all(naming), serving)?;
    let gateway = async {
        let Some(_) = owner.record().gateways.eastwest else { return Ok::<_, Error>(None) };
        let gateway = eastwest_gateway(owner).await?;
        if let Some(port) = last_line {
            await_exposed(&gateway, &sni_of(port, &host)).await?;
        }
        Ok(gateway.address.parse().ok())
    };
    let config = async { Ok::<_, Error>(authorization_config(owner).await?) };
    let place = HostPort::new(&host, probe::port(owner, Protocol::Http1)?);
    let known = try_join_all(callers.iter().map(|caller| await_known(caller, &place)));
    let (gateway, config, _, ()) = futures::try_join!(gateway, config, known, await_policies(&workload, &policies))?;
    let trust = &scope.testbed.record.mesh.trust;
    let mesh = Mesh {
        trust_domain: trust.name.clone(),
        aliases: trust.aliases.clone(),
        normalization: config.normalization,
        authorizers: config.authorizers.into_iter().map(|Authorizer { provider, kind, .. }| (provider, kind)).collect(),
    };
    Ok(Server { workload, host, mesh, policies, gateway })
}

/// Name of the service of a server in `namespace`, valid in every cluster.
pub(crate) fn host(owner: &Cluster, namespace: &str) -> Result<String> {
    let name = &probe::declared(owner)?.meshed.deployment;
    Ok(format!("{name}.{namespace}.svc.{}", owner.record().domain))
}

/// The services of the servers in `namespace`, for a cluster in which their names must resolve.
fn services(owner: &Cluster, namespace: &str) -> Result<Vec<Value>> {
    let probes = probe::declared(owner)?;
    let selector = probes.meshed.labels().unwrap_or_default();
    let ports = probes.ports.named().map(|(name, port)| json!({ "name": name, "port": port }));
    let service = |name: &str, ports: Value| {
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": name, "namespace": namespace },
            "spec": { "selector": selector, "ports": ports },
        })
    };
    let auto = json!([{ "name": "unnamed", "port": AUTO_PORT }]);
    Ok(vec![service(&probes.meshed.deployment, ports.into_iter().collect()), service("auto", auto)])
}

/// What makes the decisions in `namespace` visible, lets other networks in, and takes callers without identity.
fn own_objects(owner: &Cluster, namespace: &str) -> Result<Vec<Value>> {
    let record = owner.record();
    let log = record.declared("the proxies' access log", record.istio.access_log.as_ref())?;
    let mut objects = vec![
        evidence_log(log, "meshproof-evidence", namespace, &evidence_label()),
        json!({
            "apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
            "metadata": { "name": "default", "namespace": namespace }, "spec": { "mtls": { "mode": "PERMISSIVE" } },
        }),
    ];
    objects.extend(services(owner, namespace)?.into_iter().skip(1));
    let gateway = record.gateways.eastwest.as_ref();
    objects.extend(gateway.and_then(|gateway| exposed(gateway, namespace, &record.domain)));
    Ok(objects)
}

/// Waits until the proxy of a meshed caller leads to a server: until anything but that proxy answers.
pub(crate) async fn await_known(caller: &Caller, place: &HostPort) -> Result<()> {
    Ok(eventually(format!("the proxy of {} to lead to {place}", caller.workload()), CONFIGURED, async || {
        let dial = RawRequest::new("GET", &place.to_string(), CONTROL).dial("known", place);
        let exchanges = caller.vantage.dial(vec![dial]).await?;
        let outcome = exchanges.into_iter().next().map(|exchange| exchange.with_status().report.outcome);
        Ok::<_, cluster::Error>(match outcome {
            Some(Outcome::Answered { .. } | Outcome::Http { status: 403, .. }) => Seen::Yes(()),
            Some(other) => Seen::NotYet(other.to_string()),
            None => Seen::NotYet("no report".into()),
        })
    })
    .await?)
}

/// Waits until an east-west gateway leads to a healthy endpoint by this server name.
async fn await_exposed(gateway: &Workload, server_name: &str) -> Result<()> {
    Ok(eventually(format!("the gateway {gateway} to lead to {server_name}"), CONFIGURED, async || {
        let known = endpoints(gateway).await?;
        let exposed = known.iter().any(|endpoint| endpoint.upstream_cluster == server_name && endpoint.healthy);
        let seen = if exposed { Seen::Yes(()) } else { Seen::NotYet("no healthy endpoint".into()) };
        Ok::<_, cluster::Error>(seen)
    })
    .await?)
}

/// Waits until the proxy of `workload` has every policy that leaves a name in its configuration.
pub(crate) async fn await_policies(workload: &Workload, policies: &[Policy]) -> Result<()> {
    let named = policies.iter().filter(|policy| !policy.spec.rules.is_empty());
    let marks: Vec<String> =
        named.map(|policy| format!("ns[{}]-policy[{}]-rule[0]", policy.namespace, policy.name)).collect();
    Ok(eventually(format!("the policies at the proxy of {workload}"), CONFIGURED, async || {
        let listeners = workload.proxy_admin(LISTENERS).await?;
        let missing: Vec<&str> = marks.iter().map(String::as_str).filter(|mark| !listeners.contains(mark)).collect();
        let seen = if missing.is_empty() { Seen::Yes(()) } else { Seen::NotYet(missing.join(", ")) };
        Ok::<_, cluster::Error>(seen)
    })
    .await?)
}
