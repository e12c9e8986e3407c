//! X.509 certificates, reduced to what identities need.

use std::time::{Duration, UNIX_EPOCH};

use x509_parser::prelude::{FromDer, GeneralName, KeyUsage, Pem, X509Certificate};

use super::{SpiffeId, Usage, Window};
use crate::identity::{Error, Result};

/// A certificate that parses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate(Vec<u8>);

/// Restrictions by a certificate's extensions. An absent extension restricts nothing.
#[derive(Debug, Clone)]
pub(super) struct Rights {
    /// Whether this is a CA certificate.
    pub(super) is_authority: bool,
    /// Most CAs between this certificate and a leaf.
    pub(super) path_length: Option<u32>,
    /// Key usage.
    pub(super) key_usage: Option<KeyUsage>,
    /// TLS roles in the extended key usage.
    pub(super) usages: Option<Vec<Usage>>,
}

impl Certificate {
    /// All certificates of a PEM text, in order. `what` names the text in errors.
    ///
    /// # Errors
    /// [`Error`]: the text has no certificate, or one that cannot be parsed.
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

    /// The first certificate of a PEM text.
    ///
    /// # Errors
    /// The errors of [`Certificate::all_from_pem`].
    pub fn from_pem(what: &str, text: &str) -> Result<Self> {
        // Never empty: `all_from_pem` fails without a certificate.
        Ok(Self::all_from_pem(what, text)?.swap_remove(0))
    }

    /// The certificate in DER.
    pub fn der(&self) -> &[u8] {
        &self.0
    }

    fn with<T>(&self, read: impl FnOnce(&X509Certificate<'_>) -> Result<T, String>) -> Result<T> {
        let unreadable = |what: String, reason: String| Error { what, reason };
        let (_, certificate) = X509Certificate::from_der(&self.0)
            .map_err(|error| unreadable("a certificate".into(), error.to_string()))?;
        read(&certificate)
            .map_err(|reason| unreadable(format!("the certificate of `{}`", certificate.subject()), reason))
    }

    /// The certificate's SPIFFE ID.
    ///
    /// # Errors
    /// [`Error`]: there is no SPIFFE ID, more than one, or another kind of URI. SPIFFE allows exactly one URI.
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

    /// The name of the subject.
    ///
    /// # Errors
    /// [`Error`].
    pub fn subject(&self) -> Result<String> {
        self.with(|certificate| Ok(certificate.subject().to_string()))
    }

    /// The name of the issuer.
    ///
    /// # Errors
    /// [`Error`].
    pub fn issuer(&self) -> Result<String> {
        self.with(|certificate| Ok(certificate.issuer().to_string()))
    }

    /// Start and end of the validity.
    ///
    /// # Errors
    /// [`Error`].
    pub fn validity(&self) -> Result<Window> {
        self.with(|certificate| {
            let at = |time: i64| UNIX_EPOCH + Duration::from_secs(u64::try_from(time).unwrap_or(0));
            let validity = certificate.validity();
            Ok(Window { from: at(validity.not_before.timestamp()), until: at(validity.not_after.timestamp()) })
        })
    }

    /// The start of the validity, for messages.
    pub(super) fn valid_from_text(&self) -> Result<String> {
        self.with(|certificate| Ok(certificate.validity().not_before.to_string()))
    }

    /// The end of the validity, for messages.
    pub(super) fn valid_until_text(&self) -> Result<String> {
        self.with(|certificate| Ok(certificate.validity().not_after.to_string()))
    }

    /// The owner, for messages: the SPIFFE ID, or the subject if there is none.
    pub(super) fn owner(&self) -> Result<String> {
        let subject = self.subject()?;
        Ok(self.spiffe_id().map_or(subject, |id| id.to_string()))
    }

    /// Restrictions by the certificate's extensions.
    pub(super) fn rights(&self) -> Result<Rights> {
        self.with(|certificate| {
            let constraints = certificate.basic_constraints().map_err(|error| error.to_string())?;
            let key_usage = certificate.key_usage().map_err(|error| format!("its key usage: {error}"))?;
            let purposes = certificate.extended_key_usage();
            let purposes = purposes.map_err(|error| format!("its extended key usage: {error}"))?;
            let usages = purposes.map(|purposes| {
                let named = [(Usage::Server, purposes.value.server_auth), (Usage::Client, purposes.value.client_auth)];
                named.into_iter().filter(|(_, is_named)| *is_named).map(|(usage, _)| usage).collect()
            });
            Ok(Rights {
                is_authority: constraints.as_ref().is_some_and(|constraints| constraints.value.ca),
                path_length: constraints.and_then(|constraints| constraints.value.path_len_constraint),
                key_usage: key_usage.map(|usage| *usage.value),
                usages,
            })
        })
    }

    /// Whether the key of `authority` signed the certificate, and the issuer's name is that of `authority`.
    ///
    /// # Errors
    /// [`Error`]: one of the certificates cannot be parsed.
    pub fn is_signed_by(&self, authority: &Self) -> Result<bool> {
        authority.with(|authority| {
            let (_, certificate) = X509Certificate::from_der(&self.0).map_err(|error| error.to_string())?;
            Ok(certificate.issuer().as_raw() == authority.subject().as_raw()
                && certificate.verify_signature(Some(authority.public_key())).is_ok())
        })
    }

    /// Whether one of `authorities` signed the certificate.
    pub(super) fn is_signed_by_any(&self, authorities: &[Self]) -> Result<bool> {
        for authority in authorities {
            if self.is_signed_by(authority)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The certificates in a PEM text, each with its markers.
pub fn pem_certificates(text: &str) -> Vec<String> {
    const END: &str = "-----END CERTIFICATE-----\n";
    let each = text.split_inclusive(END).filter(|one| one.ends_with(END));
    each.map(|one| one.trim_start().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_of_a_text_are_told_apart() {
        let one = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
        let other = one.replace("AA", "BB");
        assert_eq!(pem_certificates(&format!("\n{one}{other}\n")), [one, &other]);
        assert_eq!(pem_certificates("no certificate"), Vec::<String>::new());
    }
}
