//! Who reaches whom inside the application: asked in each pod, of each of its services.

use std::fmt;

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Pod;
use serde::Deserialize;
use serde_json::Value;

use super::NAMESPACE;
use crate::cluster::Testbed;
use crate::cluster::Workload;
use crate::cluster::{Error, Result};

/// Where each workload runs: the seed's split, with the cart beside its Redis.
pub const PLACES: [(&str, &str); 12] = [
    ("adservice", "cluster1"),
    ("checkoutservice", "cluster1"),
    ("currencyservice", "cluster1"),
    ("emailservice", "cluster1"),
    ("paymentservice", "cluster1"),
    ("shippingservice", "cluster1"),
    ("cartservice", "cluster2"),
    ("frontend", "cluster2"),
    ("loadgenerator", "cluster2"),
    ("productcatalogservice", "cluster2"),
    ("recommendationservice", "cluster2"),
    ("redis-cart", "cluster2"),
];

/// The calls that the application makes: caller, and whom it calls.
pub const CALLS: [(&str, &[&str]); 5] = [
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
    ("loadgenerator", &["frontend"]),
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
    /// By which the proxies' logs know the request; Redis has none.
    pub request_id: Option<String>,
    /// The caller's end of the connection, where there is no request to know it by.
    pub local_address: Option<String>,
}

impl Reach {
    /// Whether a proxy refused the call for who the caller is: HTTP 403, as gRPC reports it `PERMISSION_DENIED`, in the
    /// words of Envoy's RBAC filter; or a connection that was accepted and ended at once, where it is not HTTP.
    pub fn is_denied(&self) -> bool {
        let text = |pointer: &str| self.answer.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        match text("/kind") {
            "grpc" => text("/code") == "PermissionDenied" && text("/message").contains("RBAC: access denied"),
            "http" => self.answer["status"] == 403,
            "transport" => {
                self.callee == "redis-cart"
                    && ["closed without a reply", "reset by peer"].iter().any(|how| text("/error").contains(how))
            }
            _ => false,
        }
    }
}

/// The pod of a workload of the application.
///
/// # Errors
/// [`Error::NoPod`] where it is not there, [`Error::UnknownCluster`] where its cluster is not.
pub async fn workload(testbed: &Testbed, name: &str) -> Result<Workload> {
    let cluster = testbed.cluster(cluster_of(name).unwrap_or_default())?;
    Workload::find(cluster, NAMESPACE, &format!("app={name}")).await
}

/// The port that a workload's own container listens on.
///
/// # Errors
/// [`Error::Api`] where the pod is gone, [`Error::NoPod`] where it names no port.
pub async fn port_of(workload: &Workload) -> Result<u16> {
    let Workload { cluster, namespace, pod, .. } = workload;
    let found = cluster.api::<Pod>(namespace).get(pod).await;
    let spec = found.map_err(cluster.failed(format!("read pod {namespace}/{pod}")))?.spec.unwrap_or_default();
    let proxy = &cluster.record().istio.proxy.container;
    let own = spec.containers.into_iter().filter(|container| container.name != *proxy);
    let port = own.flat_map(|container| container.ports.unwrap_or_default()).next();
    port.and_then(|port| u16::try_from(port.container_port).ok()).ok_or_else(|| Error::NoPod {
        cluster: cluster.name().into(),
        namespace: namespace.clone(),
        selector: pod.clone(),
        seen: "and its container names no port".into(),
    })
}

/// Calls `callees` from inside the pod of `caller`. Those that it is configured to call are called where its own
/// environment says, others by the names of the testbed's layout.
///
/// # Errors
/// [`Error::NoPod`] where the caller is not there, [`Error::Exec`] where it does not report on each, in a form that can be
/// read.
async fn from_pod(testbed: &Testbed, caller: &str, callees: &[&str]) -> Result<(Workload, Vec<Reach>)> {
    #[derive(Deserialize)]
    struct Report {
        checks: Vec<Reach>,
    }
    let pod = workload(testbed, caller).await?;
    let only = callees.join(",");
    let domain = testbed.record.application.as_ref().and_then(|application| application.global_namespace.as_ref());
    let domain = domain.map(|global| format!(".{}", global.domain));
    let domain = format!("--domain={}", domain.unwrap_or_default());
    let command = ["/boutique", "check", "--json", "--timeout", "5", &domain, "--only", &only];
    let unusable = |reason: String| pod.unusable(command.join(" "), reason);
    let output = pod.cluster.exec(pod.container(container_of(caller)), &command, None).await?;
    let report: Report =
        serde_json::from_str(&output).map_err(|error| unusable(format!("its report cannot be read: {error}")))?;
    let mut wanted = callees.to_vec();
    wanted.sort_unstable();
    let reported: Vec<&str> = report.checks.iter().map(|reach| reach.callee.as_str()).collect();
    if wanted != reported {
        return Err(unusable(format!("it reports on {} instead of {}", reported.join(", "), wanted.join(", "))));
    }
    Ok((pod, report.checks))
}

/// A call, and what came of it.
#[derive(Debug)]
pub struct Call {
    /// Who called, by the workload's name.
    pub name: &'static str,
    /// The pod that called.
    pub caller: Workload,
    /// What came of it.
    pub reach: Reach,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} → {}", self.name, self.reach.callee)
    }
}

/// Has each of these callers call each of its callees, all at once.
///
/// # Errors
/// As [`from_pod`].
pub async fn calls(testbed: &Testbed, asked: impl IntoIterator<Item = (&'static str, Vec<&str>)>) -> Result<Vec<Call>> {
    let asked = asked.into_iter().map(async |(name, callees)| {
        let (caller, reached) = from_pod(testbed, name, &callees).await?;
        Ok::<_, Error>(reached.into_iter().map(move |reach| Call { name, caller: caller.clone(), reach }))
    });
    Ok(try_join_all(asked).await?.into_iter().flatten().collect())
}

/// Has every workload call each that it needs.
///
/// # Errors
/// As [`from_pod`].
pub async fn needed(testbed: &Testbed) -> Result<Vec<Call>> {
    calls(testbed, CALLS.map(|(caller, callees)| (caller, callees.to_vec()))).await
}

/// The container of a workload that holds `/boutique`.
fn container_of(workload: &str) -> &'static str {
    if workload == "loadgenerator" { "main" } else { "server" }
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
