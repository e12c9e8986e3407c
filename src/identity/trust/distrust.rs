//! Why a certificate is not trusted.

use crate::identity::Usage;

/// Why a certificate is not trusted. `owner` is the owner of the faulty certificate: a SPIFFE ID, or a subject.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    /// No CA of the mesh signed the certificate.
    #[error(
        "no issuer in the record and no root of the mesh signed the certificate of `{owner}`; it names `{issuer}` as its issuer"
    )]
    UnknownIssuer {
        /// Owner of the certificate.
        owner: String,
        /// Name of the issuer.
        issuer: String,
    },
    /// The chain ends below a root that is not the mesh's.
    #[error("the chain of `{owner}` ends in the certificate of `{last}`, which no root of the mesh signed")]
    UnknownRoot {
        /// Owner of the chain.
        owner: String,
        /// Owner of the last certificate in the chain.
        last: String,
    },
    /// The next certificate in the chain did not sign a certificate.
    #[error("the certificate of `{owner}` is not signed by `{authority}`, whose certificate follows it")]
    BrokenChain {
        /// Owner of the certificate.
        owner: String,
        /// Owner of the next certificate.
        authority: String,
    },
    /// The certificate's validity starts later.
    #[error("the certificate of `{owner}` is not valid before {from}")]
    NotYetValid {
        /// Owner of the certificate.
        owner: String,
        /// Start of the validity.
        from: String,
    },
    /// The certificate's validity has ended.
    #[error("the certificate of `{owner}` expired on {on}")]
    Expired {
        /// Owner of the certificate.
        owner: String,
        /// End of the validity.
        on: String,
    },
    /// The certificate signed another certificate, but is not a CA certificate.
    #[error("`{owner}` signed a certificate, and its own is not marked as an authority's")]
    NotAnAuthority {
        /// Owner of the certificate.
        owner: String,
    },
    /// The certificate is a CA certificate, but its key usage forbids signing certificates.
    #[error("`{owner}` signed a certificate, and its own key usage lacks keyCertSign")]
    MayNotSign {
        /// Owner of the certificate.
        owner: String,
    },
    /// There are more CAs below the certificate than its path length allows.
    #[error("`{owner}` allows {allowed} authorities below itself (path length), and there are {found}")]
    TooLong {
        /// Owner of the certificate.
        owner: String,
        /// Number of CAs allowed.
        allowed: u32,
        /// Number of CAs found.
        found: usize,
    },
    /// A workload's certificate can sign other certificates.
    #[error("the certificate of `{owner}` is an authority's; a workload's may not sign certificates")]
    AuthorityAsWorkload {
        /// Owner of the certificate.
        owner: String,
    },
    /// The key usage of a workload's certificate forbids the signature of a TLS handshake.
    #[error("the key usage of the certificate of `{owner}` lacks digitalSignature, which TLS needs")]
    MayNotShakeHands {
        /// Owner of the certificate.
        owner: String,
    },
    /// The extended key usage lacks the TLS role that the certificate was used in.
    #[error("the certificate of `{owner}` is not one for a {usage}: its extended key usage lacks {}", usage.purpose())]
    WrongUsage {
        /// Owner of the certificate.
        owner: String,
        /// The TLS role.
        usage: Usage,
    },
    /// `rustls-webpki` refuses the path for another reason.
    #[error("rustls-webpki refuses the certificate of `{owner}`, or one above it: {reason}")]
    Refused {
        /// Owner of the first certificate of the path.
        owner: String,
        /// The reason.
        reason: String,
    },
    /// The certificate cannot be parsed, or has no identity.
    #[error("{reason}")]
    Unreadable {
        /// The reason.
        reason: String,
    },
}

impl From<crate::identity::Error> for Distrust {
    fn from(error: crate::identity::Error) -> Self {
        Self::Unreadable { reason: error.to_string() }
    }
}
