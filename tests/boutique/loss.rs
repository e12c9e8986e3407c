//! A part of the shop is lost: what does not need it goes on, the rest fails in time and says why; and it comes back.

use std::time::Duration;

use meshproof::boutique::{NAMESPACE, PLACES, Visitors, cluster_of};
use meshproof::{Cluster, Error, Scope, Seen, Verdict, eventually};
use rstest::rstest;
use serial_test::file_serial;

use super::SUITE;

/// How long a pod may take to stop, on a busy machine.
const GONE: Duration = Duration::from_secs(60);

/// How long the shop may take to be whole again once its part is wanted back.
const BACK: Duration = Duration::from_secs(60);

#[rstest]
#[case::adservice("adservice")]
#[case::cartservice("cartservice")]
#[case::checkoutservice("checkoutservice")]
#[case::currencyservice("currencyservice")]
#[case::emailservice("emailservice")]
#[case::frontend("frontend")]
#[case::paymentservice("paymentservice")]
#[case::productcatalogservice("productcatalogservice")]
#[case::recommendationservice("recommendationservice")]
#[case::redis_cart("redis-cart")]
#[case::shippingservice("shippingservice")]
#[tokio::test]
#[file_serial(mesh)]
async fn a_lost_service_is_missed_only_by_what_needs_it(#[case] service: &str) -> Verdict {
    Scope::run(SUITE, format!("loss_of_{service}"), async |scope| {
        let cluster = scope.testbed.cluster(cluster_of(service).unwrap_or_default())?;
        let part = Part { namespace: NAMESPACE, deployment: service, selector: &format!("app={service}") };
        lose(scope, cluster, &part, service, &[service]).await
    })
    .await
}

#[tokio::test]
#[file_serial(mesh)]
async fn a_cluster_that_is_cut_off_is_missed_only_by_what_needs_it() -> Verdict {
    Scope::run(SUITE, "loss_of_cluster1", async |scope| {
        let part =
            Part { namespace: "istio-system", deployment: "istio-eastwestgateway", selector: "istio=eastwestgateway" };
        let lost: Vec<&str> = PLACES.iter().filter(|(_, at)| *at == "cluster1").map(|(name, _)| *name).collect();
        lose(scope, scope.testbed.cluster("cluster1")?, &part, "cluster1", &lost).await
    })
    .await
}

/// What is scaled to nothing.
struct Part<'a> {
    namespace: &'a str,
    deployment: &'a str,
    selector: &'a str,
}

/// Loses a part, judges every visit, gets the part back, and judges every visit again.
async fn lose(
    scope: &Scope,
    cluster: &std::sync::Arc<Cluster>,
    part: &Part<'_>,
    what: &str,
    lost: &[&str],
) -> Result<(), Error> {
    let visitors = Visitors::enter(&scope.testbed).await?;
    let before = scope.scale(cluster, part.namespace, part.deployment, 0).await?;
    cluster.no_pods(part.namespace, part.selector, GONE).await?;
    for visited in visitors.visit().await? {
        scope.claim(visited.claim(what, lost));
    }
    scope.scale(cluster, part.namespace, part.deployment, before).await?;
    // Whole again: bounded, explicit, and then judged once.
    let whole = eventually(format!("the shop to be whole with {what} back"), BACK, async || {
        let visitors = Visitors::enter(&scope.testbed).await?;
        let failing: Vec<_> =
            visitors.visit().await?.into_iter().filter(|visited| visited.page.status != 200).collect();
        let names: Vec<&str> = failing.iter().map(|visited| visited.visit.name).collect();
        Ok::<_, Error>(if names.is_empty() { Seen::Yes(visitors) } else { Seen::NotYet(names.join(", ")) })
    });
    drop(whole.await?);
    for visited in Visitors::enter(&scope.testbed).await?.visit().await? {
        scope.claim(visited.claim(&format!("{what}-is-back"), &[]));
    }
    Ok(())
}
