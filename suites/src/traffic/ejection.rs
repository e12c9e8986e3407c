//! Outlier ejection, and limits of connections.

use std::time::{Duration, Instant};

use futures::future::try_join_all;
use meshproof::istio::{AccessEntry, outbound};
use meshproof::judge::Share;
use meshproof::probe::{Dial, Exchange, Expected, Outcome, Protocol, Vantage};
use meshproof::record::Requirement;
use meshproof::report::Claim;
use meshproof::{Result, Scope, Seen, Verdict, cluster, eventually};
use serde_json::{Value, json};

use super::arena::{Place, REQUIRED, SUITE};
use super::sent::{ERROR, all_answered, ask, is_by, request, told};
use super::span::{Servers, Side, Span, Spanning};

/// Requests in each row. Half of them go to the broken server as long as it is not ejected: fewer than [`FAILURES`] for
/// chance in fewer than 1 of 10⁹ runs.
const REQUESTS: usize = 40;

/// Failures in a row that eject a server.
const FAILURES: usize = 3;

/// How long a server is ejected the first time: longer than a busy machine needs for the next requests.
const EJECTED: Duration = Duration::from_secs(30);

/// Most rows of requests until two of them are made within [`EJECTED`].
const ROWS: usize = 5;

/// Longest wait for an ejected server to be asked again. The second time, it is ejected for twice as long.
const BACK: Duration = Duration::from_secs(120);

/// Requests at once to a service with limits.
const AT_ONCE: usize = 12;

/// How long each of them takes, in milliseconds.
const SLOW_MS: u64 = 1_000;

/// Most requests that limits of one connection and one waiting request let through, of [`AT_ONCE`] requests. Each of
/// Envoy's two workers may have one connection whatever the limit, and requests come in at slightly different times.
const LET_THROUGH: usize = 5;

/// Names of the services about one side.
fn ejects(index: usize) -> String {
    format!("ejects-{index}")
}

fn keeps(index: usize) -> String {
    format!("keeps-{index}")
}

fn limits(index: usize) -> String {
    format!("limits-{index}")
}

fn unlimited(index: usize) -> String {
    format!("unlimited-{index}")
}

fn services() -> Vec<Spanning> {
    let near_is_nothing = json!({ "localityLbSetting": { "enabled": false } });
    let detection = json!({
        "consecutive5xxErrors": FAILURES, "interval": "1s", "maxEjectionPercent": 100,
        "baseEjectionTime": format!("{}s", EJECTED.as_secs()),
    });
    let pool = json!({
        "tcp": { "maxConnections": 1 }, "http": { "http1MaxPendingRequests": 1, "maxRequestsPerConnection": 1 },
    });
    let of_side = |index: usize| {
        let ejecting = json!({ "loadBalancer": near_is_nothing, "outlierDetection": detection });
        let keeping = json!({ "loadBalancer": near_is_nothing });
        let one = |name, policy| Spanning { name, servers: Servers::Of(index), policy };
        [
            Spanning::of_all(&ejects(index), Some(ejecting)),
            Spanning::of_all(&keeps(index), Some(keeping)),
            one(limits(index), Some(json!({ "connectionPool": pool }))),
            one(unlimited(index), None),
        ]
    };
    (0..2).flat_map(of_side).collect()
}

/// Breaks the server of a side for the services about it: its proxy answers with status 500. A status of 503 could be
/// tried again elsewhere.
fn broken(place: &Place, index: usize) -> Vec<Value> {
    let name = format!("({}|{})\\..*", ejects(index), keeps(index));
    let fault = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault",
        "abort": { "http_status": 500, "percentage": { "numerator": 100 } },
        "headers": [{ "name": ":authority", "string_match": { "safe_regex": { "regex": name } } }],
    });
    let router = json!({
        "name": "envoy.filters.network.http_connection_manager", "subFilter": { "name": "envoy.filters.http.router" },
    });
    let patch = json!({
        "applyTo": "HTTP_FILTER",
        "match": { "context": "SIDECAR_INBOUND", "listener": { "filterChain": { "filter": router } } },
        "patch": {
            "operation": "INSERT_BEFORE", "value": { "name": "meshproof.broken", "typed_config": fault },
        },
    });
    vec![json!({
        "apiVersion": "networking.istio.io/v1alpha3", "kind": "EnvoyFilter",
        "metadata": { "name": "broken", "namespace": place.namespace },
        "spec": { "workloadSelector": { "labels": { "side": index.to_string() } }, "configPatches": [patch] },
    })]
}

/// A server that fails three times in a row is asked no more, whichever cluster it and its callers are in, and is asked
/// again when its time is over. Beyond the limits of a service, requests are refused at the caller's proxy, which counts
/// them. Without the rules, the broken server goes on failing, and all requests come through.
///
/// Red if: the detection or the limits are left out; fifty failures eject; the ejection lasts five minutes.
async fn bad_servers_are_ejected_and_overflow_is_refused() -> Verdict {
    Scope::run(SUITE, "bad_servers_are_ejected_and_overflow_is_refused", async |scope| {
        scope.requires(REQUIRED)?;
        scope.requires([Requirement::Clusters(2)])?;
        let span = Span::make(scope, "ejection", &[Protocol::Http1], services(), broken).await?;
        let ways = || span.sides.iter().flat_map(|from| span.sides.iter().map(move |about| (from, about)));
        let judging = ways().map(async |(from, about)| {
            let (ejection, overflow) = futures::try_join!(ejection(&span, from, about), overflow(&span, from, about))?;
            let kubectl = from.cluster.command("kubectl");
            let show = format!("{kubectl} -n {} get destinationrules,envoyfilters -o yaml", span.place.namespace);
            let claims = ejection.into_iter().chain(overflow);
            claims.for_each(|claim| scope.claim(claim.with_commands(vec![show.clone()])));
            Ok(())
        });
        try_join_all(judging).await.map(drop)
    })
    .await
}

/// Requests one after the other.
fn in_turn(span: &Span, service: &str, id: &str) -> Vec<Dial> {
    let host = span.place.host(service);
    let dial = |index: u64| Dial {
        not_before_ms: Some(index * 25),
        ..request(format!("{id}/{service}"), Protocol::Http1, &host, span.port())
    };
    (0..REQUESTS as u64).map(dial).collect()
}

fn has_failed(exchange: &Exchange) -> bool {
    matches!(exchange.outcome(), Outcome::Http { status: 500, .. })
}

fn way(from: &Side, about: &Side) -> String {
    format!("{}-to-{}", from.cluster.name(), about.cluster.name())
}

fn failed(exchanges: &[Exchange]) -> usize {
    exchanges.iter().filter(|exchange| has_failed(exchange)).count()
}

/// The claim that a server is asked no more after a row in which it failed. On a busy machine, the ejection may end before
/// the next row does: that pair proves nothing, and another row follows.
async fn ejected(span: &Span, from: &Side, about: &Side, service: &str) -> Result<Claim> {
    let good = &span.other(about.index).server;
    let id = format!("{SUITE}/ejection/{}", way(from, about));
    let claim = Claim::about(id, "a server that failed is asked no more")
        .from(format!("meshed {}", from.caller))
        .to(span.place.host(service))
        .expects(format!("after {FAILURES} failures, every answer from {good}"));
    let mut started = Instant::now();
    let mut before = failed(&ask(&from.caller, in_turn(span, service, "row-0")).await?);
    let mut too_late = None;
    for row in 1..ROWS {
        let started_after = Instant::now();
        let after = ask(&from.caller, in_turn(span, service, &format!("row-{row}"))).await?;
        let took = started.elapsed();
        if before >= FAILURES && took < EJECTED {
            let share = Share::of(&after, |exchange| is_by(exchange, good));
            let claim = claim.observes(&share, told, |share| share.fits(1.0, ERROR));
            let server = &about.server;
            let evidence = format!("before, {before} of {REQUESTS} failed at {server}; both rows took {took:.1?}");
            return Ok(all_answered(claim.with_evidence(evidence), &after, good));
        }
        too_late = too_late.or((before >= FAILURES).then_some(took));
        (started, before) = (started_after, failed(&after));
    }
    Ok(claim.not_judged(match too_late {
        Some(took) => format!("the ejection lasts {EJECTED:?}, and two rows of {REQUESTS} requests took {took:.0?}"),
        None => format!("in no row of {REQUESTS} requests was the broken server asked {FAILURES} times"),
    }))
}

async fn ejection(span: &Span, from: &Side, about: &Side) -> Result<Vec<Claim>> {
    let way = way(from, about);
    let (ejecting, keeping) = (ejects(about.index), keeps(about.index));
    let claim = ejected(span, from, about, &ejecting).await?;
    let kept = ask(&from.caller, in_turn(span, &keeping, "kept")).await?;
    let owed = "without detection, a server that fails is asked on";
    let control = Claim::about(format!("{SUITE}/ejection-no-rule/{way}"), owed)
        .from(format!("meshed {}", from.caller))
        .to(span.place.host(&keeping))
        .expects(format!("more than {FAILURES} failures"))
        .observes(
            &failed(&kept),
            |failures| format!("{failures} of {REQUESTS} failed with status 500"),
            |failures| *failures > FAILURES,
        );
    let back = back(span, from, about, &ejecting).await?;
    Ok(vec![claim, control, back])
}

/// The claim that an ejected server is asked again.
async fn back(span: &Span, from: &Side, about: &Side, service: &str) -> Result<Claim> {
    let waiting = eventually("an ejected server to be asked again", BACK, async || {
        let few = in_turn(span, service, "back").into_iter().take(8).collect();
        let seen = Vantage::Meshed(from.caller.clone()).dial(few).await?;
        let is_asked = seen.iter().any(has_failed);
        Ok::<_, cluster::Error>(if is_asked { Seen::Yes(()) } else { Seen::NotYet("answers of the other".into()) })
    });
    let returned = waiting.await;
    let owed = "an ejected server is asked again when its time is over";
    Ok(Claim::about(format!("{SUITE}/ejection-ends/{}", way(from, about)), owed)
        .from(format!("meshed {}", from.caller))
        .to(span.place.host(service))
        .expects(format!("a failure of {} within {BACK:?}", about.server))
        .observes(
            &returned,
            |returned| match returned {
                Ok(()) => "a failure with status 500".into(),
                Err(error) => error.to_string(),
            },
            Result::is_ok,
        ))
}

/// Requests that take a while, at once.
fn at_once(span: &Span, service: &str, id: &str) -> Vec<Dial> {
    let host = span.place.host(service);
    let dial = |_| Dial {
        path: Some(format!("/delay/{SLOW_MS}")),
        ..request(format!("{id}/{service}"), Protocol::Http1, &host, span.port())
    };
    (0..AT_ONCE).map(dial).collect()
}

/// How often the caller's proxy says that requests to a service found no room.
async fn counted(from: &Side, service: &str) -> Result<u64> {
    let counts = from.caller.proxy_counts(&format!("{service}.*upstream_rq_pending_overflow")).await?;
    Ok(counts.iter().map(|count| count.value).sum())
}

async fn overflow(span: &Span, from: &Side, about: &Side) -> Result<Vec<Claim>> {
    let (way, service) = (way(from, about), limits(about.index));
    let before = counted(from, &service).await?;
    let limited = ask(&from.caller, at_once(span, &service, "limited")).await?;
    let after = counted(from, &service).await?;
    let free = ask(&from.caller, at_once(span, &unlimited(about.index), "unlimited")).await?;
    let said = outbound(&limited, &from.caller).await?;
    let is_refused = |exchange: &Exchange| Expected::Http(503).is_met_by(exchange.outcome());
    let refused = limited.iter().filter(|exchange| is_refused(exchange)).count();
    let answered = limited.iter().filter(|exchange| exchange.outcome().is_answered()).count();
    let owed = "requests beyond the limits of a service are refused";
    let claim = Claim::about(format!("{SUITE}/overflow/{way}"), owed)
        .from(format!("meshed {}", from.caller))
        .to(span.place.host(&service))
        .expects(format!("of {AT_ONCE} at once, 1 to {LET_THROUGH} answered, the others refused with status 503"))
        .observes(
            &(answered, refused),
            |(answered, refused)| format!("{answered} answered, {refused} refused"),
            |(answered, refused)| (1..=LET_THROUGH).contains(answered) && answered + refused == AT_ONCE,
        );
    let is_overflow = |entry: &AccessEntry| entry.get("response_flags").is_some_and(|flags| flags.contains("UO"));
    let overflown = said.iter().flatten().filter(|entry| is_overflow(entry)).count();
    let faults = [
        (overflown != refused).then(|| format!("the caller's proxy logs {overflown} as overflow (UO)")),
        (after - before != refused as u64).then(|| format!("the caller's proxy counts {}", after - before)),
    ];
    let claim = faults.into_iter().flatten().fold(claim, Claim::with_fault);
    let others = said.iter().flatten().filter(|entry| !is_overflow(entry)).filter_map(AccessEntry::failure);
    let claim = others.fold(claim, |claim, failure| claim.with_evidence(failure));
    let share = Share::of(&free, |exchange| is_by(exchange, &about.server));
    let control = Claim::about(format!("{SUITE}/overflow-no-rule/{way}"), "without limits, no request is refused")
        .from(format!("meshed {}", from.caller))
        .to(span.place.host(&unlimited(about.index)))
        .expects("every request answered")
        .observes(&share, told, |share| share.fits(1.0, ERROR));
    Ok(vec![claim, all_answered(control, &free, &about.server)])
}

crate::trials! {
    bad_servers_are_ejected_and_overflow_is_refused,
}
