//! The online boutique on the testbed: a shopper's visits through the ingress, and who reaches whom behind it.

mod chromium;
mod edges;
mod error;
mod loss;
mod page;
mod policies;
mod reach;
mod shopper;

pub use chromium::{CHROME_VARIABLE, chromium};
pub use edges::{Edge, edges};
pub use error::PageError;
pub use loss::{PROMISE, VISITS, Visit, Visited, Visitors};
pub use page::{Page, Price};
pub use policies::{Stranger, log_both_ends, no_plaintext, remove_placed, restrict, strangers};
pub use reach::{CALLS, Call, PLACES, Reach, calls, cluster_of, needed, port_of, workload};
pub use shopper::{Card, Shopper};

/// Namespace of the application.
pub const NAMESPACE: &str = "pinnacle";

/// Host name at which the ingress gateway serves the shop.
pub const HOST: &str = "frontend.pinnacle";
