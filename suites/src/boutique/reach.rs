//! Calls behind the shop: callers, callees, identities and routes, and the calls that are refused.

use meshproof::record::{Requirement, Write};
use meshproof::{Scope, Verdict};

use super::SUITE;
use super::shop::{self, REQUIRED, Shop, Visitors};

/// Requirements for evidence from both ends of the application's calls.
const BOTH_ENDS: [Requirement; 3] = [REQUIRED, Requirement::AccessLog, Requirement::Write(Write::Objects)];

/// Seen red by: TLS mode DISABLE in a `DestinationRule` for adservice ("makes the proxy of frontend-… speak plaintext", gRPC
/// status 14).
async fn every_service_reaches_those_that_it_calls_and_each_end_authenticates_the_other() -> Verdict {
    Scope::alone(SUITE, "every_service_reaches_those_that_it_calls", async |scope| {
        scope.requires(BOTH_ENDS)?;
        shop::log_both_ends(scope).await?;
        for edge in shop::edges(Shop::of(&scope.testbed)?).await? {
            scope.claim(edge.claim(&scope.testbed.trust));
        }
        shop::remove_placed(scope).await
    })
    .await
}

/// Seen red by: one more `AuthorizationPolicy`, which allows all calls to adservice ("expected gRPC status 7, seen answered").
async fn under_least_privilege_no_service_reaches_one_that_it_does_not_need() -> Verdict {
    Scope::alone(SUITE, "under_least_privilege", async |scope| {
        scope.requires(BOTH_ENDS)?;
        let shop = Shop::of(&scope.testbed)?;
        shop::log_both_ends(scope).await?;
        // The positive control of each refusal: the same call, before any policy forbids it.
        let before = shop::strangers(shop).await?;
        shop::restrict(scope).await?;
        for stranger in shop::under_policies(shop, before).await? {
            scope.claim(stranger.claim());
        }
        for call in shop::needed(shop).await? {
            scope.claim(shop::still_answered(&call));
        }
        // Shoppers enter by the gateway, so the policies must not affect shoppers.
        let visitors = Visitors::enter(&scope.testbed).await?;
        for visited in visitors.visit().await? {
            scope.claim(visited.claim("none-under-least-privilege", &[]));
        }
        shop::remove_placed(scope).await
    })
    .await
}

/// Seen red by: a `PeerAuthentication` that makes adservice PERMISSIVE ("port 9555 of adservice-… takes plaintext").
async fn no_service_takes_plaintext() -> Verdict {
    Scope::alone(SUITE, "no_service_takes_plaintext", async |scope| {
        scope.requires(BOTH_ENDS.into_iter().chain([Requirement::Probes]))?;
        shop::log_both_ends(scope).await?;
        for claim in shop::no_plaintext(scope).await? {
            scope.claim(claim);
        }
        shop::remove_placed(scope).await
    })
    .await
}

crate::trials! {
    every_service_reaches_those_that_it_calls_and_each_end_authenticates_the_other,
    under_least_privilege_no_service_reaches_one_that_it_does_not_need,
    no_service_takes_plaintext,
}
