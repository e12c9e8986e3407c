//! Attaching to a mesh that somebody else made: finding out, by reading, what a record must know; and removing all that
//! suites have created.

mod calls;
mod control_planes;
mod detach;
mod discover;
mod error;
mod found;
mod gateways;
mod injector;
mod mesh;
mod mesh_config;
mod peers;
mod plan;
mod probes;
mod reader;
pub mod rights;
mod suites;
mod summary;
mod surroundings;
mod trust;
mod webhooks;

pub use detach::{Removed, detach};
pub use discover::{Options, discover};
pub use error::{Error, Result};
pub use found::{Asked, Finding, FoundCluster, FoundControlPlane, FoundMesh, Peers, Surroundings, Unread};
pub use mesh::{Access, PROVIDER};
pub use plan::plan;
pub use probes::Names;
pub use suites::{Judgeable, judgeable};
