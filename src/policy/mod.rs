//! What Istio's policies decide: pure models, written from Istio's reference and tested by themselves. Suites compare
//! them with what is observed on the wire.

pub mod authorization;
