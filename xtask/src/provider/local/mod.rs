//! Provider `local`: Kubernetes clusters in containers on this machine.

mod addresses;
mod capabilities;
mod cluster;
mod daemon;
mod dump;
mod engine;
mod hold;
mod image;
mod leftovers;
mod limits;
mod node;
mod observe;
mod prerequisites;
mod removal;
mod up;

pub(crate) use cluster::kubeconfig_of;
pub(crate) use dump::{collect, collect_node};
pub(crate) use engine::Engine;
pub(crate) use hold::Held;
pub(crate) use limits::inotify;
pub(crate) use node::container_of;
pub(crate) use observe::{state, usage};
pub(crate) use prerequisites::ensure as ensure_prerequisites;
pub(crate) use removal::remove;
pub(crate) use up::Local;

/// Name of the provider in the testbed record.
pub(crate) const NAME: &str = "local";
