//! Code shared by several suites.

mod certified;
mod flaw;
mod newcomer;
mod paths;
mod plugged_in;
mod remote_secret;

pub use certified::{Credentials, IDLE, ProxyImage, certify, identity_of};
pub use flaw::{Flaw, intermediate_of};
pub use newcomer::Newcomer;
pub use paths::{Controlled, Path};
pub use plugged_in::PluggedIn;
pub use remote_secret::{RemoteSecret, SecretFault};
