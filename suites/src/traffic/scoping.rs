//! `ServiceEntry`, `REGISTRY_ONLY`, the scope of a `Sidecar`, and `exportTo`.

use std::sync::Arc;

use futures::future::try_join_all;
use meshproof::cluster::Pair;
use meshproof::probe::{Dial, Exchange, Expected, Protocol, Vantage};
use meshproof::report::Claim;
use meshproof::scope::claims;
use meshproof::{Result, Scope, Verdict, Workload};

use super::arena::{REQUIRED, SUITE};
use super::sent::request;
use super::town::{Kind, LEDGER, Side, TEAPOT, Town};

/// Status with which a proxy answers for hosts that it does not know, under `REGISTRY_ONLY`.
const NOT_KNOWN: Expected = Expected::Http(502);

/// Status with which a proxy answers for servers that it cannot speak to.
const NOT_SPOKEN_TO: Expected = Expected::Http(503);

/// Names by `ServiceEntry` lead to a server outside of the mesh, and to a server in any cluster. Under `REGISTRY_ONLY`
/// nothing else is reached, and what is not in the scope of a `Sidecar` is not known. A service, a route and a rule that
/// are not exported count in their own namespace alone. Each has the same call without the rule.
///
/// Red if (each tried): the entry of the ledger is missing; `REGISTRY_ONLY` is `ALLOW_ANY`; the scope has all hosts; the
/// service, the route or the rule is exported to all.
async fn proxies_know_what_they_are_told_and_nothing_else() -> Verdict {
    Scope::run(SUITE, "proxies_know_what_they_are_told_and_nothing_else", async |scope| {
        scope.requires(REQUIRED)?;
        let town = Town::make(scope).await?;
        let judging = town.sides.iter().map(async |side| {
            let registered = registered(&town, side).await?;
            registered.into_iter().for_each(|claim| scope.claim(claim));
            let of_owners = town.sides.iter().map(|owner| of_owner(&town, side, owner));
            let claims = try_join_all(of_owners).await?.into_iter().flatten();
            claims.for_each(|claim| scope.claim(claim));
            Ok(())
        });
        try_join_all(judging).await.map(drop)
    })
    .await
}

async fn one(caller: &Workload, dial: Dial) -> Result<Exchange> {
    // `dial` returns a report for each dial, or fails.
    Ok(Vantage::Meshed(caller.clone()).dial(vec![dial]).await?.remove(0))
}

/// A claim that a call is refused, and that another call, without the rule, is answered by `server`.
struct Refused<'a> {
    id: String,
    requirement: &'static str,
    refused: &'a Exchange,
    how: Expected,
    /// The same call, from where the rule does not hold.
    free: &'a Exchange,
    server: &'a Workload,
}

impl Refused<'_> {
    fn claim(self) -> Claim {
        let Self { id, requirement, refused, how, free, server } = self;
        let claim = Claim::about(format!("{SUITE}/{id}"), requirement)
            .from(&refused.vantage)
            .to(refused.destination())
            .expects(format!("{how}; without the rule, an answer of {server}"))
            .observes(refused, |refused| refused.outcome().to_string(), |refused| how.is_met_by(refused.outcome()));
        let told = format!("without the rule, {} → {}: {}", free.vantage, free.destination(), free.outcome());
        let is_answered = claims::answered("", requirement, free, server).holds();
        match is_answered {
            true => claim.with_evidence(told),
            false => claim
                .with_fault(format!("the control does not hold: {told}"))
                .with_subject(claims::must_be_answered(free, server)),
        }
    }
}

/// What a caller reaches outside of the mesh, in its own cluster.
async fn registered(town: &Town, side: &Side) -> Result<Vec<Claim>> {
    let (naked, from, port) = (&side.naked, side.cluster.name(), town.port());
    let to = |name: &str, host: &str| Dial {
        authority: Some(format!("{host}:{port}")),
        ..request(format!("{name}/{from}"), Protocol::Http1, &naked.address, port)
    };
    let tcp_port = meshproof::probe::port(&side.cluster, Protocol::Tcp)?;
    let tcp = || request(format!("tcp/{from}"), Protocol::Tcp, &naked.address, tcp_port);
    let listed = one(&side.closed, to("listed", LEDGER)).await?;
    let unlisted = one(&side.closed, to("unlisted", "unlisted.meshproof.test")).await?;
    let free = one(&side.open, to("unlisted", "unlisted.meshproof.test")).await?;
    let (tcp_closed, tcp_free) = (one(&side.closed, tcp()).await?, one(&side.open, tcp()).await?);
    let id = format!("{SUITE}/service-entry");
    let owed = "a name by ServiceEntry leads to a server outside of the mesh";
    let entry = claims::answered(&id, owed, &listed, naked);
    let owed = "under REGISTRY_ONLY, nothing is reached that is not registered";
    let http = Refused {
        id: format!("registry-only/http/{from}"),
        requirement: owed,
        refused: &unlisted,
        how: NOT_KNOWN,
        free: &free,
        server: naked,
    };
    let tcp = Refused {
        id: format!("registry-only/tcp/{from}"),
        requirement: owed,
        refused: &tcp_closed,
        how: Expected::EndedBeforeAnswer,
        free: &tcp_free,
        server: naked,
    };
    Ok(vec![entry, http.claim(), tcp.claim()])
}

/// What the callers of a side know of the services of an owner.
async fn of_owner(town: &Town, side: &Side, owner: &Side) -> Result<Vec<Claim>> {
    let way = format!("{}-to-{}", side.cluster.name(), owner.cluster.name());
    let (server, port) = (&owner.server, town.port());
    let to = |kind: Kind| {
        let service = kind.of(owner.index);
        request(format!("{service}/{way}"), Protocol::Http1, &town.place.host(&service), port)
    };
    // To an address at which the proxy listens anyway: the name in the request decides.
    let named = |name: String| Dial { authority: Some(format!("{name}:{port}")), ..to(Kind::Known) };
    let unknown = || named(town.place.host(&Kind::Unknown.of(owner.index)));
    let mut claims = Vec::new();
    let shared = one(&side.open, named(town.shared(owner))).await?;
    let owed = "a name by ServiceEntry leads to its server, in any cluster";
    claims.push(claims::answered(&format!("{SUITE}/service-entry-shared"), owed, &shared, server));
    let nowhere = one(&side.closed, named("nowhere.meshproof.test".into())).await?;
    let control = one(&side.closed, named(town.shared(owner))).await?;
    let owed = "without a ServiceEntry, the name leads nowhere";
    let id = format!("{SUITE}/service-entry-missing");
    claims.push(claims::denied(&id, owed, &nowhere, NOT_KNOWN, &control, Some(server)));
    let refused = |id: &str, requirement: &'static str, refused: &Exchange, how: Expected, free: &Exchange| {
        Refused { id: format!("{id}/{way}"), requirement, refused, how, free, server }.claim()
    };
    let (scoped, open) = (one(&side.scoped, unknown()).await?, one(&side.open, unknown()).await?);
    let owed = "what is not in the scope of a Sidecar is not known";
    claims.push(refused("sidecar-scope", owed, &scoped, NOT_KNOWN, &open));
    let in_scope = one(&side.scoped, to(Kind::Known)).await?;
    let owed = "what is in the scope of a Sidecar is known";
    claims.push(claims::answered(&format!("{SUITE}/sidecar-scope-in"), owed, &in_scope, server));
    let pair = Pair { from: Arc::clone(&side.cluster), to: Arc::clone(&owner.cluster) };
    // A gateway is in another namespace. It does not know the service either, so there is no control behind it.
    if !pair.crosses_networks() {
        let (private, own) = (one(&side.stranger, to(Kind::Private)).await?, one(&side.open, to(Kind::Private)).await?);
        let owed = "a service that is not exported is known in its own namespace alone";
        claims.push(refused("export/service", owed, &private, NOT_SPOKEN_TO, &own));
    }
    let (route, rule) = (
        "a route that is not exported counts in its own namespace alone",
        "a rule that is not exported counts in its own namespace alone",
    );
    let pairs = [
        ("export/route", Kind::InnerRoute, Kind::OuterRoute, Expected::Http(TEAPOT), route),
        ("export/rule", Kind::InnerRule, Kind::OuterRule, NOT_SPOKEN_TO, rule),
    ];
    for (id, inner, outer, how, owed) in pairs {
        let within = one(&side.open, to(inner)).await?;
        let without = one(&side.stranger, to(inner)).await?;
        let exported = one(&side.stranger, to(outer)).await?;
        claims.push(refused(&format!("{id}/inner"), owed, &within, how, &without));
        let owed = "what is exported to all counts in other namespaces";
        claims.push(refused(&format!("{id}/outer"), owed, &exported, how, &without));
    }
    Ok(claims)
}

crate::trials! {
    proxies_know_what_they_are_told_and_nothing_else,
}
