//! What a mesh's configuration makes of a call, by Istio's rules: a model, without any cluster.
//!
//! [`foretell`] answers what a dial must give: answered over mutual TLS, answered in plaintext, reset, and so on. The
//! model is written from Istio's reference. It never makes a verdict alone: suites compare it with what is on the wire.

pub mod authorization;
mod call;
mod object;
mod outcome;
mod parties;
mod peer;
mod rule;

pub use call::{Call, Configuration, Foretold, Sent, foretell};
pub use outcome::{Ending, Flag, Speech};
pub use parties::{Caller, Capture, Client, Server, Service};
pub use peer::{Effective, Mode, PeerAuthentication, Policies};
pub use rule::{ClientTls, DestinationRule};
