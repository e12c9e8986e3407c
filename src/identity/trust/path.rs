//! A path from a workload's certificate to a root: its validity, and its end.

use std::time::{SystemTime, UNIX_EPOCH};

use rustls::pki_types::{CertificateDer, UnixTime};
use webpki::EndEntityCert;

use super::distrust::Distrust;
use crate::identity::{Certificate, Usage, Window};

/// A leaf, the CAs above the leaf from the bottom up, and a root.
#[derive(Debug, Clone, Copy)]
pub(super) struct Path<'a> {
    pub(super) leaf: &'a Certificate,
    pub(super) above: &'a [Certificate],
    pub(super) root: &'a Certificate,
}

impl Path<'_> {
    /// Checks the path at `now`, and returns the end of its validity.
    ///
    /// A walk along the path names the faulty certificate, and checks what webpki omits: key usages, and everything on
    /// the root. Then webpki verifies the whole path. A refusal by webpki stands even if the walk found no fault.
    ///
    /// Like webpki, the check is stricter than RFC 5280. At most six CAs stand below the root. Self-issued CAs count
    /// into a path length. A certificate is refused if a CA above it constrains names of its kind and webpki cannot
    /// compare the names. SPIFFE IDs are URIs, and webpki cannot compare URIs: a CA that constrains URIs is never
    /// trusted.
    pub(super) fn holds_until(&self, usage: Usage, now: SystemTime) -> Result<SystemTime, Distrust> {
        let mut until = valid_until(self.leaf, now)?;
        is_workload(self.leaf, usage)?;
        let mut below = self.leaf;
        for (authorities_below, authority) in self.above.iter().chain([self.root]).enumerate() {
            may_sign(authority, authorities_below, usage)?;
            is_signed(below, authority)?;
            until = until.min(valid_until(authority, now)?);
            below = authority;
        }
        self.webpki(usage, now).map_err(|error| match self.leaf.owner() {
            Ok(owner) => Distrust::Refused { owner, reason: error.to_string() },
            Err(unreadable) => unreadable.into(),
        })?;
        Ok(until)
    }

    fn webpki(&self, usage: Usage, now: SystemTime) -> Result<(), webpki::Error> {
        let [leaf, root] = [self.leaf, self.root].map(|certificate| CertificateDer::from(certificate.der()));
        let above: Vec<_> = self.above.iter().map(|authority| CertificateDer::from(authority.der())).collect();
        // A trust anchor may have extensions that webpki does not support. Parsing the root as an end entity rejects
        // them.
        EndEntityCert::try_from(&root)?;
        let anchors = [webpki::anchor_from_trusted_cert(&root)?];
        // Before 1970 no certificate is valid.
        let now = UnixTime::since_unix_epoch(now.duration_since(UNIX_EPOCH).unwrap_or_default());
        let leaf = EndEntityCert::try_from(&leaf)?;
        let algorithms = webpki::ALL_VERIFICATION_ALGS;
        leaf.verify_for_usage(algorithms, &anchors, &above, now, usage.for_webpki(), None, None).map(|_| ())
    }
}

/// Checks that `leaf` may authenticate a workload, and cannot sign certificates or CRLs, as SPIFFE requires. The
/// extended key usage must name the usage, because istiod always writes one.
fn is_workload(leaf: &Certificate, usage: Usage) -> Result<(), Distrust> {
    let rights = leaf.rights()?;
    let owner = leaf.owner()?;
    if rights.is_authority || rights.key_usage.is_some_and(|key| key.key_cert_sign() || key.crl_sign()) {
        return Err(Distrust::AuthorityAsWorkload { owner });
    }
    if rights.key_usage.is_some_and(|key| !key.digital_signature()) {
        return Err(Distrust::MayNotShakeHands { owner });
    }
    if !rights.usages.is_some_and(|named| named.contains(&usage)) {
        return Err(Distrust::WrongUsage { owner, usage });
    }
    Ok(())
}

/// Checks that `authority` may sign certificates for this usage, with this many CAs below it.
fn may_sign(authority: &Certificate, authorities_below: usize, usage: Usage) -> Result<(), Distrust> {
    let rights = authority.rights()?;
    let owner = authority.owner()?;
    if !rights.is_authority {
        return Err(Distrust::NotAnAuthority { owner });
    }
    if rights.key_usage.is_some_and(|key| !key.key_cert_sign()) {
        return Err(Distrust::MayNotSign { owner });
    }
    if let Some(allowed) = rights.path_length
        && !u32::try_from(authorities_below).is_ok_and(|found| found <= allowed)
    {
        return Err(Distrust::TooLong { owner, allowed, found: authorities_below });
    }
    if rights.usages.is_some_and(|named| !named.contains(&usage)) {
        return Err(Distrust::WrongUsage { owner, usage });
    }
    Ok(())
}

/// Checks that `authority` signed `certificate`.
pub(super) fn is_signed(certificate: &Certificate, authority: &Certificate) -> Result<(), Distrust> {
    if certificate.is_signed_by(authority)? {
        return Ok(());
    }
    Err(Distrust::BrokenChain { owner: certificate.owner()?, authority: authority.owner()? })
}

/// The end of the validity of `certificate`, if `certificate` is valid at `now`.
fn valid_until(certificate: &Certificate, now: SystemTime) -> Result<SystemTime, Distrust> {
    let Window { from, until } = certificate.validity()?;
    if now < from {
        return Err(Distrust::NotYetValid { owner: certificate.owner()?, from: certificate.valid_from_text()? });
    }
    if now > until {
        return Err(Distrust::Expired { owner: certificate.owner()?, on: certificate.valid_until_text()? });
    }
    Ok(until)
}

#[cfg(test)]
mod tests;
