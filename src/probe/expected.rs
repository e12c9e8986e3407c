//! The expected outcome of a claim: always a specific kind, never "any error".

use std::fmt;

use meshproof_probe::Outcome;

/// The outcomes that satisfy a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// The service answers.
    Answered,
    /// The connection is reset after data was sent.
    Reset,
    /// The peer ends the connection, by RST or FIN, before TLS.
    EndedBeforeTls,
    /// The peer ends the connection, by RST or FIN, after data was sent and before an answer. A proxy refuses callers
    /// in this way if the protocol has no error message.
    EndedBeforeAnswer,
    /// One of these alerts ends TLS.
    Alert(&'static [u8]),
    /// Nothing listens on the port.
    Refused,
    /// The HTTP answer has this error status.
    Http(u16),
    /// The gRPC answer has this error status.
    Grpc(u16),
}

/// gRPC statuses that refuse a call.
pub mod grpc {
    /// `PERMISSION_DENIED`.
    pub const PERMISSION_DENIED: u16 = 7;
    /// `UNAVAILABLE`: by a proxy whose endpoint fails.
    pub const UNAVAILABLE: u16 = 14;
}

/// TLS alerts that may refuse a client certificate, by the certificate's fault.
pub mod alert {
    /// No certificate: `handshake_failure` in TLS 1.2, `certificate_required` in TLS 1.3.
    pub const NO_CERTIFICATE: &[u8] = &[40, 116];
    /// `unknown_ca`.
    pub const UNKNOWN_AUTHORITY: &[u8] = &[48];
    /// `decrypt_error`: the CA is known, but did not sign the certificate. Verifiers that look up the CA by key
    /// identifier send `unknown_ca`.
    pub const FORGED: &[u8] = &[48, 51];
    /// `certificate_expired`.
    pub const EXPIRED: &[u8] = &[45];
    /// `certificate_unknown`: the certificate verifies, but its identity is not allowed.
    pub const UNWELCOME_IDENTITY: &[u8] = &[46];
    /// `unsupported_certificate`: the certificate is for another purpose.
    pub const WRONG_USAGE: &[u8] = &[43];
    /// `protocol_version`.
    pub const PROTOCOL_VERSION: &[u8] = &[70];
}

impl Expected {
    /// Whether `outcome` satisfies the claim.
    pub fn is_met_by(self, outcome: &Outcome) -> bool {
        use meshproof_probe::Phase::{Handshake, Request, Response};
        match (self, outcome) {
            (Self::Answered, Outcome::Answered { .. })
            | (Self::Reset, Outcome::Reset { phase: Request | Response })
            | (Self::EndedBeforeTls, Outcome::Reset { phase: Handshake } | Outcome::Closed { phase: Handshake })
            | (
                Self::EndedBeforeAnswer,
                Outcome::Reset { phase: Request | Response } | Outcome::Closed { phase: Request | Response },
            )
            | (Self::Refused, Outcome::Refused) => true,
            (Self::Alert(codes), Outcome::TlsAlert { code, .. }) => codes.contains(code),
            (Self::Http(wanted), Outcome::Http { status, .. }) => wanted == *status,
            (Self::Grpc(wanted), Outcome::Grpc { code, .. }) => wanted == *code,
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
            Self::EndedBeforeAnswer => f.write_str("ended by the peer after the request, without an answer"),
            Self::Refused => f.write_str("connection refused"),
            Self::Http(status) => write!(f, "HTTP status {status}"),
            Self::Grpc(code) => write!(f, "gRPC status {code}"),
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
            Outcome::Unreachable { reason: reason.clone() },
            Outcome::Reset { phase: Phase::Connect },
            Outcome::Local { phase: Phase::Connect, reason: reason.clone() },
            Outcome::BadDial { reason: reason.clone() },
            Outcome::TlsFailed { reason: reason.clone() },
            Outcome::Malformed { reason: reason.clone() },
            Outcome::Http { status: 503, body: reason.clone(), server: None },
            Outcome::Grpc { code: 14, message: reason },
        ];
        for expected in [
            Expected::Answered,
            Expected::Reset,
            Expected::EndedBeforeTls,
            Expected::EndedBeforeAnswer,
            Expected::Alert(&[40, 116]),
            Expected::Refused,
            Expected::Http(403),
            Expected::Grpc(grpc::PERMISSION_DENIED),
        ] {
            for outcome in &nothing {
                assert!(!expected.is_met_by(outcome), "{outcome} taken for: {expected}");
            }
        }
    }

    /// One outcome of each kind of denial.
    fn denials() -> Vec<Outcome> {
        let (message, body) = (String::new(), String::new());
        vec![
            Outcome::Reset { phase: Phase::Response },
            Outcome::Closed { phase: Phase::Response },
            Outcome::Reset { phase: Phase::Handshake },
            Outcome::TlsAlert { phase: Phase::Handshake, code: 116, name: String::new() },
            Outcome::Refused,
            Outcome::Http { status: 403, body, server: None },
            Outcome::Grpc { code: grpc::PERMISSION_DENIED, message },
        ]
    }

    #[test]
    fn a_denial_is_met_in_its_own_way_only() {
        let met = |expected: Expected| {
            let denials = denials().into_iter().enumerate();
            denials.filter(|(_, outcome)| expected.is_met_by(outcome)).map(|(index, _)| index).collect::<Vec<_>>()
        };
        assert_eq!(met(Expected::Reset), [0]);
        assert_eq!(met(Expected::EndedBeforeAnswer), [0, 1]);
        assert_eq!(met(Expected::EndedBeforeTls), [2]);
        assert_eq!(met(Expected::Alert(alert::NO_CERTIFICATE)), [3]);
        assert_eq!(met(Expected::Refused), [4]);
        assert_eq!(met(Expected::Http(403)), [5]);
        assert_eq!(met(Expected::Http(404)), [0; 0]);
        assert_eq!(met(Expected::Grpc(grpc::PERMISSION_DENIED)), [6]);
        assert_eq!(met(Expected::Grpc(14)), [0; 0]);
        assert_eq!(met(Expected::Answered), [0; 0]);
    }

    #[test]
    fn an_alert_is_met_by_its_own_code_only() {
        let outcome = |code| Outcome::TlsAlert { phase: Phase::Response, code, name: String::new() };
        assert!(Expected::Alert(alert::EXPIRED).is_met_by(&outcome(45)));
        assert!(!Expected::Alert(alert::EXPIRED).is_met_by(&outcome(80)));
    }
}
