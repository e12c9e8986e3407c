//! Certificates that a mesh must refuse, and controls that differ from them in one respect.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_RSA_SHA256, RsaKeySize, SanType,
};

use super::{SpiffeId, Window};
use crate::identity::{Error, Result};

/// A client certificate with its intermediates, and its private key.
#[derive(Debug, Clone)]
pub struct ClientCertificate {
    /// Leaf first, PEM.
    pub chain_pem: String,
    /// PEM.
    pub key_pem: String,
}

/// A server certificate and its private key.
#[derive(Debug, Clone)]
pub struct ServerCertificate {
    /// PEM.
    pub certificate_pem: String,
    /// PEM.
    pub key_pem: String,
}

/// A certificate signing request and its private key.
pub(crate) struct SigningRequest {
    /// The request, PEM.
    pub(crate) pem: String,
    /// The key.
    pub(crate) key: KeyPair,
}

/// Validity of a minted certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// One hour, starting two minutes ago: like istiod, which tolerates clock skew.
    Now,
    /// One hour, ended one hour ago.
    Expired,
    /// From two minutes ago, until this time from now.
    For(Duration),
}

/// A respect in which a minted certificate is odd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Oddity {
    /// Its name goes on behind a NUL byte: a reader that stops there takes it for the name before.
    NulInName,
    /// It may protect email only, and neither clients nor servers.
    EmailOnly,
}

impl Validity {
    fn window(self) -> Window {
        let now = SystemTime::now();
        let ago = |seconds| now - Duration::from_secs(seconds);
        match self {
            Self::Now => Window { from: ago(120), until: now + Duration::from_secs(3_600) },
            Self::Expired => Window { from: ago(7_200), until: ago(3_600) },
            Self::For(duration) => Window { from: ago(120), until: now + duration },
        }
    }
}

/// A CA that signs any certificate.
pub struct Minter {
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
    chain_pem: String,
}

impl Minter {
    /// A root that no mesh trusts.
    ///
    /// # Errors
    /// [`Error`].
    pub fn authority(name: &str) -> Result<Self> {
        Self::authority_with(name, |_| ())
    }

    /// Like [`Self::authority`], for this time from now.
    ///
    /// # Errors
    /// [`Error`].
    pub fn authority_for(name: &str, lifetime: Duration) -> Result<Self> {
        Self::authority_with(name, |params| last(params, lifetime))
    }

    /// Like [`Self::authority`], with `change` applied before signing.
    pub(super) fn authority_with(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Result<Self> {
        let key = KeyPair::generate().map_err(cannot("a root"))?;
        let mut params = authority(name);
        change(&mut params);
        let certificate_pem = params.self_signed(&key).map_err(cannot("a root"))?.pem();
        Ok(Self { issuer: Issuer::new(params, key), chain_pem: certificate_pem.clone(), certificate_pem })
    }

    /// An intermediate CA of this CA.
    ///
    /// # Errors
    /// [`Error`].
    pub fn intermediate(&self, name: &str) -> Result<Self> {
        self.intermediate_with(name, |_| ())
    }

    /// Like [`Self::intermediate`], for this time from now.
    ///
    /// # Errors
    /// [`Error`].
    pub fn intermediate_for(&self, name: &str, lifetime: Duration) -> Result<Self> {
        self.intermediate_with(name, |params| last(params, lifetime))
    }

    /// Like [`Self::intermediate`], with `change` applied before signing.
    pub(super) fn intermediate_with(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Result<Self> {
        let key = KeyPair::generate().map_err(cannot("an intermediate"))?;
        let mut params = authority(name);
        change(&mut params);
        let certificate_pem = params.signed_by(&key, &self.issuer).map_err(cannot("an intermediate"))?.pem();
        let chain_pem = format!("{certificate_pem}{}", self.chain_pem);
        Ok(Self { issuer: Issuer::new(params, key), certificate_pem, chain_pem })
    }

    /// The CA in these PEM texts: its certificate, its private key, and its chain (its certificate followed by its
    /// parents).
    ///
    /// # Errors
    /// [`Error`], with the name `what`.
    pub fn from_pem(what: &str, certificate_pem: String, key_pem: &str, chain_pem: String) -> Result<Self> {
        let key = KeyPair::from_pem(key_pem).map_err(cannot(what))?;
        let issuer = Issuer::from_ca_cert_pem(&certificate_pem, key).map_err(cannot(what))?;
        Ok(Self { issuer, certificate_pem, chain_pem })
    }

    /// A forged CA: the same name and chain, with another key.
    ///
    /// # Errors
    /// [`Error`].
    pub fn forged(&self) -> Result<Self> {
        let key = KeyPair::generate().map_err(cannot("a forged key"))?;
        let issuer = Issuer::from_ca_cert_pem(&self.certificate_pem, key).map_err(cannot("a forged issuer"))?;
        Ok(Self { issuer, certificate_pem: self.certificate_pem.clone(), chain_pem: self.chain_pem.clone() })
    }

    /// The CA's certificate, PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The CA's certificate followed by its parents, PEM.
    pub fn chain_pem(&self) -> &str {
        &self.chain_pem
    }

    /// The CA's private key, PEM.
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// A workload certificate for the arguments, otherwise like istiod's.
    ///
    /// # Errors
    /// [`Error`].
    pub fn mint(&self, id: &SpiffeId, validity: Validity) -> Result<ClientCertificate> {
        self.mint_with(id, validity, |_| ())
    }

    /// A certificate of a server with these DNS names, valid [now](Validity::Now).
    ///
    /// # Errors
    /// [`Error`]: a name is invalid.
    pub fn server(&self, names: &[&str]) -> Result<ServerCertificate> {
        let what = format!("a certificate for {}", names.join(", "));
        let key = KeyPair::generate().map_err(cannot(&what))?;
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).map_err(cannot(&what))?;
        params.distinguished_name = DistinguishedName::new();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let Window { from, until } = Validity::Now.window();
        (params.not_before, params.not_after) = (from.into(), until.into());
        let leaf = params.signed_by(&key, &self.issuer).map_err(cannot(&what))?;
        Ok(ServerCertificate { certificate_pem: leaf.pem(), key_pem: key.serialize_pem() })
    }

    /// Like [`Self::mint`], and odd.
    ///
    /// # Errors
    /// [`Error`].
    pub fn mint_odd(&self, id: &SpiffeId, oddity: Oddity) -> Result<ClientCertificate> {
        let longer = format!("{id}\0.meshproof.test").try_into();
        let longer = SanType::URI(longer.map_err(cannot(&format!("a certificate for {id} with a NUL byte")))?);
        self.mint_with(id, Validity::Now, |params| match oddity {
            Oddity::NulInName => params.subject_alt_names = vec![longer],
            Oddity::EmailOnly => params.extended_key_usages = vec![ExtendedKeyUsagePurpose::EmailProtection],
        })
    }

    /// Like [`Self::mint`], with `change` applied before signing.
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
        let Window { from, until } = validity.window();
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

fn last(params: &mut CertificateParams, lifetime: Duration) {
    let Window { from, until } = Validity::For(lifetime).window();
    (params.not_before, params.not_after) = (from.into(), until.into());
}

/// A self-signed server certificate for DNS names, with an RSA-2048 key.
///
/// # Errors
/// [`Error`]: a name is invalid.
pub fn self_signed_rsa(names: &[&str]) -> Result<ServerCertificate> {
    let what = format!("a certificate for {}", names.join(", "));
    let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).map_err(cannot(&what))?;
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let certificate =
        CertificateParams::new(names).and_then(|params| params.self_signed(&key)).map_err(cannot(&what))?;
    Ok(ServerCertificate { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
}

/// A certificate signing request for `id`.
pub(crate) fn request(id: &SpiffeId) -> Result<SigningRequest> {
    let what = format!("a certificate request for {id}");
    let key = KeyPair::generate().map_err(cannot(&what))?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(id.to_string().try_into().map_err(cannot(&what))?)];
    let pem = params.serialize_request(&key).and_then(|request| request.pem()).map_err(cannot(&what))?;
    Ok(SigningRequest { pem, key })
}

pub(super) fn cannot(what: &str) -> impl FnOnce(rcgen::Error) -> Error {
    let what = what.to_owned();
    move |error| Error { what, reason: format!("cannot be made: {error}") }
}
