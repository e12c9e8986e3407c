//! The online boutique on the testbed: a shopper's visits through the ingress, and who reaches whom behind it.

mod page;
mod reach;
mod shopper;

pub use page::{Page, Price};
pub use reach::{CALLS, PLACES, Reach, cluster_of, edge, from_pod};
pub use shopper::{Card, Shopper};

/// Namespace of the application.
pub const NAMESPACE: &str = "pinnacle";

/// Host name at which the ingress gateway serves the shop.
pub const HOST: &str = "frontend.pinnacle";
