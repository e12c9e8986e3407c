//! The result of an audit.

use std::collections::BTreeMap;
use std::time::Duration;

use super::cell::{Cell, Standing};
use super::expected::{Allowed, Unused};
use super::pace::Rates;
use super::services::ServiceCell;
use crate::report::Claim;

/// What an audit found.
#[derive(Debug, Clone)]
pub struct Audit {
    /// The ports, by cluster, namespace, workload, pod and port.
    pub cells: Vec<Cell>,
    /// What a meshed client gets from the services of other clusters.
    pub services: Vec<ServiceCell>,
    /// Pods of Kubernetes and Istio that were left out.
    pub left_out: Vec<LeftOut>,
    /// Exceptions whose last day has passed.
    pub expired: Vec<Allowed>,
    /// Exceptions that match nothing that was found.
    pub unused: Vec<Unused>,
    /// Number of pods that declare no port and that no Service targets.
    pub without_ports: usize,
    /// The limits that were kept.
    pub rates: Rates,
    /// How long it took.
    pub took: Duration,
}

/// Pods of a namespace that were left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Cluster.
    pub cluster: String,
    /// Namespace.
    pub namespace: String,
    /// Number of pods.
    pub pods: usize,
}

impl Audit {
    /// The claims: one for each port of which something is expected and that was judged, and one for each exception
    /// that has ended. If there are none, one that was not judged.
    pub fn claims(&self) -> Vec<Claim> {
        let expired = self.expired.iter().map(|allowed| {
            Claim::about(format!("expected/{allowed}"), "an exception ends on the day that it names")
                .to(&allowed.namespace)
                .expects("a last day that has not passed, or no exception")
                .observes(&allowed.until, |until| format!("the exception ended on {until}"), |_| false)
                .with_evidence(format!("its reason was: {}", allowed.reason))
        });
        let services = self.services.iter().filter_map(ServiceCell::claim);
        let claims: Vec<Claim> = self.cells.iter().filter_map(Cell::claim).chain(services).chain(expired).collect();
        if claims.is_empty() {
            return vec![Claim::error("port", "there was no port in the mesh to judge")];
        }
        claims
    }

    /// Number of ports of each verdict.
    pub fn counts(&self) -> BTreeMap<Standing, usize> {
        let mut counts = BTreeMap::new();
        for cell in &self.cells {
            *counts.entry(cell.standing()).or_default() += 1;
        }
        counts
    }

    /// Whether something is expected of any port that was found.
    pub fn is_judged(&self) -> bool {
        self.cells.iter().any(|cell| cell.claim().is_some())
    }

    /// Whether all that was judged is as expected, and something was judged.
    pub fn holds(&self) -> bool {
        self.claims().iter().all(Claim::holds)
    }
}
