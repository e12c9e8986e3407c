//! The one place that knows Istio: gateways, what proxies log, and the certificate authority.

mod endpoints;
mod error;
mod evidence;
mod gateways;
mod issue;

pub use endpoints::{Endpoint, await_endpoint, endpoints};
pub use error::{Error, Result};
pub use evidence::{AccessEntry, Ends, both_ends, turned_away};
pub(crate) use evidence::{Side, logged, read_until};
pub use gateways::{eastwest_gateway, ingress_gateway, sni_of};
pub use issue::issue;
