//! Identities: SPIFFE IDs, their certificates, and the chains of trust.

mod certificate;
mod error;
mod mint;
mod spiffe;
pub(crate) mod trust;
mod usage;

pub use certificate::Certificate;
pub use error::{Error, Result};
pub(crate) use mint::request;
pub use mint::{ClientCertificate, Minter, Validity, self_signed_rsa};
pub use spiffe::SpiffeId;
pub use trust::{ClusterIssuers, Distrust, Trust, Verified};
pub use usage::Usage;
