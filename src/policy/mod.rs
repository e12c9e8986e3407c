//! What a mesh's policies make of a port, by Istio's rules: a model, without any cluster. It never makes a verdict.

mod object;
mod peer;

pub use peer::{Effective, Mode, PeerAuthentication, Policies};
