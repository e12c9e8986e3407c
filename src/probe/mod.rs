//! Dials from a vantage, and what both ends observe.

pub(crate) mod deploy;
mod dials;
mod expected;
mod probes;
mod raw;
pub(crate) mod rollout;

use std::fmt;
use std::time::Instant;

pub use deploy::{PROBES_LABEL, evidence_label};
pub use dials::{client_hello, dial, handshake, nonce};
pub use expected::{Expected, alert, grpc};
pub use meshproof_probe::authorize;
pub use meshproof_probe::wire::WHOAMI_METHOD;
pub use meshproof_probe::{
    Attempt, Dial, DialReport, Inside, Outcome, Phase, Protocol, Received, Request, Status, TlsOptions, TlsSeen,
    TlsVersion, WhoAmI,
};
pub use probes::{caller, declared, ingress_host, meshed, naked, port, service_host};
pub use raw::{ANSWER_MS, Header, RawRequest};

use crate::cluster::{Error, Result, Workload};
use crate::record::HostPort;

/// Most attempts to run the dial command in a probe's pod.
const RUN_ATTEMPTS: u32 = 3;

/// A place to dial from.
#[derive(Debug, Clone)]
pub enum Vantage {
    /// A probe with a sidecar.
    Meshed(Workload),
    /// A probe without a sidecar.
    Naked(Workload),
    /// The machine that runs the suite.
    Host,
}

impl fmt::Display for Vantage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Meshed(workload) => write!(f, "meshed {workload}"),
            Self::Naked(workload) => write!(f, "naked {workload}"),
            Self::Host => f.write_str("this machine"),
        }
    }
}

impl Vantage {
    /// The pod, if the vantage is a pod.
    pub fn workload(&self) -> Option<&Workload> {
        match self {
            Self::Meshed(workload) | Self::Naked(workload) => Some(workload),
            Self::Host => None,
        }
    }

    /// Whether `other` is the same pod, or both are this machine.
    pub fn is(&self, other: &Self) -> bool {
        match (self.workload(), other.workload()) {
            (Some(one), Some(other)) => one.is(other),
            (None, None) => true,
            _ => false,
        }
    }

    /// Makes all `dials` from this vantage, with one command.
    ///
    /// # Errors
    /// [`Error::Exec`]: the probe did not report on every dial. The outcome of a dial is never an error.
    #[tracing::instrument(level = "debug", skip_all, fields(vantage = %self, dials = dials.len()))]
    pub async fn dial(&self, mut dials: Vec<Dial>) -> Result<Vec<Exchange>> {
        let started = Instant::now();
        let reports = match self.workload() {
            None => meshproof_probe::dial::dial_all(dials.clone()).await,
            Some(workload) => from_pod(workload, &mut dials).await?,
        };
        let exchange = |(dial, report)| Exchange { vantage: self.clone(), dial, report, started };
        Ok(dials.into_iter().zip(reports).map(exchange).collect())
    }
}

/// The reports of a pod. The dials are renewed with each further attempt.
async fn from_pod(workload: &Workload, dials: &mut [Dial]) -> Result<Vec<DialReport>> {
    let unusable = |reason: String| workload.unusable("/probe dial", reason);
    let container = workload.container(&declared(&workload.cluster)?.container);
    let mut attempts = 1;
    let output = loop {
        let input = serde_json::to_vec(dials).map_err(|error| unusable(error.to_string()))?;
        match workload.cluster.exec(container, &["/probe", "dial"], Some(&input)).await {
            Ok(output) if !output.is_empty() => break output,
            // Retry only a command that reported nothing: there is nothing to judge yet. A reported outcome is never
            // asked for again. On a machine that is overloaded, a command can succeed and its output be lost.
            Ok(_) if attempts < RUN_ATTEMPTS => tracing::warn!(attempts, "the probe's reports were lost; asking again"),
            Err(error @ Error::Exec { .. }) if attempts < RUN_ATTEMPTS => {
                tracing::warn!(%error, attempts, "the probe did not dial and is asked again");
            }
            Ok(_) => return Err(unusable(format!("{attempts} times it succeeded and its reports were lost"))),
            Err(error) => return Err(error),
        }
        attempts += 1;
        dials.iter_mut().for_each(dials::renew);
    };
    let reports: Vec<DialReport> =
        serde_json::from_str(&output).map_err(|error| unusable(format!("its reports cannot be read: {error}")))?;
    if dials.iter().map(|dial| &dial.id).ne(reports.iter().map(|report| &report.id)) {
        return Err(unusable(format!("{} reports for {} dials, or not for these", reports.len(), dials.len())));
    }
    Ok(reports)
}

/// A dial and its report.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// Where the dial was made from.
    pub vantage: Vantage,
    /// The dial.
    pub dial: Dial,
    /// The report.
    pub report: DialReport,
    /// When the dial started. Limits how much of a log is read.
    pub started: Instant,
}

impl Exchange {
    /// The outcome.
    pub fn outcome(&self) -> &Outcome {
        &self.report.outcome
    }

    /// The dialled host and port.
    pub fn place(&self) -> HostPort {
        HostPort::new(&self.dial.host, self.dial.port)
    }

    /// The destination and the protocol as text.
    pub fn destination(&self) -> String {
        let Dial { host, port, protocol, tls, .. } = &self.dial;
        match tls.as_ref().and_then(|tls| tls.server_name.as_deref()) {
            Some(name) if name != host => format!("{host}:{port} as {name} over {protocol}"),
            _ => format!("{host}:{port} over {protocol}"),
        }
    }
}
