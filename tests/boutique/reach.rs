//! Who reaches whom behind the shop, as whom, and by which way; and who does not.

use futures::future::try_join_all;
use meshproof::boutique::{self, PLACES};
use meshproof::istio::turned_away;
use meshproof::probe::{self, Protocol, Vantage, dial};
use meshproof::{Error, Scope, Verdict};
use serial_test::file_serial;

use super::SUITE;

#[tokio::test]
#[file_serial(mesh)]
async fn every_service_reaches_those_that_it_calls_and_each_end_authenticates_the_other() -> Verdict {
    Scope::run(SUITE, "every_service_reaches_those_that_it_calls", async |scope| {
        boutique::log_both_ends(scope).await?;
        for edge in boutique::edges(&scope.testbed).await? {
            scope.claim(edge.claim(&scope.testbed));
        }
        boutique::remove_placed(scope).await
    })
    .await
}

#[tokio::test]
#[file_serial(mesh)]
async fn under_least_privilege_no_service_reaches_one_that_it_does_not_need() -> Verdict {
    Scope::run(SUITE, "under_least_privilege", async |scope| {
        boutique::restrict(scope).await?;
        let controls = boutique::needed(&scope.testbed).await?;
        for stranger in boutique::strangers(scope).await? {
            scope.claim(stranger.claim(&controls));
        }
        // And a shopper, who comes in by the gateway, notices nothing.
        let visitors = boutique::Visitors::enter(&scope.testbed).await?;
        for visited in visitors.visit().await? {
            scope.claim(visited.claim("none-under-least-privilege", &[]));
        }
        boutique::remove_placed(scope).await
    })
    .await
}

#[tokio::test]
#[file_serial(mesh)]
async fn no_service_takes_plaintext() -> Verdict {
    Scope::run(SUITE, "no_service_takes_plaintext", async |scope| {
        // The positive control of each: the application's own call to it, which is answered over mutual TLS.
        boutique::log_both_ends(scope).await?;
        let controls = boutique::needed(&scope.testbed).await?;
        let called = PLACES.map(|(name, _)| name).into_iter().filter(|name| *name != "loadgenerator");
        let refused = called.map(async |name| {
            let pod = boutique::workload(&scope.testbed, name).await?;
            let naked = probe::naked(&pod.cluster).await?;
            let port = boutique::port_of(&pod).await?;
            let dials = vec![dial(name, Protocol::Http1, &pod.address, port)];
            let seen = Vantage::Naked(naked).dial(dials).await?;
            let accounts = turned_away(&seen, &pod).await?;
            let claim = boutique::no_plaintext(&seen[0], (&pod, accounts[0].as_ref()), &controls);
            scope.claim(claim);
            Ok::<_, Error>(())
        });
        try_join_all(refused).await?;
        boutique::remove_placed(scope).await
    })
    .await
}
