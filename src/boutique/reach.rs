//! Who reaches whom inside the application: asked in each pod, of each of its services.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::NAMESPACE;
use crate::cluster::{Cluster, Workload};
use crate::error::{Error, Result};
use crate::report::{Claim, Judgement};

/// Where each workload runs: the seed's split, with the cart beside its Redis.
pub const PLACES: [(&str, &str); 11] = [
    ("adservice", "cluster1"),
    ("checkoutservice", "cluster1"),
    ("currencyservice", "cluster1"),
    ("emailservice", "cluster1"),
    ("paymentservice", "cluster1"),
    ("shippingservice", "cluster1"),
    ("cartservice", "cluster2"),
    ("frontend", "cluster2"),
    ("productcatalogservice", "cluster2"),
    ("recommendationservice", "cluster2"),
    ("redis-cart", "cluster2"),
];

/// The calls that the application makes: caller, and whom it calls.
pub const CALLS: [(&str, &[&str]); 4] = [
    (
        "frontend",
        &[
            "adservice",
            "cartservice",
            "checkoutservice",
            "currencyservice",
            "productcatalogservice",
            "recommendationservice",
            "shippingservice",
        ],
    ),
    (
        "checkoutservice",
        &[
            "cartservice",
            "currencyservice",
            "emailservice",
            "paymentservice",
            "productcatalogservice",
            "shippingservice",
        ],
    ),
    ("recommendationservice", &["productcatalogservice"]),
    ("cartservice", &["redis-cart"]),
];

/// The cluster that a workload runs in.
pub fn cluster_of(workload: &str) -> Option<&'static str> {
    PLACES.iter().find(|(name, _)| *name == workload).map(|(_, cluster)| *cluster)
}

/// What came of one call.
#[derive(Debug, Clone, Deserialize)]
pub struct Reach {
    /// Whom it was to.
    pub callee: String,
    /// Under which address.
    pub address: String,
    /// Whether the callee itself answered.
    pub reached: bool,
    /// How the call ended, in the words of whoever ended it.
    pub answer: Value,
    /// `CLUSTER/POD` that answered, as it says; Redis says nothing.
    pub served_by: Option<String>,
}

/// Calls `callees` from inside the pod of `caller`.
///
/// # Errors
/// [`Error::NoPod`] where the caller is not there, [`Error::Exec`] where it reports nothing that can be read.
pub async fn from_pod(cluster: &Arc<Cluster>, caller: &str, callees: &[&str]) -> Result<(Workload, Vec<Reach>)> {
    #[derive(Deserialize)]
    struct Report {
        checks: Vec<Reach>,
    }
    let pod = Workload::find(cluster, NAMESPACE, &format!("app={caller}")).await?;
    let only = callees.join(",");
    let command = ["/boutique", "check", "--json", "--timeout", "5", "--only", &only];
    let output = cluster.exec(pod.container("server"), &command, None).await?;
    let report: Report = serde_json::from_str(&output).map_err(|error| Error::Exec {
        cluster: cluster.name().into(),
        namespace: NAMESPACE.into(),
        pod: pod.pod.clone(),
        command: command.join(" "),
        reason: format!("its report cannot be read: {error}"),
    })?;
    Ok((pod, report.checks))
}

/// Claims that `caller` was answered by `reach`'s callee in the cluster where that runs.
pub fn edge(caller: &Workload, name: &str, reach: &Reach) -> Claim {
    let home = cluster_of(&reach.callee).unwrap_or("no cluster");
    let by = reach.served_by.as_deref();
    // Redis does not say where it runs; that it answered at all is what there is.
    let at_home = by.map_or(reach.callee == "redis-cart", |by| by.starts_with(&format!("{home}/")));
    let holds = reach.reached && at_home;
    Claim {
        id: format!("edge/{name}/{}", reach.callee),
        requirement: "every service of the application reaches those that it calls".into(),
        source: caller.to_string(),
        destination: reach.address.clone(),
        expected: format!("answered by {} in {home}", reach.callee),
        observed: match (reach.reached, by) {
            (true, Some(by)) => format!("answered by {by}"),
            (true, None) => "answered".into(),
            (false, _) => format!("not answered: {}", reach.answer),
        },
        evidence: vec![format!("the call ended with {}", reach.answer)],
        verdict: if holds { Judgement::Pass } else { Judgement::Fail },
        next: vec![
            format!(
                "{} -n {NAMESPACE} exec deploy/{name} -c server -- /boutique check",
                caller.cluster.command("kubectl")
            ),
            format!("{} -n {NAMESPACE} get pods,endpointslices", caller.cluster.command("kubectl")),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_caller_and_callee_has_a_place() {
        for (caller, callees) in CALLS {
            assert!(cluster_of(caller).is_some(), "{caller}");
            for callee in callees {
                assert!(cluster_of(callee).is_some(), "{callee}");
            }
        }
    }
}
