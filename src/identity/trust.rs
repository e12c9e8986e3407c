//! What a workload certificate must chain to: a cluster's intermediate, and through it the mesh's root.

use std::fmt;
use std::time::SystemTime;

use super::{Certificate, SpiffeId};
use crate::identity::Result;
use crate::record::Record;

/// The mesh's root, and the intermediate of every cluster.
#[derive(Debug, Clone)]
pub struct Trust {
    domain: String,
    root: Certificate,
    intermediates: Vec<(String, Certificate)>,
}

/// A certificate that was found to be what it claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Whose it is.
    pub id: SpiffeId,
    /// The cluster whose intermediate signed it.
    pub issued_by: String,
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (issued by {}'s intermediate)", self.id, self.issued_by)
    }
}

/// Why a certificate is not trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    /// No intermediate of the mesh signed it.
    #[error("no cluster's intermediate signed the certificate of `{subject}`; it names `{issuer}` as its issuer")]
    UnknownIssuer {
        /// Its subject, or identity where it has one.
        subject: String,
        /// Its issuer's name.
        issuer: String,
    },
    /// A certificate of the chain is outside its validity.
    #[error("the certificate of `{subject}` is not valid now")]
    OutsideValidity {
        /// Which.
        subject: String,
    },
    /// The chain breaks above the leaf.
    #[error("the certificate of `{subject}` is not signed by `{authority}`")]
    BrokenChain {
        /// The certificate.
        subject: String,
        /// What should have signed it.
        authority: String,
    },
    /// A signing certificate that may not sign.
    #[error("`{subject}` is not a certificate authority")]
    NotAnAuthority {
        /// Which.
        subject: String,
    },
    /// It cannot be read, or carries no identity.
    #[error("{reason}")]
    Unreadable {
        /// Why.
        reason: String,
    },
}

impl From<crate::identity::Error> for Distrust {
    fn from(error: crate::identity::Error) -> Self {
        Self::Unreadable { reason: error.to_string() }
    }
}

impl Trust {
    /// What the testbed's record says.
    ///
    /// # Errors
    /// [`Error`](crate::identity::Error) where a certificate in it cannot be read.
    pub fn of(record: &Record) -> Result<Self> {
        let root = record.mesh.trust.roots.first().map(String::as_str).unwrap_or_default();
        let root = Certificate::from_pem("the record's root certificate", root)?;
        let issuers = record.clusters.iter().flat_map(|cluster| {
            cluster.issuers.iter().filter_map(|issuer| Some((cluster.name.clone(), issuer.certificates.first()?)))
        });
        let intermediates = issuers.map(|(cluster, pem)| {
            let what = format!("the record's issuer of {cluster}");
            Ok((cluster, Certificate::from_pem(&what, pem)?))
        });
        let intermediates = intermediates.collect::<Result<_>>()?;
        Ok(Self { domain: record.mesh.trust.name.clone(), root, intermediates })
    }

    /// The mesh's trust domain.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Verifies a workload's certificate by its signature, the signature of the intermediate that made it, and the
    /// validity of both and of the root.
    ///
    /// # Errors
    /// [`Distrust`], by what is wrong.
    pub fn verify(&self, leaf: &Certificate, now: SystemTime) -> Result<Verified, Distrust> {
        for (cluster, intermediate) in &self.intermediates {
            if !leaf.is_signed_by(intermediate)? {
                continue;
            }
            signed(intermediate, &self.root)?;
            for certificate in [leaf, intermediate, &self.root] {
                valid(certificate, now)?;
            }
            return Ok(Verified { id: leaf.spiffe_id()?, issued_by: cluster.clone() });
        }
        let (subject, issuer) = leaf.names()?;
        let subject = leaf.spiffe_id().map_or(subject, |id| id.to_string());
        Err(Distrust::UnknownIssuer { subject, issuer })
    }

    /// Verifies a chain as a peer sent it: the leaf as above, and every certificate by the next, up to the root,
    /// which may be left out.
    ///
    /// # Errors
    /// [`Distrust`], by what is wrong.
    pub fn verify_sent(&self, chain: &[Certificate], now: SystemTime) -> Result<Verified, Distrust> {
        let Some(leaf) = chain.first() else {
            return Err(Distrust::Unreadable { reason: "the peer sent no certificate".into() });
        };
        let verified = self.verify(leaf, now)?;
        for pair in chain.windows(2) {
            signed(&pair[0], &pair[1])?;
            valid(&pair[1], now)?;
        }
        match chain.last() {
            Some(last) if *last == self.root => Ok(verified),
            Some(last) => signed(last, &self.root).map(|()| verified),
            None => Ok(verified),
        }
    }
}

fn signed(certificate: &Certificate, authority: &Certificate) -> Result<(), Distrust> {
    if !authority.is_authority()? {
        return Err(Distrust::NotAnAuthority { subject: authority.names()?.0 });
    }
    if certificate.is_signed_by(authority)? {
        return Ok(());
    }
    Err(Distrust::BrokenChain { subject: certificate.names()?.0, authority: authority.names()?.0 })
}

fn valid(certificate: &Certificate, now: SystemTime) -> Result<(), Distrust> {
    let (from, until) = certificate.validity()?;
    if (from..=until).contains(&now) {
        return Ok(());
    }
    Err(Distrust::OutsideValidity { subject: certificate.names()?.0 })
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::identity::{Minter, Validity};

    fn id() -> SpiffeId {
        SpiffeId::workload("cluster.local", "pinnacle", "probe")
    }

    /// A mesh of two clusters, and the minters that sign as their intermediates.
    pub(crate) fn mesh() -> (Trust, [Minter; 2]) {
        let root = Minter::authority("root").unwrap();
        let clusters = ["cluster1", "cluster2"].map(|name| root.intermediate(name).unwrap());
        let certificate = |minter: &Minter| Certificate::from_pem("test", minter.chain_pem()).unwrap();
        let named = ["cluster1", "cluster2"].iter().zip(&clusters);
        let intermediates = named.map(|(name, minter)| ((*name).to_owned(), certificate(minter))).collect();
        (Trust { domain: "cluster.local".into(), root: certificate(&root), intermediates }, clusters)
    }

    fn chain(minter: &Minter, validity: Validity) -> Vec<Certificate> {
        Certificate::all_from_pem("test", &minter.mint(&id(), validity).unwrap().chain_pem).unwrap()
    }

    #[test]
    fn a_certificate_is_traced_to_the_cluster_that_issued_it() {
        let (trust, clusters) = mesh();
        for (name, minter) in ["cluster1", "cluster2"].iter().zip(&clusters) {
            let chain = chain(minter, Validity::Now);
            let verified = trust.verify_sent(&chain, SystemTime::now()).unwrap();
            assert_eq!(verified, Verified { id: id(), issued_by: (*name).into() });
            assert_eq!(trust.verify(&chain[0], SystemTime::now()).unwrap(), verified, "the leaf alone is enough");
        }
    }

    #[test]
    fn a_foreign_and_a_forged_issuer_are_unknown() {
        let (trust, [one, _]) = mesh();
        let foreign = Minter::authority("root").unwrap().intermediate("cluster1").unwrap();
        for minter in [foreign, one.forged().unwrap()] {
            let distrust = trust.verify(&chain(&minter, Validity::Now)[0], SystemTime::now()).unwrap_err();
            assert!(matches!(distrust, Distrust::UnknownIssuer { .. }), "{distrust}");
            assert!(distrust.to_string().contains("spiffe://cluster.local/ns/pinnacle/sa/probe"), "{distrust}");
        }
    }

    #[test]
    fn time_is_judged_at_the_time_given() {
        let (trust, [one, _]) = mesh();
        let expired = trust.verify(&chain(&one, Validity::Expired)[0], SystemTime::now()).unwrap_err();
        assert!(matches!(expired, Distrust::OutsideValidity { .. }), "{expired}");
        let valid = &chain(&one, Validity::Now)[0];
        let later = SystemTime::now() + Duration::from_secs(100 * 365 * 86_400);
        assert!(matches!(trust.verify(valid, later), Err(Distrust::OutsideValidity { .. })));
    }

    #[test]
    fn a_chain_in_the_wrong_order_or_of_two_clusters_is_broken() {
        let (trust, [one, two]) = mesh();
        let mixed = [chain(&one, Validity::Now)[0].clone(), chain(&two, Validity::Now)[1].clone()];
        let distrust = trust.verify_sent(&mixed, SystemTime::now()).unwrap_err();
        assert!(matches!(distrust, Distrust::BrokenChain { .. }), "{distrust}");
        let mut reversed = chain(&one, Validity::Now);
        reversed.reverse();
        trust.verify_sent(&reversed, SystemTime::now()).unwrap_err();
        trust.verify_sent(&[], SystemTime::now()).unwrap_err();
    }
}
