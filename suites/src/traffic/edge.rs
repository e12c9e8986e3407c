//! A gateway of the suite's own in each cluster, with names, certificates and routes.

use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use meshproof::identity::{ClientCertificate, Minter, ServerCertificate};
use meshproof::probe::{self, Dial, Exchange, Protocol, TlsOptions, Vantage, handshake};
use meshproof::record::HostPort;
use meshproof::scope::{ProbePlan, deploy_probes};
use meshproof::{Cluster, Error, Result, Scope, Seen, Workload, eventually};
use serde_json::{Value, json};

use super::arena::{Place, own_objects, service};

/// Name of the gateway, and of all that belongs to it.
const EDGE: &str = "edge";

/// The gateway's port.
const PORT: u16 = 8443;

/// Longest wait for the gateway and its routes.
const READY: Duration = Duration::from_secs(60);

/// A name with a certificate of its own.
pub(crate) const EXACT: &str = "exact.meshproof.test";

/// A name whose clients must have a certificate.
pub(crate) const MUTUAL: &str = "mutual.meshproof.test";

/// A name that the gateway does not have, although it looks like one.
pub(crate) const UNKNOWN: &str = "edge.meshproof.test";

/// All names below have one certificate.
const WILD: &str = "*.edge.meshproof.test";

/// The name, of those with one certificate, that leads to the server of an owner.
pub(crate) fn wild(owner: usize) -> String {
    format!("to-{owner}.edge.meshproof.test")
}

/// The certificates of the gateways.
pub(crate) struct Certificates {
    /// Signs certificates of servers.
    pub(crate) authority: Minter,
    /// Signs certificates of clients.
    pub(crate) clients: Minter,
    pub(crate) exact: ServerCertificate,
    pub(crate) wild: ServerCertificate,
    pub(crate) mutual: ServerCertificate,
}

impl Certificates {
    fn make() -> Result<Self> {
        let authority = Minter::authority("meshproof servers")?;
        Ok(Self {
            clients: Minter::authority("meshproof clients")?,
            exact: authority.server(&[EXACT])?,
            wild: authority.server(&[WILD])?,
            mutual: authority.server(&[MUTUAL])?,
            authority,
        })
    }
}

/// A gateway, its client, and the server in its cluster.
pub(crate) struct Side {
    pub(crate) index: usize,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) gateway: Workload,
    pub(crate) server: Workload,
    pub(crate) client: Vantage,
}

pub(crate) struct Edge {
    pub(crate) namespace: String,
    pub(crate) sides: Vec<Side>,
    pub(crate) certificates: Certificates,
}

impl Edge {
    /// Makes the gateways, and waits until each leads to every server.
    pub(crate) async fn make(scope: &Scope) -> Result<Self> {
        let certificates = Certificates::make()?;
        let clusters = &scope.testbed.clusters;
        let place = Place::make(scope, clusters, "edge").await?;
        let making = (0..clusters.len()).map(|index| side(scope, index, &place, &certificates));
        let sides = try_join_all(making).await?;
        let edge = Self { namespace: place.namespace, sides, certificates };
        try_join_all(edge.sides.iter().map(|side| edge.await_routes(side))).await?;
        Ok(edge)
    }

    async fn await_routes(&self, side: &Side) -> Result<()> {
        Ok(eventually(format!("the gateway {} to lead to every server", side.gateway), READY, async || {
            let names = self.sides.iter().map(|owner| wild(owner.index)).chain([EXACT.to_owned()]);
            let dials = names.map(|name| side.dial("route", &name, &name, None));
            let client = self.certificates.client()?;
            let mutual = side.dial("route", MUTUAL, MUTUAL, Some(&client));
            let seen = side.client.dial(dials.chain([mutual]).collect()).await?;
            let lost = seen.iter().find(|exchange| !exchange.outcome().is_answered());
            Ok::<_, Error>(match lost {
                None => Seen::Yes(()),
                Some(lost) => Seen::NotYet(format!("{}: {}", lost.destination(), lost.outcome())),
            })
        })
        .await?)
    }
}

impl Certificates {
    /// A certificate that the gateways take of clients.
    pub(crate) fn client(&self) -> Result<ClientCertificate> {
        client_of(&self.clients, meshproof::identity::Validity::Now)
    }
}

/// A client's certificate of any authority.
pub(crate) fn client_of(minter: &Minter, validity: meshproof::identity::Validity) -> Result<ClientCertificate> {
    let id = meshproof::identity::SpiffeId::workload("clients.meshproof.test", "clients", "client");
    Ok(minter.mint(&id, validity)?)
}

impl Side {
    /// A request for `host` inside of a handshake with `server_name`.
    pub(crate) fn dial(&self, id: &str, server_name: &str, host: &str, client: Option<&ClientCertificate>) -> Dial {
        let place = HostPort::new(&self.gateway.address, PORT);
        let id = format!("{id}/{}", self.cluster.name());
        let dial = handshake(id, &place, Some(server_name), client, Protocol::Http1);
        let tls = dial.tls.map(|tls| TlsOptions { alpn: vec!["http/1.1".into()], ..tls });
        Dial { tls, authority: Some(host.into()), source_port: None, ..dial }
    }

    /// Replaces the certificate of [`EXACT`].
    pub(crate) async fn replace(&self, scope: &Scope, namespace: &str, by: &ServerCertificate) -> Result<()> {
        scope.apply(&self.cluster, &mut secret(namespace, "exact", by, None)).await
    }
}

/// Whether a gateway showed this certificate.
pub(crate) fn shows(exchange: &Exchange, certificate: &ServerCertificate) -> bool {
    let bare = |pem: &str| pem.split_whitespace().collect::<String>();
    let seen = exchange.report.tls.as_ref().map(|tls| bare(&tls.peer_chain_pem)).unwrap_or_default();
    !seen.is_empty() && seen.starts_with(&bare(&certificate.certificate_pem))
}

async fn side(scope: &Scope, index: usize, common: &Place, certificates: &Certificates) -> Result<Side> {
    let (cluster, owners) = (&scope.testbed.clusters[index], 0..scope.testbed.clusters.len());
    let place = common.of(cluster);
    let namespace = place.namespace.as_str();
    let port = probe::port(cluster, Protocol::Http1)?;
    let mut objects = own_objects(cluster, &place)?;
    for owner in owners.clone() {
        let selector = json!({ "owner": owner.to_string() });
        objects.push(service(cluster, &place, &[Protocol::Http1], &target(owner), selector)?);
    }
    objects.extend(gateway_workload(namespace));
    objects.extend([
        secret(namespace, "exact", &certificates.exact, None),
        secret(namespace, "wild", &certificates.wild, None),
        secret(namespace, "mutual", &certificates.mutual, Some(&certificates.clients)),
        listeners(&place),
    ]);
    let route = |name: &str, hosts: &str, owner: usize| {
        let to = json!({ "host": place.host(&target(owner)), "port": { "number": port } });
        let spec = json!({ "hosts": [hosts], "gateways": [EDGE], "http": [{ "route": [{ "destination": to }] }] });
        place.object("VirtualService", name, spec)
    };
    objects.extend(owners.map(|owner| route(&target(owner), &wild(owner), owner)));
    objects.extend([route("exact", EXACT, index), route("mutual", MUTUAL, index)]);
    scope.apply_all(cluster, objects).await?;
    let labels = [("owner".to_owned(), index.to_string())].into();
    let plans = [ProbePlan { name: "server".into(), labels, ..ProbePlan::default() }];
    let deploying = deploy_probes(scope, cluster, namespace, &plans);
    let starting =
        async { Ok::<_, Error>(Workload::await_ready(cluster, namespace, &format!("app={EDGE}"), READY).await?) };
    let (mut servers, gateway) = futures::try_join!(deploying, starting)?;
    let server = servers.pop().ok_or_else(|| Error::suite("there is no server"))?;
    let client = Vantage::Naked(probe::naked(cluster).await?);
    Ok(Side { index, cluster: Arc::clone(cluster), gateway, server, client })
}

/// Name of the service of an owner's server.
fn target(owner: usize) -> String {
    format!("target-{owner}")
}

/// The gateway's workload: Istio's injection makes all of the pod. It reads its certificates by the role.
fn gateway_workload(namespace: &str) -> Vec<Value> {
    let metadata = json!({ "name": EDGE, "namespace": namespace });
    let labels = json!({ "app": EDGE, "sidecar.istio.io/inject": "true" });
    // Without a policy, Kubernetes would pull `auto` each time.
    let container = json!({ "name": "istio-proxy", "image": "auto", "imagePullPolicy": "IfNotPresent" });
    let template = json!({
        "metadata": { "labels": labels, "annotations": { "inject.istio.io/templates": "gateway" } },
        "spec": { "serviceAccountName": EDGE, "containers": [container] },
    });
    let rbac = "rbac.authorization.k8s.io";
    vec![
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata }),
        json!({
            "apiVersion": format!("{rbac}/v1"), "kind": "Role", "metadata": metadata,
            "rules": [{ "apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list", "watch"] }],
        }),
        json!({
            "apiVersion": format!("{rbac}/v1"), "kind": "RoleBinding", "metadata": metadata,
            "roleRef": { "apiGroup": rbac, "kind": "Role", "name": EDGE },
            "subjects": [{ "kind": "ServiceAccount", "name": EDGE, "namespace": namespace }],
        }),
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": metadata,
            "spec": { "selector": { "app": EDGE }, "ports": [{ "name": "https", "port": PORT }] },
        }),
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata,
            "spec": { "replicas": 1, "selector": { "matchLabels": { "app": EDGE } }, "template": template },
        }),
    ]
}

/// The gateway's names, each with the Secret of its certificate.
fn listeners(place: &Place) -> Value {
    let listener = |name: &str, host: &str, mode: &str| {
        json!({
            "port": { "number": PORT, "name": name, "protocol": "HTTPS" }, "hosts": [host],
            "tls": { "mode": mode, "credentialName": name },
        })
    };
    let servers =
        [listener("exact", EXACT, "SIMPLE"), listener("wild", WILD, "SIMPLE"), listener("mutual", MUTUAL, "MUTUAL")];
    place.object("Gateway", EDGE, json!({ "selector": { "app": EDGE }, "servers": servers }))
}

/// The Secret of a certificate, with the authority of its clients if they need one.
fn secret(namespace: &str, name: &str, certificate: &ServerCertificate, clients: Option<&Minter>) -> Value {
    let mut secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name, "namespace": namespace }, "type": "Opaque",
        "stringData": { "tls.crt": certificate.certificate_pem, "tls.key": certificate.key_pem },
    });
    if let Some(clients) = clients {
        secret["stringData"]["ca.crt"] = clients.chain_pem().into();
    }
    secret
}
