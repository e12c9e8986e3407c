//! Access to clusters by the kubeconfigs that people have: several files, relative paths, credential plugins, proxies.
//!
//! The rules are kubectl's. [`Kubeconfigs::connect`] is the only way to a cluster in this repository.

mod environment;
mod error;
mod explain;
mod files;
mod minified;
mod open;
mod plugin;
mod proxy;
mod recipe;
mod session;
mod trust;

pub use environment::Environment;
pub use error::{Entry, Error, Place, Shadowed};
pub use files::Kubeconfigs;

#[cfg(test)]
mod tests;
