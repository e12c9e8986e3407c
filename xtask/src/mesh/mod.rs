//! Istio on the clusters: multi-primary on different networks, one shared root.

pub(crate) mod authority;
pub(crate) mod install;
