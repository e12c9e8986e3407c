//! Client certificates that a mesh must refuse, each wrong in one respect.

use std::fmt;

use crate::cluster::Testbed;
use crate::identity::{self, ClientCertificate, Minter, SpiffeId, Validity};
use crate::record;
use crate::scope::Result;

/// What is wrong with a client certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// There is none.
    Missing,
    /// A root that the mesh does not know signed its chain.
    ForeignRoot,
    /// It names the cluster's intermediate as its issuer, which did not sign it.
    ForgedIssuer,
    /// The cluster's intermediate signed it; its validity is over.
    Expired,
    /// The cluster's intermediate signed it, for an identity of another trust domain.
    OtherTrustDomain,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "missing",
            Self::ForeignRoot => "foreign-root",
            Self::ForgedIssuer => "forged-issuer",
            Self::Expired => "expired",
            Self::OtherTrustDomain => "other-trust-domain",
        })
    }
}

impl Flaw {
    /// Whether only the issuer's signing key can make such a certificate.
    pub fn needs_signing_key(self) -> bool {
        matches!(self, Self::ForgedIssuer | Self::Expired | Self::OtherTrustDomain)
    }

    /// The certificate for `id`, flawed, as of `cluster`; `None` where the flaw is that there is none.
    ///
    /// # Errors
    /// [`NotDeclared`](crate::record::Error::NotDeclared) where the flaw needs the intermediate's key and the testbed
    /// does not offer it.
    pub fn certificate(self, testbed: &Testbed, cluster: &str, id: &SpiffeId) -> Result<Option<ClientCertificate>> {
        let intermediate = || intermediate_of(testbed, cluster);
        let certificate = match self {
            Self::Missing => return Ok(None),
            Self::ForeignRoot => Minter::authority("foreign root")?.intermediate("foreign")?.mint(id, Validity::Now),
            Self::ForgedIssuer => intermediate()?.forged()?.mint(id, Validity::Now),
            Self::Expired => intermediate()?.mint(id, Validity::Expired),
            Self::OtherTrustDomain => intermediate()?.mint(&id.in_trust_domain("other.example"), Validity::Now),
        };
        Ok(Some(certificate?))
    }

    /// The certificate that differs in nothing but the flaw, where one can be made: minted by the same hand. The
    /// others' control is a certificate of the mesh's own authority.
    ///
    /// # Errors
    /// As [`Flaw::certificate`].
    pub fn counterpart(self, testbed: &Testbed, cluster: &str, id: &SpiffeId) -> Result<Option<ClientCertificate>> {
        if !self.needs_signing_key() {
            return Ok(None);
        }
        Ok(Some(intermediate_of(testbed, cluster)?.mint(id, Validity::Now)?))
    }
}

/// The issuer of a cluster's workload certificates, where the record names its key.
fn intermediate_of(testbed: &Testbed, cluster: &str) -> Result<Minter> {
    let missing = || record::Error::not_declared(format!("a signing key of {cluster}"));
    let (issuer, key) = testbed.cluster(cluster)?.record().signer().ok_or_else(missing)?;
    let path = testbed.directory.join(key);
    let key = std::fs::read_to_string(&path)
        .map_err(|error| identity::Error { what: path.display().to_string(), reason: error.to_string() })?;
    let certificate = issuer.certificates.first().cloned().unwrap_or_default();
    Ok(Minter::from_pem(&format!("the issuer of {cluster}"), certificate, &key, issuer.certificates.concat())?)
}
