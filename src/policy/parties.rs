//! Who calls, what is called, and who answers.

use std::collections::{BTreeMap, BTreeSet};

/// The caller's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// A client without a proxy: what it sends is what arrives.
    Naked,
    /// A client behind a sidecar, or a gateway.
    Proxied(Client),
}

/// A client whose proxy speaks for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Client {
    /// Namespace of the proxy.
    pub namespace: String,
    /// Labels of the proxy's pod.
    pub labels: BTreeMap<String, String>,
    /// Whether the proxy is a gateway. A gateway knows the endpoints of headless services, where a sidecar connects to
    /// whatever address the application has chosen.
    pub is_gateway: bool,
}

/// The service that is called, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Service {
    /// Full name.
    pub host: String,
    /// Namespace.
    pub namespace: String,
    /// Port of the service.
    pub port: u16,
    /// Whether the service has no address of its own.
    pub headless: bool,
    /// Whether the port has another name in the server's cluster than in the caller's. Istio matches endpoints to ports
    /// by name.
    pub renamed: bool,
}

/// The workload that answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Server {
    /// Namespace.
    pub namespace: String,
    /// Labels of the pod.
    pub labels: BTreeMap<String, String>,
    /// The port that the container listens on.
    pub port: u16,
    /// All ports of the pod.
    pub ports: BTreeSet<u16>,
    /// Who takes the connections to the port.
    pub capture: Capture,
}

/// Who takes the connections to a port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Capture {
    /// The pod's sidecar.
    #[default]
    Sidecar,
    /// The application: the sidecar is told to leave the port alone. Clients do not know, and speak as if it did not.
    Uncaptured,
    /// The application: the pod has no sidecar, for example because it shares its node's network.
    NoSidecar,
}
