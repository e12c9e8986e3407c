//! Identities: SPIFFE IDs, their certificates, and the chains of trust.

mod certificate;
mod error;
mod lifetime;
mod mint;
mod spiffe;
pub(crate) mod trust;
mod usage;
mod window;

pub use certificate::{Certificate, pem_certificates};
pub use error::{Error, Result};
pub use lifetime::{Lifetime, Lifetimes, Limits, Part, words};
pub use mint::{ClientCertificate, Minter, Oddity, ServerCertificate, Validity, self_signed_rsa};
pub(crate) use mint::{SigningRequest, request};
pub use spiffe::SpiffeId;
pub use trust::{ClusterIssuers, Distrust, Trust, Verified};
pub use usage::Usage;
pub use window::Window;
