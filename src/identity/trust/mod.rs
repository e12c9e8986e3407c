//! The issuers of the clusters and the roots of the mesh, to which a workload's certificate must chain.

mod distrust;
mod path;
#[cfg(test)]
pub(crate) mod tests;

use std::fmt;
use std::time::SystemTime;

pub use distrust::Distrust;

use super::{Certificate, SpiffeId, Usage};
use crate::identity::{Error, Result};
use crate::record::{Record, TrustDomain};
use path::Path;

/// The trust of a mesh: its trust domain, its roots, and the known issuers of workload certificates.
#[derive(Debug, Clone)]
pub struct Trust {
    domain: String,
    aliases: Vec<String>,
    roots: Vec<Certificate>,
    issuers: Vec<ClusterIssuers>,
}

/// The known CAs that sign a cluster's workload certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterIssuers {
    /// The cluster's name.
    pub cluster: String,
    /// One chain per CA: the CA that signs workloads, followed by its parents. The root may be omitted. An empty chain
    /// means that a root signs workloads directly.
    pub chains: Vec<Vec<Certificate>>,
}

/// A verified certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The certificate's SPIFFE ID.
    pub id: SpiffeId,
    /// The clusters whose issuer signed the certificate: several if clusters share an issuer, none if the signer is no
    /// known issuer.
    pub issued_by: Vec<String>,
    /// The earliest expiry on the path, including the root.
    pub expires: SystemTime,
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.issued_by.as_slice() {
            [] => write!(f, "{} (the record does not name its issuer)", self.id),
            clusters => write!(f, "{} (issued by {})", self.id, clusters.join(" and ")),
        }
    }
}

impl Trust {
    /// A mesh with the trust domain `domain` and the former names `aliases`.
    ///
    /// # Errors
    /// [`Error`](crate::identity::Error): there is no root.
    pub fn new(
        domain: String,
        aliases: Vec<String>,
        roots: Vec<Certificate>,
        issuers: Vec<ClusterIssuers>,
    ) -> Result<Self> {
        if roots.is_empty() {
            let what = format!("the trust domain `{domain}`");
            return Err(Error { what, reason: "it has no root certificate, so no chain can end in one".into() });
        }
        Ok(Self { domain, aliases, roots, issuers })
    }

    /// The trust in a record.
    ///
    /// # Errors
    /// [`Error`](crate::identity::Error): a certificate in the record cannot be parsed.
    pub fn of(record: &Record) -> Result<Self> {
        let TrustDomain { name, aliases, roots } = &record.mesh.trust;
        let issuers = record.clusters.iter().map(|cluster| {
            let what = format!("the record's issuers of {}", cluster.name);
            let chains = cluster.issuers.iter().map(|issuer| certificates(&what, &issuer.certificates));
            Ok(ClusterIssuers { cluster: cluster.name.clone(), chains: chains.collect::<Result<_>>()? })
        });
        let roots = certificates("the record's roots", roots)?;
        Self::new(name.clone(), aliases.clone(), roots, issuers.collect::<Result<_>>()?)
    }

    /// The mesh's trust domain.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Whether Istio accepts `domain` as this mesh's: `domain` is the trust domain, or exactly one of its aliases.
    pub fn is_own_domain(&self, domain: &str) -> bool {
        self.domain == domain || self.aliases.iter().any(|alias| alias == domain)
    }

    /// The mesh's roots.
    pub fn roots(&self) -> &[Certificate] {
        &self.roots
    }

    /// Whether the issuer of the workload certificates of `cluster` is known.
    pub fn names_issuer_of(&self, cluster: &str) -> bool {
        self.issuers.iter().any(|issuers| issuers.cluster == cluster && !issuers.chains.is_empty())
    }

    /// Verifies a workload's certificate without a chain, for the TLS role `usage`: through the issuers in the record,
    /// or directly below a root.
    ///
    /// # Errors
    /// [`Distrust`], by the fault.
    pub fn verify(&self, leaf: &Certificate, usage: Usage, now: SystemTime) -> Result<Verified, Distrust> {
        let signers = self.signers(leaf)?;
        let judged = signers.iter().map(|(_, chain)| self.holds_until(leaf, chain, usage, now));
        let expires = judged.reduce(better).unwrap_or_else(|| self.holds_until(leaf, &[], usage, now))?;
        verified(leaf, &signers, expires)
    }

    /// Verifies a chain sent by a peer: every certificate is signed by the next certificate, and the last by a root. A
    /// root in the chain ends it. More roots of the mesh may follow, because istiod appends all that it trusts.
    ///
    /// # Errors
    /// [`Distrust`], by the fault.
    pub fn verify_sent(&self, chain: &[Certificate], usage: Usage, now: SystemTime) -> Result<Verified, Distrust> {
        let Some((leaf, above)) = chain.split_first() else {
            return Err(Distrust::Unreadable { reason: "the peer sent no certificate".into() });
        };
        let end = chain.iter().position(|sent| self.roots.contains(sent)).map_or(chain.len(), |root| root + 1);
        let (path, bundle) = chain.split_at(end);
        for pair in path.windows(2) {
            path::is_signed(&pair[0], &pair[1])?;
        }
        if let (Some(last), Some(stranger)) = (path.last(), bundle.iter().find(|sent| !self.roots.contains(sent))) {
            path::is_signed(last, stranger)?;
        }
        let expires = self.holds_until(leaf, above, usage, now)?;
        verified(leaf, &self.signers(leaf)?, expires)
    }

    /// The clusters whose issuer signed `leaf`, each with the issuer's chain.
    fn signers(&self, leaf: &Certificate) -> Result<Vec<(&str, &[Certificate])>> {
        let mut signers = Vec::new();
        for ClusterIssuers { cluster, chains } in &self.issuers {
            for chain in chains {
                // With an empty chain, a root is the issuer.
                if leaf.is_signed_by_any(chain.get(..1).unwrap_or(&self.roots))? {
                    signers.push((cluster.as_str(), chain.as_slice()));
                }
            }
        }
        Ok(signers)
    }

    /// The end of the trust in `leaf` through the CAs `above` it, and through any root that signed the last CA.
    fn holds_until(
        &self,
        leaf: &Certificate,
        above: &[Certificate],
        usage: Usage,
        now: SystemTime,
    ) -> Result<SystemTime, Distrust> {
        let below_root = above.iter().position(|authority| self.roots.contains(authority)).unwrap_or(above.len());
        let above = &above[..below_root];
        let last = above.last().unwrap_or(leaf);
        let mut judged = Vec::new();
        for root in &self.roots {
            if last.is_signed_by(root)? {
                judged.push(Path { leaf, above, root }.holds_until(usage, now));
            }
        }
        judged.into_iter().reduce(better).unwrap_or_else(|| Err(unknown(leaf, above)?))
    }
}

/// All certificates of the PEM texts, in order.
fn certificates(what: &str, pems: &[String]) -> Result<Vec<Certificate>> {
    let mut certificates = Vec::new();
    for pem in pems {
        certificates.extend(Certificate::all_from_pem(what, pem)?);
    }
    Ok(certificates)
}

/// The better of two paths: the path that is valid longer. If both are invalid, the first.
fn better(one: Result<SystemTime, Distrust>, other: Result<SystemTime, Distrust>) -> Result<SystemTime, Distrust> {
    match (one, other) {
        (Ok(one), Ok(other)) => Ok(one.max(other)),
        (Ok(until), Err(_)) | (Err(_), Ok(until)) => Ok(until),
        (Err(first), Err(_)) => Err(first),
    }
}

fn verified(leaf: &Certificate, signers: &[(&str, &[Certificate])], expires: SystemTime) -> Result<Verified, Distrust> {
    let mut issued_by: Vec<String> = signers.iter().map(|(cluster, _)| (*cluster).to_owned()).collect();
    issued_by.dedup();
    Ok(Verified { id: leaf.spiffe_id()?, issued_by, expires })
}

/// The error if no root signed the last certificate of `leaf` and the CAs `above` it.
fn unknown(leaf: &Certificate, above: &[Certificate]) -> Result<Distrust> {
    let owner = leaf.owner()?;
    Ok(match above.last() {
        Some(last) => Distrust::UnknownRoot { owner, last: last.owner()? },
        None => Distrust::UnknownIssuer { owner, issuer: leaf.issuer()? },
    })
}
