//! Objects that a test places into the application's namespace: the evidence log of every proxy, and the
//! least-privilege policies.

use std::time::Duration;

use futures::future::try_join_all;
use meshproof::istio::{evidence_log, ingress_gateway};
use meshproof::record::Label;
use meshproof::{Error, Result, Scope, Seen, cluster, eventually};
use serde_json::Value;

use super::calls::LOAD_GENERATOR;
use super::edges::{Edge, logged_within};
use super::{APPLICATION, FRONTEND, Shop};

/// Longest wait for a proxy to receive a new configuration.
const CONFIGURED: Duration = Duration::from_secs(30);

/// Longest wait for older connections to drain. Envoy's default is 45 s, `up` configures less.
const DRAINED: Duration = Duration::from_secs(75);

/// Wait for log lines. Proxies flush their logs every second.
const FLUSHED: Duration = Duration::from_secs(6);

/// Path of Envoy's admin interface with the listeners.
const LISTENERS: &str = "config_dump?resource=dynamic_listeners";

/// Authorization policies by identity, with placeholders for [`Names`].
const AUTHORIZATION: &str = include_str!("../../../../fixtures/boutique/authorization.yaml");

/// Label of every pod of the application, with the application's name.
const PART_OF: &str = "app.kubernetes.io/part-of";

/// Enables the evidence log in every proxy of the application until the test ends. Returns when all proxies have the
/// configuration. By default the log is off: two certificates per line are too much under load.
///
/// # Errors
/// The object cannot be placed, or a proxy does not receive it in time.
pub(crate) async fn log_both_ends(scope: &Scope) -> Result<()> {
    let shop = Shop::of(&scope.testbed)?;
    let pods = Label { key: PART_OF.into(), value: APPLICATION.into() };
    for cluster in &scope.testbed.clusters {
        let record = cluster.record();
        let log = record.declared("the proxies' access log", record.istio.access_log.as_ref())?;
        let object = evidence_log(log, "meshproof-evidence-boutique", shop.namespace(), &pods);
        scope.place(cluster, object).await?;
    }
    // Only the evidence log has this field.
    configured(scope, "the evidence log", |_| Some("downstream_peer_cert".into())).await?;
    // Connections from before the change keep the old log configuration until they are drained.
    Ok(eventually("no connection to be left that is not logged", DRAINED, async || {
        let unlogged: Vec<String> = logged_within(shop, FLUSHED).await?.iter().filter_map(Edge::unlogged).collect();
        Ok::<_, Error>(if unlogged.is_empty() { Seen::Yes(()) } else { Seen::NotYet(unlogged.join(", ")) })
    })
    .await?)
}

/// Applies the least-privilege policies until the test ends, each in the cluster of its workload. Returns when every
/// proxy has its policy.
///
/// # Errors
/// A policy cannot be placed, or a proxy does not receive it in time.
pub(crate) async fn restrict(scope: &Scope) -> Result<()> {
    let shop = Shop::of(&scope.testbed)?;
    let ingress = ingress_gateway(shop.cluster_of(FRONTEND)?).await?;
    let names = Names {
        trust_domain: scope.testbed.trust.domain(),
        namespace: shop.namespace(),
        ingress: &principal(&ingress.spiffe_id(scope.testbed.trust.domain()).to_string()),
    };
    for policy in policies(&names)? {
        let workload = policy.pointer("/spec/selector/matchLabels/app").and_then(Value::as_str).unwrap_or_default();
        scope.place(shop.cluster_of(workload)?, policy).await?;
    }
    // A policy without rules leaves no name in the proxy's configuration. The load generator has no listener.
    configured(scope, "its policy", |name| {
        (name != LOAD_GENERATOR).then(|| format!("ns[{}]-policy[{name}]-rule[0]", shop.namespace()))
    })
    .await
}

/// Names of the mesh for the policies.
struct Names<'a> {
    trust_domain: &'a str,
    namespace: &'a str,
    /// The ingress gateway's principal.
    ingress: &'a str,
}

/// A principal of an authorization policy: a SPIFFE ID without its scheme.
fn principal(id: &str) -> String {
    id.trim_start_matches("spiffe://").to_owned()
}

fn policies(Names { trust_domain, namespace, ingress }: &Names<'_>) -> Result<Vec<Value>> {
    let malformed = |reason: String| Error::suite(format!("fixtures/boutique/authorization.yaml: {reason}"));
    let text = AUTHORIZATION
        .replace("${INGRESS}", ingress)
        .replace("${TRUST_DOMAIN}", trust_domain)
        .replace("${NAMESPACE}", namespace);
    serde_saphyr::from_multiple(&text).map_err(|error| malformed(error.to_string()))
}

/// Removes the objects of [`log_both_ends`] or [`restrict`], and returns when no proxy has them any more. The next test
/// then starts with connections that no proxy is about to close.
///
/// # Errors
/// An object cannot be removed, or a proxy keeps its configuration for too long.
pub(crate) async fn remove_placed(scope: &Scope) -> Result<()> {
    scope.remove_placed().await?;
    let marks = ["downstream_peer_cert".to_owned(), format!("ns[{}]-policy[", Shop::of(&scope.testbed)?.namespace())];
    settled(scope, "neither log nor policy", |_, listeners| marks.iter().all(|mark| !listeners.contains(mark))).await
}

/// Waits until the listeners of every workload's proxy contain the text of `mark`.
async fn configured(scope: &Scope, what: &str, mark: impl Fn(&str) -> Option<String>) -> Result<()> {
    settled(scope, what, |name, listeners| mark(name).is_none_or(|mark| listeners.contains(&mark))).await
}

/// Waits until every workload's proxy has the wanted configuration and has drained older connections. Draining would
/// close a connection in the middle of a call.
async fn settled(scope: &Scope, what: &str, wanted: impl Fn(&str, &str) -> bool) -> Result<()> {
    let shop = Shop::of(&scope.testbed)?;
    let waiting = shop.workloads().map(async |name| {
        let pod = shop.pod(name).await?;
        eventually(format!("{what} at the proxy of {pod}"), CONFIGURED + DRAINED, async || {
            if !wanted(name, &pod.proxy_admin(LISTENERS).await?) {
                return Ok(Seen::NotYet("it has another configuration".into()));
            }
            let draining = pod.proxy_counts("listener_manager.total_.*_draining").await?;
            // Missing statistics do not prove that nothing drains.
            let drained = !draining.is_empty() && draining.iter().all(|count| count.value == 0);
            Ok::<_, cluster::Error>(if drained {
                Seen::Yes(())
            } else {
                Seen::NotYet(format!("draining: {draining:?}"))
            })
        })
        .await
    });
    try_join_all(waiting).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::calls::workloads;
    use super::*;

    #[test]
    fn there_is_a_policy_for_every_workload_in_the_names_of_the_mesh() {
        let ingress = "mesh.example/ns/edge/sa/ingress";
        let policies = policies(&Names { trust_domain: "mesh.example", namespace: "shop", ingress }).unwrap();
        let named: BTreeSet<&str> =
            policies.iter().filter_map(|policy| policy.pointer("/spec/selector/matchLabels/app")?.as_str()).collect();
        assert_eq!(named, workloads().collect());
        let text = serde_json::to_string(&policies).unwrap();
        assert!(text.contains("mesh.example/ns/shop/sa/frontend") && text.contains(ingress));
        assert!(!text.contains("${") && !text.contains("cluster.local"), "{text}");
    }
}
