//! Calls inside the application: dials from each pod to each service that the workload calls.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Instant;

use futures::future::try_join_all;
use meshproof::Workload;
use meshproof::cluster::Result;
use meshproof::probe::{Attempt, Exchange, Vantage};
use serde::Deserialize;

use super::{FRONTEND, Shop};

/// Workload that makes the shop's load. The load generator's service has no listener.
pub(crate) const LOAD_GENERATOR: &str = "loadgenerator";

/// Workload that stores the carts. A third-party program that calls no service.
pub(super) const REDIS: &str = "redis-cart";

/// A workload and its callees.
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

/// A call between two workloads, and its outcome.
#[derive(Debug)]
pub(crate) struct Call {
    /// The calling workload.
    pub(super) caller: String,
    /// The pod that called.
    pub(super) pod: Workload,
    /// The dial and its outcome. The dial's id is the callee's name.
    pub(super) exchange: Exchange,
}

impl Call {
    /// The called workload.
    pub(super) fn callee(&self) -> &str {
        &self.exchange.dial.id
    }

    /// Whether the callee answered correctly.
    pub(super) fn is_answered(&self) -> bool {
        self.exchange.outcome().is_answered()
    }

    /// Whether `other` is between the same two workloads.
    pub(super) fn is_between_those_of(&self, other: &Self) -> bool {
        self.caller == other.caller && self.callee() == other.callee()
    }

    /// The command that repeats the call.
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

/// The calls to make from one workload.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    pub(super) caller: &'a str,
    pub(super) callees: Vec<&'a str>,
}

/// Makes all calls from each of these workloads to its callees, concurrently.
///
/// # Errors
/// The errors of [`from_pod`].
pub(super) async fn calls(shop: Shop<'_>, wanted: Vec<Wanted<'_>>) -> Result<Vec<Call>> {
    let calling = wanted.iter().map(|wanted| from_pod(shop, wanted));
    Ok(try_join_all(calling).await?.into_iter().flatten().collect())
}

/// Makes every call that the application needs.
///
/// # Errors
/// The errors of [`from_pod`].
pub(crate) async fn needed(shop: Shop<'_>) -> Result<Vec<Call>> {
    let wanted = NEEDS.map(|needs| Wanted { caller: needs.caller, callees: needs.callees.to_vec() });
    calls(shop, wanted.into()).await
}

/// Makes calls from the caller's pod. A configured callee is called at the address in the caller's environment, any
/// other callee by the names of the testbed's layout.
///
/// # Errors
/// `NoPod`: the caller has no ready pod. `Exec`: the caller does not report on each call, or its report cannot be
/// parsed.
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

/// The container of a workload with `/boutique`.
pub(crate) fn container_of(workload: &str) -> &'static str {
    if workload == LOAD_GENERATOR { "main" } else { "server" }
}
