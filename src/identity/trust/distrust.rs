//! Why a certificate is not trusted.

use crate::identity::Usage;

/// Why a certificate is not trusted. `owner` is whose certificate is at fault: a SPIFFE id, or a subject.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    /// No authority of the mesh signed it.
    #[error(
        "no issuer in the record and no root of the mesh signed the certificate of `{owner}`; it names `{issuer}` as its issuer"
    )]
    UnknownIssuer {
        /// Whose certificate.
        owner: String,
        /// Its issuer's name.
        issuer: String,
    },
    /// The chain ends below a root that is not the mesh's.
    #[error("the chain of `{owner}` ends in the certificate of `{last}`, which no root of the mesh signed")]
    UnknownRoot {
        /// Whose chain.
        owner: String,
        /// Whose certificate is the last of the chain.
        last: String,
    },
    /// A certificate is not signed by the one that follows it.
    #[error("the certificate of `{owner}` is not signed by `{authority}`, whose certificate follows it")]
    BrokenChain {
        /// Whose certificate.
        owner: String,
        /// Whose certificate follows it.
        authority: String,
    },
    /// Its validity begins later.
    #[error("the certificate of `{owner}` is not valid before {from}")]
    NotYetValid {
        /// Whose certificate.
        owner: String,
        /// When its validity begins.
        from: String,
    },
    /// Its validity is over.
    #[error("the certificate of `{owner}` expired on {on}")]
    Expired {
        /// Whose certificate.
        owner: String,
        /// When its validity ended.
        on: String,
    },
    /// It signed a certificate, and is not an authority's.
    #[error("`{owner}` signed a certificate, and its own is not marked as an authority's")]
    NotAnAuthority {
        /// Whose certificate.
        owner: String,
    },
    /// It is an authority's, and its key usage forbids signing certificates.
    #[error("`{owner}` signed a certificate, and its own key usage lacks keyCertSign")]
    MayNotSign {
        /// Whose certificate.
        owner: String,
    },
    /// More authorities stand below it than it allows.
    #[error("`{owner}` allows {allowed} authorities below itself (path length), and there are {found}")]
    TooLong {
        /// Whose certificate.
        owner: String,
        /// How many authorities it allows.
        allowed: u32,
        /// How many there are.
        found: usize,
    },
    /// A workload shows a certificate with which it could sign others.
    #[error("the certificate of `{owner}` is an authority's; a workload's may not sign certificates")]
    AuthorityAsWorkload {
        /// Whose certificate.
        owner: String,
    },
    /// A workload's key usage forbids the signature of a TLS handshake.
    #[error("the key usage of the certificate of `{owner}` lacks digitalSignature, which TLS needs")]
    MayNotShakeHands {
        /// Whose certificate.
        owner: String,
    },
    /// It was shown in a part of the handshake that it is not made out for.
    #[error("the certificate of `{owner}` is not one for a {usage}: its extended key usage lacks {}", usage.purpose())]
    WrongUsage {
        /// Whose certificate.
        owner: String,
        /// The part it was shown in.
        usage: Usage,
    },
    /// `rustls-webpki` refuses the path, for a reason that none of the others names.
    #[error("rustls-webpki refuses the certificate of `{owner}`, or one above it: {reason}")]
    Refused {
        /// Whose certificate is at the beginning of the path.
        owner: String,
        /// Its reason.
        reason: String,
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
