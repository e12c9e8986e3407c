//! Certificates that a mesh must refuse, and the ones that differ from them in a single respect.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_RSA_SHA256, RsaKeySize, SanType,
};

use super::SpiffeId;
use crate::identity::{Error, Result};

/// A client certificate with its intermediates, and its key.
#[derive(Debug, Clone)]
pub struct ClientCertificate {
    /// Leaf first, PEM.
    pub chain_pem: String,
    /// PEM.
    pub key_pem: String,
}

/// When a minted certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// From two minutes ago for an hour: as istiod issues them, tolerant of a slow clock.
    Now,
    /// For an hour that ended an hour ago.
    Expired,
}

impl Validity {
    fn window(self) -> (SystemTime, SystemTime) {
        let now = SystemTime::now();
        let ago = |seconds| now - Duration::from_secs(seconds);
        match self {
            Self::Now => (ago(120), now + Duration::from_secs(3_600)),
            Self::Expired => (ago(7_200), ago(3_600)),
        }
    }
}

/// A certificate authority that signs whatever it is asked to.
pub struct Minter {
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
    chain_pem: String,
}

impl Minter {
    /// A root that nobody trusts.
    ///
    /// # Errors
    /// [`Error`].
    pub fn authority(name: &str) -> Result<Self> {
        Self::authority_with(name, |_| ())
    }

    /// The same, changed before it is signed.
    pub(super) fn authority_with(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Result<Self> {
        let key = KeyPair::generate().map_err(cannot("a root"))?;
        let mut params = authority(name);
        change(&mut params);
        let certificate_pem = params.self_signed(&key).map_err(cannot("a root"))?.pem();
        Ok(Self { issuer: Issuer::new(params, key), chain_pem: certificate_pem.clone(), certificate_pem })
    }

    /// An intermediate of this authority.
    ///
    /// # Errors
    /// [`Error`].
    pub fn intermediate(&self, name: &str) -> Result<Self> {
        self.intermediate_with(name, |_| ())
    }

    /// The same, changed before it is signed.
    pub(super) fn intermediate_with(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Result<Self> {
        let key = KeyPair::generate().map_err(cannot("an intermediate"))?;
        let mut params = authority(name);
        change(&mut params);
        let certificate_pem = params.signed_by(&key, &self.issuer).map_err(cannot("an intermediate"))?.pem();
        let chain_pem = format!("{certificate_pem}{}", self.chain_pem);
        Ok(Self { issuer: Issuer::new(params, key), certificate_pem, chain_pem })
    }

    /// The authority of these PEM texts: its certificate, its key, and its certificate followed by those above it.
    ///
    /// # Errors
    /// [`Error`], with `what` as its name.
    pub fn from_pem(what: &str, certificate_pem: String, key_pem: &str, chain_pem: String) -> Result<Self> {
        let key = KeyPair::from_pem(key_pem).map_err(cannot(what))?;
        let issuer = Issuer::from_ca_cert_pem(&certificate_pem, key).map_err(cannot(what))?;
        Ok(Self { issuer, certificate_pem, chain_pem })
    }

    /// An impostor: this authority's name and chain, another key.
    ///
    /// # Errors
    /// [`Error`].
    pub fn forged(&self) -> Result<Self> {
        let key = KeyPair::generate().map_err(cannot("a forged key"))?;
        let issuer = Issuer::from_ca_cert_pem(&self.certificate_pem, key).map_err(cannot("a forged issuer"))?;
        Ok(Self { issuer, certificate_pem: self.certificate_pem.clone(), chain_pem: self.chain_pem.clone() })
    }

    /// This authority's certificate, and those above it.
    pub fn chain_pem(&self) -> &str {
        &self.chain_pem
    }

    /// A workload certificate, in everything but the arguments as istiod issues them.
    ///
    /// # Errors
    /// [`Error`].
    pub fn mint(&self, id: &SpiffeId, validity: Validity) -> Result<ClientCertificate> {
        self.mint_with(id, validity, |_| ())
    }

    /// The same, changed before it is signed.
    pub(crate) fn mint_with(
        &self,
        id: &SpiffeId,
        validity: Validity,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Result<ClientCertificate> {
        let what = format!("a certificate for {id}");
        let key = KeyPair::generate().map_err(cannot(&what))?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(id.to_string().try_into().map_err(cannot(&what))?)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let (from, until) = validity.window();
        (params.not_before, params.not_after) = (from.into(), until.into());
        change(&mut params);
        let leaf = params.signed_by(&key, &self.issuer).map_err(cannot(&what))?;
        Ok(ClientCertificate { chain_pem: format!("{}{}", leaf.pem(), self.chain_pem), key_pem: key.serialize_pem() })
    }
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// A server's certificate for DNS names, signed by itself with a key of RSA-2048, and the key; both PEM.
///
/// # Errors
/// [`Error`], for a name that is none.
pub fn self_signed_rsa(names: &[&str]) -> Result<(String, String)> {
    let what = format!("a certificate for {}", names.join(", "));
    let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).map_err(cannot(&what))?;
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let certificate =
        CertificateParams::new(names).and_then(|params| params.self_signed(&key)).map_err(cannot(&what))?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// A certificate request for `id`, PEM, and its key.
pub(crate) fn request(id: &SpiffeId) -> Result<(String, KeyPair)> {
    let what = format!("a certificate request for {id}");
    let key = KeyPair::generate().map_err(cannot(&what))?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(id.to_string().try_into().map_err(cannot(&what))?)];
    let request = params.serialize_request(&key).and_then(|request| request.pem()).map_err(cannot(&what))?;
    Ok((request, key))
}

pub(super) fn cannot(what: &str) -> impl FnOnce(rcgen::Error) -> Error {
    let what = what.to_owned();
    move |error| Error { what, reason: format!("cannot be made: {error}") }
}
