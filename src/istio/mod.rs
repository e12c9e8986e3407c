//! All knowledge of Istio: gateways, proxy logs, and the certificate authority.

mod configuration;
mod decisions;
mod endpoints;
mod error;
mod evidence;
mod evidence_log;
mod failure;
mod gateways;
mod inbound;
mod issue;
mod membership;
mod mesh_config;
mod proxies;
mod proxy_config;
mod pushes;
mod registry;
mod tls;

pub use configuration::{configuration, peer_authentications};
pub use decisions::{Decided, decisions};
pub use endpoints::{
    Endpoint, await_endpoint, await_service, await_service_at, await_service_of, await_services, endpoints,
};
pub use error::{Error, Result};
pub(crate) use evidence::Side;
pub use evidence::{AccessEntry, Ends, both_ends, inbound, logged, outbound, read_until, turned_away};
pub use evidence_log::evidence_log;
pub use gateways::{eastwest_gateway, gateway_pods, ingress_gateway, sni_of};
pub use inbound::{await_mode, inbound_modes};
pub use issue::issue;
pub(crate) use membership::keeps_from_starting;
pub use membership::{exposed, injection, strict};
pub(crate) use mesh_config::MeshConfig;
pub use mesh_config::{AuthorizationConfig, Authorizer, AuthorizerAddress, authorization_config};
pub use proxies::proxies;
pub use proxy_config::{
    Authorizing, Listening, ProxySecrets, Upstream, UpstreamTls, inbound_listeners, listeners, outbound_name, secrets,
    upstream,
};
pub use pushes::Pushes;
pub use registry::{Configured, Registered, configured, istiods, registered, seen_by, seen_by_istiod};
pub(crate) use registry::{MULTI_CLUSTER, worst};
pub(crate) use tls::secured;
