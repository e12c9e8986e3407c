//! What a test places into the application's namespace: the evidence log at every proxy, and the least-privilege
//! policies.

use std::time::Duration;

use futures::future::try_join_all;
use meshproof::istio::ingress_gateway;
use meshproof::{Error, Result, Scope, Seen, cluster, eventually, record};
use serde_json::{Value, json};

use super::calls::LOAD_GENERATOR;
use super::edges::{Edge, logged_within};
use super::{APPLICATION, FRONTEND, Shop};

/// How long a proxy may take to be given a new configuration.
const CONFIGURED: Duration = Duration::from_secs(30);

/// Bound on the draining of older connections: Envoy's default is 45 s, `up` sets less.
const DRAINED: Duration = Duration::from_secs(75);

/// Proxies flush their logs every second.
const FLUSHED: Duration = Duration::from_secs(6);

/// Where a proxy tells how it listens.
const LISTENERS: &str = "config_dump?resource=dynamic_listeners";

/// Who may call what, by identity, with places for [`Names`].
const AUTHORIZATION: &str = include_str!("../../../fixtures/boutique/authorization.yaml");

/// Label of every pod of the application, with the application's name.
const PART_OF: &str = "app.kubernetes.io/part-of";

/// Switches the evidence log on at every proxy of the application until the test ends; returns when all have it. It is
/// off otherwise: two certificates a line are too much under load.
///
/// # Errors
/// Where it cannot be placed, or a proxy does not take it in time.
pub(crate) async fn log_both_ends(scope: &Scope) -> Result<()> {
    let shop = Shop::of(&scope.testbed)?;
    for cluster in &scope.testbed.clusters {
        let missing = || record::Error::not_declared(format!("the proxies' access log of {}", cluster.name()));
        let log = cluster.record().istio.access_log.as_ref().ok_or_else(missing)?;
        let telemetry = json!({
            "apiVersion": "telemetry.istio.io/v1",
            "kind": "Telemetry",
            "metadata": {"name": "meshproof-evidence-boutique", "namespace": shop.namespace()},
            "spec": {
                "selector": {"matchLabels": {PART_OF: APPLICATION}},
                "accessLogging": [{"providers": [{"name": log.provider}]}],
            },
        });
        scope.place(cluster, telemetry).await?;
    }
    // A field that only this log has.
    configured(scope, "the evidence log", |_| Some("downstream_peer_cert".into())).await?;
    // Connections made before are logged as the configuration was then, until they are drained.
    Ok(eventually("no connection to be left that is not logged", DRAINED, async || {
        let unlogged: Vec<String> = logged_within(shop, FLUSHED).await?.iter().filter_map(Edge::unlogged).collect();
        Ok::<_, Error>(if unlogged.is_empty() { Seen::Yes(()) } else { Seen::NotYet(unlogged.join(", ")) })
    })
    .await?)
}

/// Applies the least-privilege policies until the test ends, each where its workload is; returns when every proxy has
/// them.
///
/// # Errors
/// Where one cannot be placed, or a proxy does not take it in time.
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
    // A policy without rules leaves no name in the proxy's configuration; nothing listens behind the load generator.
    configured(scope, "its policy", |name| {
        (name != LOAD_GENERATOR).then(|| format!("ns[{}]-policy[{name}]-rule[0]", shop.namespace()))
    })
    .await
}

/// The names of the mesh that the policies need.
struct Names<'a> {
    trust_domain: &'a str,
    namespace: &'a str,
    /// The ingress gateway's identity, as policies write it.
    ingress: &'a str,
}

/// An identity as policies write it: a SPIFFE id without its scheme.
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

/// Removes what [`log_both_ends`] or [`restrict`] placed, and returns when no proxy has it any more. The next test then
/// begins with connections that no proxy is about to end.
///
/// # Errors
/// Where something cannot be removed, or a proxy does not let go of it in time.
pub(crate) async fn remove_placed(scope: &Scope) -> Result<()> {
    scope.remove_placed().await?;
    let marks = ["downstream_peer_cert".to_owned(), format!("ns[{}]-policy[", Shop::of(&scope.testbed)?.namespace())];
    settled(scope, "neither log nor policy", |_, listeners| marks.iter().all(|mark| !listeners.contains(mark))).await
}

/// Waits until the configuration of every workload's proxy has in it what `mark` says.
async fn configured(scope: &Scope, what: &str, mark: impl Fn(&str) -> Option<String>) -> Result<()> {
    settled(scope, what, |name, listeners| mark(name).is_none_or(|mark| listeners.contains(&mark))).await
}

/// Waits until the configuration of every workload's proxy is as wanted and it has ended the connections made under an
/// older one: a call that is on one of those would be ended with it.
async fn settled(scope: &Scope, what: &str, wanted: impl Fn(&str, &str) -> bool) -> Result<()> {
    let shop = Shop::of(&scope.testbed)?;
    let waiting = shop.workloads().map(async |name| {
        let pod = shop.pod(name).await?;
        eventually(format!("{what} at the proxy of {pod}"), CONFIGURED + DRAINED, async || {
            if !wanted(name, &pod.proxy_admin(LISTENERS).await?) {
                return Ok(Seen::NotYet("it has another configuration".into()));
            }
            let draining = pod.proxy_counts("listener_manager.total_.*_draining").await?;
            // That it says nothing is not that it drains nothing.
            let drained = !draining.is_empty() && draining.iter().all(|(_, count)| *count == 0);
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
