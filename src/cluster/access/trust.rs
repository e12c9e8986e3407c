//! What a kubeconfig says of the API server's certificate.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use x509_parser::prelude::{FromDer, Pem, X509Certificate};

use super::error::{Error, Place};
use super::files::Selected;

/// The certificates that an API server's certificate must chain to.
#[derive(Debug, Clone)]
pub(super) struct Authority {
    /// The certificates, DER.
    pub(super) certificates: Vec<Vec<u8>>,
    /// The subjects of those that are no CA's.
    pub(super) leaves: Vec<String>,
    /// The field they are from.
    pub(super) place: Box<Place>,
}

/// The certificates in `certificate-authority-data`, else in the file of `certificate-authority`.
///
/// # Errors
/// [`Error::Field`]: no certificate can be read from the field.
pub(super) fn authority(of: &Selected) -> Result<Option<Authority>, Error> {
    let inline = of.cluster.certificate_authority_data.as_deref().filter(|data| !data.is_empty());
    let file = of.cluster.certificate_authority.as_deref().filter(|file| !file.is_empty());
    let (place, pem) = match (inline, file) {
        (None, None) => return Ok(None),
        (Some(data), _) => {
            let place = of.of_cluster("certificate-authority-data");
            // Some tools fold the text.
            let data: String = data.chars().filter(|c| !c.is_whitespace()).collect();
            let pem = STANDARD.decode(data).map_err(|error| of.wrong(place.clone(), format!("not base64: {error}")))?;
            (place, pem)
        }
        (None, Some(file)) => {
            let place = of.of_cluster("certificate-authority");
            let pem = std::fs::read(file).map_err(|error| of.wrong(place.clone(), format!("{file}: {error}")))?;
            (place, pem)
        }
    };
    let (mut certificates, mut leaves) = (Vec::new(), Vec::new());
    for block in Pem::iter_from_buffer(&pem) {
        let block = block.map_err(|error| of.wrong(place.clone(), format!("not PEM: {error}")))?;
        if block.label != "CERTIFICATE" {
            continue;
        }
        let (_, certificate) = X509Certificate::from_der(&block.contents)
            .map_err(|error| of.wrong(place.clone(), format!("not a certificate: {error}")))?;
        // A certificate of version 1 has no extensions, and may be a CA's.
        let may_sign = certificate.is_ca() || certificate.version() != x509_parser::x509::X509Version::V3;
        if !may_sign {
            leaves.push(certificate.subject().to_string());
        }
        certificates.push(block.contents);
    }
    if certificates.is_empty() {
        return Err(of.wrong(place, "there is no certificate in it: it must be PEM, beginning with BEGIN CERTIFICATE"));
    }
    Ok(Some(Authority { certificates, leaves, place }))
}
