//! All knowledge of Istio: gateways, proxy logs, and the certificate authority.

mod decisions;
mod endpoints;
mod error;
mod evidence;
mod evidence_log;
mod gateways;
mod issue;
mod membership;
mod mesh_config;
mod registry;
mod tls;

pub use decisions::{Decided, decisions};
pub use endpoints::{Endpoint, await_endpoint, await_service, endpoints};
pub use error::{Error, Result};
pub(crate) use evidence::Side;
pub use evidence::{AccessEntry, Ends, both_ends, logged, outbound, read_until, turned_away};
pub use evidence_log::evidence_log;
pub use gateways::{eastwest_gateway, ingress_gateway, sni_of};
pub use issue::issue;
pub use membership::{exposed, injection, strict};
pub use mesh_config::{AuthorizationConfig, Authorizer, AuthorizerAddress, authorization_config};
pub use registry::{Registered, registered};
pub(crate) use tls::secured;
