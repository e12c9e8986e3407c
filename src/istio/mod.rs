//! All knowledge of Istio: gateways, proxy logs, and the certificate authority.

mod endpoints;
mod error;
mod evidence;
mod gateways;
mod issue;

pub use endpoints::{Endpoint, await_endpoint, endpoints};
pub use error::{Error, Result};
pub(crate) use evidence::Side;
pub use evidence::{AccessEntry, Ends, both_ends, logged, read_until, turned_away};
pub use gateways::{eastwest_gateway, ingress_gateway, sni_of};
pub use issue::issue;
