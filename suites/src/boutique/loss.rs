//! Loss of a part of the shop: pages that do not need the part work, the others fail in time and name the missing part.
//! Afterwards, the shop recovers.

use std::sync::Arc;
use std::time::Duration;

use meshproof::record::{self, Requirement, Write};
use meshproof::scope::change::Replicas;
use meshproof::{Cluster, Error, Scope, Seen, Verdict, eventually};

use super::SUITE;
use super::shop::{REQUIRED, Shop, Visitors};

/// Longest wait for the shop to recover after the part is scaled up again.
const BACK: Duration = Duration::from_secs(60);

/// Seen red, for adservice, by: a route of the ingress gateway that delays pages of products by 5 s (`adservice/product`:
/// "expected status 200 within 4.0 s, seen status 200 after 5.0 s").
async fn a_lost_service_is_missed_only_by_what_needs_it(service: &str) -> Verdict {
    Scope::alone(SUITE, format!("loss_of_{service}"), async |scope| {
        scope.requires(LOSABLE)?;
        let shop = Shop::of(&scope.testbed)?;
        let part = Part {
            name: service,
            cluster: shop.cluster_of(service)?,
            namespace: shop.namespace(),
            deployment: service,
            lost: &[service],
        };
        lose(scope, &part).await
    })
    .await
}

/// Seen red by: the same delay (`cluster1/product`: "status 200 after 5.7 s").
async fn a_cluster_that_is_cut_off_is_missed_only_by_what_needs_it() -> Verdict {
    Scope::alone(SUITE, "loss_of_a_cluster", async |scope| {
        scope.requires(LOSABLE)?;
        let shop = Shop::of(&scope.testbed)?;
        let clusters = shop.clusters_behind_the_frontend();
        if clusters.is_empty() {
            return Err(
                record::Error::not_declared("a part of the boutique in another cluster than the frontend's").into()
            );
        }
        for cluster in clusters {
            let gateway = cluster.record().eastwest()?;
            let part = Part {
                name: cluster.name(),
                cluster,
                namespace: &gateway.namespace,
                deployment: &gateway.deployment,
                lost: &shop.workloads_in(cluster.name()),
            };
            lose(scope, &part).await?;
        }
        Ok(())
    })
    .await
}

/// Requirements for losing a part of the shop.
const LOSABLE: [Requirement; 2] = [REQUIRED, Requirement::Write(Write::Replicas)];

/// A part of the shop that is scaled to zero.
struct Part<'a> {
    /// Name in claims.
    name: &'a str,
    cluster: &'a Arc<Cluster>,
    namespace: &'a str,
    deployment: &'a str,
    /// The workloads that shoppers then miss.
    lost: &'a [&'a str],
}

/// Loses a part, judges every visit, restores the part, and judges every visit again.
async fn lose(scope: &Scope, part: &Part<'_>) -> Result<(), Error> {
    let Part { name, cluster, namespace, deployment, lost } = part;
    let visitors = Visitors::enter(&scope.testbed).await?;
    let loss = scope.inject(Replicas::new(cluster, namespace, deployment, 0).await?).await?;
    for visited in visitors.visit().await? {
        scope.claim(visited.claim(name, lost));
    }
    scope.revert(loss).await?;
    // A bounded wait for recovery, then one judgement.
    let whole = eventually(format!("the shop to be whole with {name} back"), BACK, async || {
        let visited = Visitors::enter(&scope.testbed).await?.visit().await?;
        let failing = visited.into_iter().filter(|visited| visited.page.status != 200);
        let names: Vec<&str> = failing.map(|visited| visited.visit.name).collect();
        Ok::<_, Error>(if names.is_empty() { Seen::Yes(()) } else { Seen::NotYet(names.join(", ")) })
    });
    whole.await?;
    for visited in Visitors::enter(&scope.testbed).await?.visit().await? {
        scope.claim(visited.claim(&format!("{name}-is-back"), &[]));
    }
    Ok(())
}

crate::trials! {
    a_lost_service_is_missed_only_by_what_needs_it {
        adservice("adservice"),
        cartservice("cartservice"),
        checkoutservice("checkoutservice"),
        currencyservice("currencyservice"),
        emailservice("emailservice"),
        frontend("frontend"),
        paymentservice("paymentservice"),
        productcatalogservice("productcatalogservice"),
        recommendationservice("recommendationservice"),
        redis_cart("redis-cart"),
        shippingservice("shippingservice"),
    },
    a_cluster_that_is_cut_off_is_missed_only_by_what_needs_it,
}
