//! The columns: clients, and what they speak.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use meshproof::istio::ingress_gateway;
use meshproof::policy::{Caller, Client, ClientTls, Speech};
use meshproof::probe::{self, Protocol, Vantage};
use meshproof::{Cluster, Error, Workload};

/// Where a client is, seen from the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Behind a sidecar, in a namespace without rules.
    Automatic,
    /// The same, and the sidecar captures no inbound port.
    Uncaptured,
    /// Behind a sidecar, in the namespace of the servers of this group.
    Inside(&'static str),
    /// Behind a sidecar, in a namespace with a rule for the service.
    Ruled(Rule),
    /// Without a sidecar.
    Naked,
    /// Without a sidecar, in its node's network.
    HostNetwork,
    /// Behind the ingress gateway.
    Gateway,
}

/// The TLS mode of a rule in the client's namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rule {
    IstioMutual,
    Disable,
    Simple,
    /// With a certificate of the client's own, which the mesh did not issue.
    Mutual,
}

impl Rule {
    pub(crate) const ALL: [Self; 4] = [Self::IstioMutual, Self::Disable, Self::Simple, Self::Mutual];

    pub(crate) fn tls(self) -> ClientTls {
        match self {
            Self::IstioMutual => ClientTls::IstioMutual,
            Self::Disable => ClientTls::Disable,
            Self::Simple => ClientTls::Simple,
            Self::Mutual => ClientTls::Mutual,
        }
    }

    /// Name of the namespace's use.
    pub(crate) fn purpose(self) -> String {
        format!("from-{}", self.tls().to_string().to_lowercase().replace('_', "-"))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Automatic => f.write_str("meshed"),
            Self::Uncaptured => f.write_str("no inbound capture"),
            Self::Inside(_) => f.write_str("server's namespace"),
            Self::Ruled(rule) => write!(f, "rule {}", rule.tls()),
            Self::Naked => f.write_str("naked"),
            Self::HostNetwork => f.write_str("host network"),
            Self::Gateway => f.write_str("gateway"),
        }
    }
}

/// A column of the table, without its protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct From {
    pub(crate) kind: Kind,
    /// Whether the client is in another cluster than the server.
    pub(crate) elsewhere: bool,
}

impl fmt::Display for From {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.elsewhere { "other cluster, " } else { "" }, self.kind)
    }
}

/// All columns' clients, but for those in the servers' namespaces.
pub(crate) fn clients() -> Vec<From> {
    let kinds = [
        vec![Kind::Automatic, Kind::Uncaptured],
        Rule::ALL.map(Kind::Ruled).into(),
        vec![Kind::Naked, Kind::HostNetwork, Kind::Gateway],
    ];
    both(&kinds.concat())
}

/// These clients in the server's cluster, and in another.
pub(crate) fn both(kinds: &[Kind]) -> Vec<From> {
    let of = |elsewhere: bool| kinds.iter().map(move |kind| From { kind: *kind, elsewhere });
    of(false).chain(of(true)).collect()
}

/// A protocol.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spoken {
    pub(crate) protocol: Protocol,
    pub(crate) speech: Speech,
}

impl Spoken {
    const fn new(protocol: Protocol, speech: Speech) -> Self {
        Self { protocol, speech }
    }

    /// Whether the ingress gateway, which routes by host name, can carry it.
    pub(crate) fn is_routed(self) -> bool {
        self.speech == Speech::Http
    }
}

/// What the clients speak.
pub(crate) const SPOKEN: [Spoken; 8] = [
    Spoken::new(Protocol::Http1, Speech::Http),
    Spoken::new(Protocol::Http2, Speech::Http),
    Spoken::new(Protocol::Grpc, Speech::Http),
    Spoken::new(Protocol::GrpcStream, Speech::Http),
    Spoken::new(Protocol::WebSocket, Speech::Http),
    Spoken::new(Protocol::Tcp, Speech::Tcp),
    Spoken::new(Protocol::ServerFirst, Speech::ServerFirst),
    Spoken::new(Protocol::Tls, Speech::Tls),
];

/// A client in one cluster.
#[derive(Debug, Clone)]
pub(crate) struct Dialler {
    /// As the model sees it.
    pub(crate) caller: Caller,
    pub(crate) vantage: Vantage,
    /// The pod whose proxy logs its calls.
    pub(crate) proxy: Option<Workload>,
}

/// The clients of one cluster.
pub(crate) type Diallers = BTreeMap<Kind, Dialler>;

/// A client behind a sidecar. `labels` are its pod's.
pub(crate) fn meshed(workload: Workload, labels: BTreeMap<String, String>) -> Dialler {
    let client = Client { namespace: workload.namespace.clone(), labels, is_gateway: false };
    Dialler { caller: Caller::Proxied(client), vantage: Vantage::Meshed(workload.clone()), proxy: Some(workload) }
}

/// A client without a sidecar.
pub(crate) fn naked(workload: Workload) -> Dialler {
    Dialler { caller: Caller::Naked, vantage: Vantage::Naked(workload), proxy: None }
}

/// The ingress gateway, reached from this machine. `None` if the cluster has none.
pub(crate) async fn gateway(cluster: &Arc<Cluster>) -> Result<Option<Dialler>, Error> {
    if cluster.record().gateways.ingress.is_none() {
        return Ok(None);
    }
    let workload = ingress_gateway(cluster).await?;
    let client = Client { namespace: workload.namespace.clone(), labels: BTreeMap::new(), is_gateway: true };
    Ok(Some(Dialler { caller: Caller::Proxied(client), vantage: Vantage::Host, proxy: Some(workload) }))
}

/// The naked probe of the testbed.
pub(crate) async fn probe_naked(cluster: &Arc<Cluster>) -> Result<Dialler, Error> {
    Ok(naked(probe::naked(cluster).await?))
}
