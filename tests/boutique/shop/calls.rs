//! Who reaches whom inside the application: asked in each pod, of each of its services.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Instant;

use futures::future::try_join_all;
use meshproof::Workload;
use meshproof::cluster::Result;
use meshproof::probe::{Attempt, Exchange, Vantage};
use serde::Deserialize;

use super::{FRONTEND, Shop};

/// Makes the shop's load. Nothing listens behind it.
pub(crate) const LOAD_GENERATOR: &str = "loadgenerator";

/// Keeps the carts. It is no program of ours, and calls nobody.
pub(super) const REDIS: &str = "redis-cart";

/// A workload, and those that it calls.
#[derive(Debug, Clone, Copy)]
pub(super) struct Needs {
    pub(super) caller: &'static str,
    pub(super) callees: &'static [&'static str],
}

/// The calls that the application makes.
pub(super) const NEEDS: [Needs; 5] = [
    Needs {
        caller: FRONTEND,
        callees: &[
            "adservice",
            "cartservice",
            "checkoutservice",
            "currencyservice",
            "productcatalogservice",
            "recommendationservice",
            "shippingservice",
        ],
    },
    Needs {
        caller: "checkoutservice",
        callees: &[
            "cartservice",
            "currencyservice",
            "emailservice",
            "paymentservice",
            "productcatalogservice",
            "shippingservice",
        ],
    },
    Needs { caller: "recommendationservice", callees: &["productcatalogservice"] },
    Needs { caller: "cartservice", callees: &[REDIS] },
    Needs { caller: LOAD_GENERATOR, callees: &[FRONTEND] },
];

/// Every workload that calls or is called, each once.
pub(super) fn workloads() -> impl Iterator<Item = &'static str> {
    let named = NEEDS.iter().flat_map(|needs| needs.callees.iter().copied().chain([needs.caller]));
    named.collect::<BTreeSet<_>>().into_iter()
}

/// A call between two workloads, and what came of it.
#[derive(Debug)]
pub(crate) struct Call {
    /// Who called, by the workload's name.
    pub(super) caller: String,
    /// The pod that called.
    pub(super) pod: Workload,
    /// What it dialed, and what came of it. The dial's id is the callee's name.
    pub(super) exchange: Exchange,
}

impl Call {
    /// Whom it was to, by the workload's name.
    pub(super) fn callee(&self) -> &str {
        &self.exchange.dial.id
    }

    /// Whether the callee answered as it should.
    pub(super) fn is_answered(&self) -> bool {
        self.exchange.outcome().is_answered()
    }

    /// Whether `other` is between the same two workloads.
    pub(super) fn is_between_those_of(&self, other: &Self) -> bool {
        self.caller == other.caller && self.callee() == other.callee()
    }

    /// The command that makes the call again.
    pub(super) fn command(&self) -> String {
        let Workload { cluster, namespace, pod, .. } = &self.pod;
        let (kubectl, container) = (cluster.command("kubectl"), container_of(&self.caller));
        format!("{kubectl} -n {namespace} exec {pod} -c {container} -- /boutique check --only {}", self.callee())
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} → {}", self.caller, self.callee())
    }
}

/// What one workload is to call.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    pub(super) caller: &'a str,
    pub(super) callees: Vec<&'a str>,
}

/// Has each of these workloads call each of its callees, all at once.
///
/// # Errors
/// As [`from_pod`].
pub(super) async fn calls(shop: Shop<'_>, wanted: Vec<Wanted<'_>>) -> Result<Vec<Call>> {
    let calling = wanted.iter().map(|wanted| from_pod(shop, wanted));
    Ok(try_join_all(calling).await?.into_iter().flatten().collect())
}

/// Has every workload call each that it needs.
///
/// # Errors
/// As [`from_pod`].
pub(crate) async fn needed(shop: Shop<'_>) -> Result<Vec<Call>> {
    let wanted = NEEDS.map(|needs| Wanted { caller: needs.caller, callees: needs.callees.to_vec() });
    calls(shop, wanted.into()).await
}

/// Calls from inside the pod of the caller. Those that it is configured to call are called where its own environment
/// says, others by the names of the testbed's layout.
///
/// # Errors
/// `NoPod` where the caller is not there, `Exec` where it does not report on each, in a form that can be
/// read.
async fn from_pod(shop: Shop<'_>, Wanted { caller, callees }: &Wanted<'_>) -> Result<Vec<Call>> {
    #[derive(Deserialize)]
    struct Report {
        checks: Vec<Attempt>,
    }
    let pod = shop.pod(caller).await?;
    let only = callees.join(",");
    let domain = format!("--domain={}", shop.domain());
    let command = ["/boutique", "check", "--json", "--timeout", "5", &domain, "--only", &only];
    let unusable = |reason: String| pod.unusable(command.join(" "), reason);
    let started = Instant::now();
    let output = pod.cluster.exec(pod.container(container_of(caller)), &command, None).await?;
    let report: Report =
        serde_json::from_str(&output).map_err(|error| unusable(format!("its report cannot be read: {error}")))?;
    let mut wanted = callees.clone();
    wanted.sort_unstable();
    let reported: Vec<&str> = report.checks.iter().map(|attempt| attempt.dial.id.as_str()).collect();
    if wanted != reported {
        return Err(unusable(format!("it reports on {} instead of {}", reported.join(", "), wanted.join(", "))));
    }
    let call = |Attempt { dial, report }| Call {
        caller: (*caller).to_owned(),
        pod: pod.clone(),
        exchange: Exchange { vantage: Vantage::Meshed(pod.clone()), dial, report, started },
    };
    Ok(report.checks.into_iter().map(call).collect())
}

/// The container of a workload that holds `/boutique`.
pub(crate) fn container_of(workload: &str) -> &'static str {
    if workload == LOAD_GENERATOR { "main" } else { "server" }
}
