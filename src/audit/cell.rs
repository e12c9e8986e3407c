//! One judged port: a row of the table, and a claim of the report.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::expected::Expected;
use super::kind::{Kind, Wire};
use super::pod::{Owner, PortKey};
use crate::report::{Claim, Judgement};

/// A port of a pod, and what was found there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// The pod's cluster.
    pub cluster: Arc<str>,
    /// The cluster that was dialled from.
    pub vantage: Arc<str>,
    /// Namespace.
    pub namespace: Arc<str>,
    /// Workload that the pod belongs to.
    pub workload: Owner,
    /// Pod.
    pub pod: String,
    /// The dialled address, if the pod has more than one.
    pub address: Option<String>,
    /// Port.
    pub port: PortKey,
    /// Services that target the port.
    pub services: Vec<String>,
    /// What was found.
    pub wire: Wire,
    /// TLS versions that the proxy takes, if they were asked for at this port.
    pub versions: Vec<&'static str>,
    /// What was expected.
    pub expected: Expected,
    /// What explains the finding. Never a verdict.
    pub why: Vec<String>,
}

/// The verdict on a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// As expected.
    Holds,
    /// Shown, and nothing is expected of it.
    Shown,
    /// Not asked, or nothing listens.
    NotJudged,
    /// It could not be told. Not a pass.
    Unclear,
    /// Not as expected.
    Red,
}

impl Cell {
    /// The verdict.
    pub fn standing(&self) -> Standing {
        if matches!(self.wire.kind, Kind::NotJudged { .. } | Kind::Unreachable { .. }) {
            return Standing::NotJudged;
        }
        if matches!(self.expected, Expected::Nothing { .. }) {
            return Standing::Shown;
        }
        match self.claim().map(|claim| claim.verdict()) {
            Some(Judgement::Pass) => Standing::Holds,
            Some(Judgement::Fail) => Standing::Red,
            _ => Standing::Unclear,
        }
    }

    /// How long the served certificate is trusted from `now`, by the earliest end on its chain.
    pub fn trusted_for(&self, now: SystemTime) -> Option<Duration> {
        Some(self.wire.served.as_ref()?.expires.duration_since(now).unwrap_or_default())
    }

    /// What cells are sorted by.
    pub(super) fn place(&self) -> impl Ord + '_ {
        (&self.cluster, &self.namespace, &self.workload, self.port, &self.pod, &self.vantage, &self.address)
    }

    /// Id of the claim.
    pub fn id(&self) -> String {
        let Self { cluster, namespace, pod, port, .. } = self;
        let address = self.address.as_ref().map(|address| format!("/{address}")).unwrap_or_default();
        let from = if self.vantage == self.cluster { String::new() } else { format!("/from-{}", self.vantage) };
        format!("port/{cluster}/{namespace}/{pod}/{port}{address}{from}")
    }

    /// The claim. `None` if nothing is expected, or nothing was judged.
    pub fn claim(&self) -> Option<Claim> {
        let Wire { kind, faults, doubts, seen, served, .. } = &self.wire;
        if matches!(kind, Kind::NotJudged { .. } | Kind::Unreachable { .. }) {
            return None;
        }
        let met = self.expected.is_met_by(kind)?;
        let stated = Claim::about(self.id(), "a workload in the mesh takes mutual TLS only, unless that is allowed")
            .from(format!("the naked probe of {}", self.vantage))
            .to(format!("{} of {}, port {}", self.pod, self.workload, self.port))
            .expects(self.expected.to_string());
        let is_unclear = matches!(kind, Kind::Inconclusive { .. });
        let claim = match (is_unclear, faults.is_empty() && !doubts.is_empty() && met) {
            (true, _) => stated.not_judged(kind.to_string()),
            (_, true) => stated.not_judged(doubts.join("; ")),
            _ => stated.observes(kind, ToString::to_string, |_| met),
        };
        let identity = served.iter().map(|verified| format!("it proved to be {verified}"));
        let versions = (!self.versions.is_empty()).then(|| format!("it takes {}", self.versions.join(", ")));
        let evidence = seen.iter().cloned().chain(identity).chain(versions).chain(self.why.iter().cloned());
        let claim = evidence.fold(claim, Claim::with_evidence);
        Some(faults.iter().cloned().fold(claim, Claim::with_fault))
    }
}
