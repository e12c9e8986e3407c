//! X.509 certificates, as little of them as identity needs.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use x509_parser::prelude::{FromDer, GeneralName, Pem, X509Certificate};

use super::SpiffeId;
use crate::identity::{Error, Result};

/// One certificate, known to parse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate(Vec<u8>);

impl Certificate {
    /// Every certificate of a PEM text, in order; `what` names the text in errors.
    ///
    /// # Errors
    /// [`Error`] where the text holds none, or one that cannot be read.
    pub fn all_from_pem(what: &str, text: &str) -> Result<Vec<Self>> {
        let unreadable = |reason: String| Error { what: what.into(), reason };
        let mut certificates = Vec::new();
        for pem in Pem::iter_from_buffer(text.as_bytes()) {
            let pem = pem.map_err(|error| unreadable(format!("not PEM: {error}")))?;
            if pem.label == "CERTIFICATE" {
                pem.parse_x509().map_err(|error| unreadable(format!("not a certificate: {error}")))?;
                certificates.push(Self(pem.contents));
            }
        }
        if certificates.is_empty() {
            return Err(unreadable("no certificate in it".into()));
        }
        Ok(certificates)
    }

    /// The one certificate, or the first, of a PEM text.
    ///
    /// # Errors
    /// As [`Certificate::all_from_pem`].
    pub fn from_pem(what: &str, text: &str) -> Result<Self> {
        // Never empty: that is an error above.
        Ok(Self::all_from_pem(what, text)?.swap_remove(0))
    }

    /// The certificate's bytes.
    pub fn der(&self) -> &[u8] {
        &self.0
    }

    fn with<T>(&self, read: impl FnOnce(&X509Certificate<'_>) -> Result<T, String>) -> Result<T> {
        let parsed = X509Certificate::from_der(&self.0).map_err(|error| error.to_string());
        let read = parsed.and_then(|(_, certificate)| read(&certificate));
        read.map_err(|reason| Error { what: "a certificate".into(), reason })
    }

    /// The one SPIFFE id it carries.
    ///
    /// # Errors
    /// [`Error`] where it carries none, several, or another kind of URI: SPIFFE allows exactly one.
    pub fn spiffe_id(&self) -> Result<SpiffeId> {
        let uris = self.with(|certificate| {
            let names = certificate.subject_alternative_name().map_err(|error| error.to_string())?;
            let names = names.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
            let uris = names.iter().filter_map(|name| match name {
                GeneralName::URI(uri) => Some((*uri).to_owned()),
                _ => None,
            });
            Ok(uris.collect::<Vec<_>>())
        })?;
        match uris.as_slice() {
            [uri] => uri.parse(),
            uris => Err(Error {
                what: "a certificate".into(),
                reason: format!("it carries {} URIs ({}) where SPIFFE allows one", uris.len(), uris.join(", ")),
            }),
        }
    }

    /// Its subject's and its issuer's names.
    ///
    /// # Errors
    /// [`Error`].
    pub fn names(&self) -> Result<(String, String)> {
        self.with(|certificate| Ok((certificate.subject().to_string(), certificate.issuer().to_string())))
    }

    /// From when and until when it is valid.
    ///
    /// # Errors
    /// [`Error`].
    pub fn validity(&self) -> Result<(SystemTime, SystemTime)> {
        self.with(|certificate| {
            let at = |time: i64| UNIX_EPOCH + Duration::from_secs(u64::try_from(time).unwrap_or(0));
            let validity = certificate.validity();
            Ok((at(validity.not_before.timestamp()), at(validity.not_after.timestamp())))
        })
    }

    /// Whether it may sign certificates.
    ///
    /// # Errors
    /// [`Error`].
    pub fn is_authority(&self) -> Result<bool> {
        self.with(|certificate| Ok(certificate.is_ca()))
    }

    /// Whether `authority`'s key signed it, and its issuer is `authority` by name.
    ///
    /// # Errors
    /// [`Error`] where either cannot be read.
    pub fn is_signed_by(&self, authority: &Self) -> Result<bool> {
        authority.with(|authority| {
            let (_, certificate) = X509Certificate::from_der(&self.0).map_err(|error| error.to_string())?;
            Ok(certificate.issuer().as_raw() == authority.subject().as_raw()
                && certificate.verify_signature(Some(authority.public_key())).is_ok())
        })
    }
}
