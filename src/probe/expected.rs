//! What a claim expects of an outcome: always by kind, never "an error".

use std::fmt;

use meshproof_probe::Outcome;

/// The outcomes that satisfy a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// The service answers.
    Answered,
    /// The connection is reset once something has been sent on it.
    Reset,
    /// The connection is ended by the peer, by reset or in an orderly way, before any TLS is spoken.
    EndedBeforeTls,
    /// TLS is ended with one of these alerts.
    Alert(&'static [u8]),
}

/// Alerts that may refuse a client certificate, by what is wrong with it.
pub mod alert {
    /// There is none: TLS 1.2 says `handshake_failure`, 1.3 `certificate_required`.
    pub const NO_CERTIFICATE: &[u8] = &[40, 116];
    /// `unknown_ca`.
    pub const UNKNOWN_AUTHORITY: &[u8] = &[48];
    /// `decrypt_error`: its authority is known, and did not sign it. Verifiers that look for the authority by key
    /// identifier say `unknown_ca`.
    pub const FORGED: &[u8] = &[48, 51];
    /// `certificate_expired`.
    pub const EXPIRED: &[u8] = &[45];
    /// `certificate_unknown`: it verifies, and names nobody who may come in.
    pub const UNWELCOME_IDENTITY: &[u8] = &[46];
    /// `protocol_version`.
    pub const PROTOCOL_VERSION: &[u8] = &[70];
}

impl Expected {
    /// Whether `outcome` is one of them.
    pub fn is_met_by(self, outcome: &Outcome) -> bool {
        use meshproof_probe::Phase::{Handshake, Request, Response};
        match (self, outcome) {
            (Self::Answered, Outcome::Answered { .. })
            | (Self::Reset, Outcome::Reset { phase: Request | Response })
            | (Self::EndedBeforeTls, Outcome::Reset { phase: Handshake } | Outcome::Closed { phase: Handshake }) => {
                true
            }
            (Self::Alert(codes), Outcome::TlsAlert { code, .. }) => codes.contains(code),
            _ => false,
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered => f.write_str("answered"),
            Self::Reset => f.write_str("reset after the request"),
            Self::EndedBeforeTls => f.write_str("ended by the peer in the TLS handshake, without a TLS answer"),
            Self::Alert(codes) => {
                let codes: Vec<_> = codes.iter().map(u8::to_string).collect();
                write!(f, "TLS alert {}", codes.join(" or "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use meshproof_probe::Phase;

    use super::*;

    #[test]
    fn what_proves_nothing_meets_no_expectation() {
        let reason = String::new();
        let nothing = [
            Outcome::Timeout { phase: Phase::Response },
            Outcome::Timeout { phase: Phase::Handshake },
            Outcome::Dns { reason: reason.clone() },
            Outcome::Refused,
            Outcome::Unreachable { reason: reason.clone() },
            Outcome::Reset { phase: Phase::Connect },
            Outcome::Local { phase: Phase::Connect, reason: reason.clone() },
            Outcome::BadDial { reason: reason.clone() },
            Outcome::TlsFailed { reason: reason.clone() },
            Outcome::Malformed { reason: reason.clone() },
            Outcome::Http { status: 503, body: reason, server: None },
        ];
        for expected in [Expected::Answered, Expected::Reset, Expected::EndedBeforeTls, Expected::Alert(&[40, 116])] {
            for outcome in &nothing {
                assert!(!expected.is_met_by(outcome), "{outcome} taken for: {expected}");
            }
        }
    }

    #[test]
    fn an_alert_is_met_by_its_own_code_only() {
        let outcome = |code| Outcome::TlsAlert { phase: Phase::Response, code, name: String::new() };
        assert!(Expected::Alert(alert::EXPIRED).is_met_by(&outcome(45)));
        assert!(!Expected::Alert(alert::EXPIRED).is_met_by(&outcome(80)));
    }
}
