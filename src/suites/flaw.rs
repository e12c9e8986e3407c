//! Client certificates that a mesh must refuse, each with a single flaw.

use std::fmt;

use crate::cluster::Testbed;
use crate::identity::{self, ClientCertificate, Minter, Oddity, SpiffeId, Validity};
use crate::record::Signer;
use crate::scope::Result;

/// The flaw of a client certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// There is no certificate.
    Missing,
    /// The chain is signed by a root that the mesh does not know.
    ForeignRoot,
    /// The certificate names the cluster's intermediate as its issuer, but the intermediate did not sign it.
    ForgedIssuer,
    /// The cluster's intermediate signed the certificate, but the certificate has expired.
    Expired,
    /// The cluster's intermediate signed the certificate, for an identity in another trust domain.
    OtherTrustDomain,
    /// The cluster's intermediate signed the certificate, to protect email only: CVE-2022-21657.
    EmailOnly,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "missing",
            Self::ForeignRoot => "foreign-root",
            Self::ForgedIssuer => "forged-issuer",
            Self::Expired => "expired",
            Self::OtherTrustDomain => "other-trust-domain",
            Self::EmailOnly => "email-only",
        })
    }
}

impl Flaw {
    /// Whether making the certificate requires the issuer's private key.
    pub fn needs_signing_key(self) -> bool {
        !matches!(self, Self::Missing | Self::ForeignRoot)
    }

    /// The flawed certificate for `id` in `cluster`. `None` for [`Flaw::Missing`].
    ///
    /// # Errors
    /// [`NotDeclared`](crate::record::Error::NotDeclared): the flaw requires the intermediate's private key, but the
    /// testbed does not offer the key.
    pub fn certificate(self, testbed: &Testbed, cluster: &str, id: &SpiffeId) -> Result<Option<ClientCertificate>> {
        let intermediate = || intermediate_of(testbed, cluster);
        let certificate = match self {
            Self::Missing => return Ok(None),
            Self::ForeignRoot => Minter::authority("foreign root")?.intermediate("foreign")?.mint(id, Validity::Now),
            Self::ForgedIssuer => intermediate()?.forged()?.mint(id, Validity::Now),
            Self::Expired => intermediate()?.mint(id, Validity::Expired),
            Self::OtherTrustDomain => intermediate()?.mint(&id.in_trust_domain("other.example"), Validity::Now),
            Self::EmailOnly => intermediate()?.mint_odd(id, Oddity::EmailOnly),
        };
        Ok(Some(certificate?))
    }

    /// The certificate that differs only in the flaw, made by the same minter, if it can be made. For the other flaws,
    /// the control is a certificate from the mesh's own CA.
    ///
    /// # Errors
    /// The errors of [`Flaw::certificate`].
    pub fn counterpart(self, testbed: &Testbed, cluster: &str, id: &SpiffeId) -> Result<Option<ClientCertificate>> {
        if !self.needs_signing_key() {
            return Ok(None);
        }
        Ok(Some(intermediate_of(testbed, cluster)?.mint(id, Validity::Now)?))
    }
}

/// The issuer of a cluster's workload certificates, if the record names its private key.
///
/// # Errors
/// [`NotDeclared`](crate::record::Error::NotDeclared): the record names none. The key cannot be read.
pub fn intermediate_of(testbed: &Testbed, cluster: &str) -> Result<Minter> {
    let Signer { issuer, key } = testbed.cluster(cluster)?.record().signer()?;
    let path = testbed.directory.join(key);
    let key = std::fs::read_to_string(&path)
        .map_err(|error| identity::Error { what: path.display().to_string(), reason: error.to_string() })?;
    let certificate = issuer.certificates.first().cloned().unwrap_or_default();
    Ok(Minter::from_pem(&format!("the issuer of {cluster}"), certificate, &key, issuer.certificates.concat())?)
}
