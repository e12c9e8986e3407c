//! All knowledge of Istio: gateways, proxy logs, and the certificate authority.

mod configuration;
mod endpoints;
mod error;
mod evidence;
mod evidence_log;
mod gateways;
mod inbound;
mod issue;
mod membership;
mod registry;
mod tls;

pub use configuration::configuration;
pub use endpoints::{Endpoint, await_endpoint, await_service, await_services, endpoints};
pub use error::{Error, Result};
pub(crate) use evidence::Side;
pub use evidence::{AccessEntry, Ends, both_ends, inbound, logged, outbound, read_until, turned_away};
pub use evidence_log::evidence_log;
pub use gateways::{eastwest_gateway, ingress_gateway, sni_of};
pub use inbound::{await_mode, inbound_modes};
pub use issue::issue;
pub use membership::{exposed, injection, strict};
pub use registry::{Registered, registered};
pub(crate) use tls::secured;
