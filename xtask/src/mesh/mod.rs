//! Istio on the clusters (multi-primary), as declared, and the application on the mesh.

pub(crate) mod application;
pub(crate) mod authority;
mod enforce;
pub(crate) mod first_call;
pub(crate) mod global_namespace;
pub(crate) mod install;
mod manifests;
pub(crate) mod suites;
pub(crate) mod target;
mod values;
