//! Istio on the clusters: multi-primary on different networks, one shared root.

pub(crate) mod authority;
pub(crate) mod first_call;
pub(crate) mod install;
