//! Weights, subsets, matches of requests, and mirroring.

use meshproof::judge::Share;
use meshproof::probe::{Exchange, Protocol, RawRequest};
use meshproof::record::HostPort;
use meshproof::report::Claim;
use meshproof::{Error, Result, Scope, Verdict, Workload};
use serde_json::{Value, json};

use super::arena::{Arena, PLAIN, Place, REQUIRED, SUITE, Service};
use super::sent::{
    Arrivals, ERROR, Logs, REQUESTS, SOME, all_answered, answers_share, ask, both_answer, is_by, logs, request, told,
};

/// Weight of the server `one`, in percent.
const WEIGHT: u8 = 80;

/// Percentage of the requests that are mirrored in part.
const MIRRORED: u8 = 50;

const WEIGHTED: &str = "weighted";
const PINNED: &str = "pinned";
const MATCHED: &str = "matched";
const COPIED: &str = "copied";
const HALF_COPIED: &str = "half-copied";

/// Protocols whose answers say who answers, and that a weighted route takes.
const PROTOCOLS: [Protocol; 4] = [Protocol::Http1, Protocol::Http2, Protocol::Grpc, Protocol::Tcp];

fn services(place: &Place, tcp_port: u16) -> Vec<Service> {
    let to = |service: &str, subset: &str| json!([{ "destination": place.subset(service, subset) }]);
    let weighted = json!([
        { "destination": place.subset(WEIGHTED, "one"), "weight": WEIGHT },
        { "destination": place.subset(WEIGHTED, "two"), "weight": 100 - WEIGHT },
    ]);
    let mut weights = Service::routed(place, WEIGHTED, json!([{ "route": weighted }]));
    for rule in weights.rules.iter_mut().filter(|rule| rule["kind"] == "VirtualService") {
        rule["spec"]["tcp"] = json!([{ "match": [{ "port": tcp_port }], "route": weighted }]);
    }
    let copied = |name, share: u8| {
        let route = json!([{
            "route": to(name, "one"), "mirror": place.subset(name, "two"), "mirrorPercentage": { "value": share },
        }]);
        Service::routed(place, name, route)
    };
    let matched = Service::routed(place, MATCHED, matches(&to(MATCHED, "one"), &to(MATCHED, "two")));
    let pinned = Service::routed(place, PINNED, json!([{ "route": to(PINNED, "two") }]));
    vec![Service::plain(place), weights, pinned, matched, copied(COPIED, 100), copied(HALF_COPIED, MIRRORED)]
}

/// Routes by what a request has. The first that matches decides.
fn matches(one: &Value, two: &Value) -> Value {
    json!([
        { "match": [{ "headers": { "x-pin": { "exact": "one" } } }], "route": one },
        { "match": [{ "headers": { "x-user": { "exact": "jason" } } }], "route": two },
        { "match": [{ "headers": { "x-group": { "prefix": "beta-" } } }], "route": two },
        { "match": [{ "uri": { "prefix": "/status/25" } }, { "method": { "exact": "HEAD" } }], "route": two },
        { "route": one },
    ])
}

/// A request, and the server to which [`matches`] sends it.
struct Case {
    name: &'static str,
    request: RawRequest,
    server: usize,
}

fn cases(host: &str) -> Vec<Case> {
    let get = |path: &str| RawRequest::new("GET", host, path).with_nonce_in_query();
    let who = || get("/whoami");
    let case = |name, request, server| Case { name, request, server };
    vec![
        case("nothing", who(), 0),
        case("header", who().with_header("x-user", "jason"), 1),
        case("header-other-value", who().with_header("x-user", "jasons"), 0),
        case("header-prefix", who().with_header("x-group", "beta-7"), 1),
        case("header-not-prefix", who().with_header("x-group", "no-beta-7"), 0),
        case("path", get("/status/251"), 1),
        case("other-path", get("/status/261"), 0),
        case("method", RawRequest::new("HEAD", host, "/whoami").with_nonce_in_query(), 1),
        case("first-rule", who().with_header("x-pin", "one").with_header("x-user", "jason"), 0),
    ]
}

/// Weights of 80 and 20 over four protocols, a subset, matches of headers, paths and methods, and copies of all and of half
/// of the requests, from the same and the other clusters. The control is a service without rules, whose servers both
/// answer.
///
/// Red if: the weights are 50 and 50; the order of two matches is exchanged; the mirror is left out, or has another
/// percentage; the route names no subset.
async fn requests_go_where_rules_send_them() -> Verdict {
    Scope::run(SUITE, "requests_go_where_rules_send_them", async |scope| {
        scope.requires(REQUIRED)?;
        let tcp_port = scope.testbed.clusters.first().map(|cluster| meshproof::probe::port(cluster, Protocol::Tcp));
        let tcp_port = tcp_port.transpose()?.unwrap_or_default();
        let arenas = Arena::all(scope, "routing", &PROTOCOLS, |place| services(place, tcp_port)).await?;
        Arena::judge_each(scope, &arenas, judge).await;
        Ok(())
    })
    .await
}

async fn judge(arena: &Arena, caller: &Workload) -> Result<Vec<Claim>> {
    let mut claims = shares(arena, caller).await?;
    claims.extend(matching(arena, caller).await?);
    claims.extend(mirroring(arena, caller).await?);
    Ok(claims)
}

async fn shares(arena: &Arena, caller: &Workload) -> Result<Vec<Claim>> {
    let way = arena.way(caller);
    let [one, two] = &arena.servers;
    let many = |service: &str, protocol, count: usize| {
        let (host, port) = (arena.place.host(service), arena.port(protocol)?);
        let id = format!("{service}/{protocol}/{way}");
        Ok::<_, Error>((0..count).map(move |_| request(&id, protocol, &host, port)))
    };
    let mut claims = Vec::new();
    for protocol in PROTOCOLS {
        let seen = ask(caller, many(WEIGHTED, protocol, REQUESTS)?.collect()).await?;
        let id = format!("weights/{protocol}/{way}");
        let owed = "routes share requests as their weights say";
        claims.push(answers_share(id, owed, &seen, one, f64::from(WEIGHT) / 100.0));
    }
    let pinned = ask(caller, many(PINNED, Protocol::Http1, SOME)?.collect()).await?;
    let owed = "a route to a subset leads to no other server";
    claims.push(answers_share(format!("subset/{way}"), owed, &pinned, two, 1.0));
    let plain = ask(caller, many(PLAIN, Protocol::Http1, SOME)?.collect()).await?;
    claims.push(both_answer(format!("no-rule/{way}"), &plain, [one, two]));
    Ok(claims)
}

async fn matching(arena: &Arena, caller: &Workload) -> Result<Vec<Claim>> {
    let way = arena.way(caller);
    let to = |service: &str| Ok::<_, Error>(HostPort::new(arena.place.host(service), arena.port(Protocol::Http1)?));
    let (ruled, plain) = (to(MATCHED)?, to(PLAIN)?);
    let cases = cases(&ruled.host);
    let dials = cases.iter().map(|case| case.request.dial(format!("{}/{way}", case.name), &ruled));
    // The control: a request that a rule would match, without the rule.
    let unruled = RawRequest::new("GET", &plain.host, "/whoami").with_nonce_in_query().with_header("x-user", "jason");
    let controls = (0..SOME).map(|_| unruled.dial(format!("no-rule/{way}"), &plain));
    let seen = ask(caller, dials.chain(controls).collect()).await?;
    let seen: Vec<Exchange> = seen.into_iter().map(Exchange::with_status).collect();
    let logs = logs(arena, &seen, |_| 1).await?;
    let (ruled, unruled) = seen.split_at(cases.len());
    let owed = "a request takes the first route that matches it";
    let mut claims: Vec<Claim> = cases
        .iter()
        .zip(ruled)
        .map(|(case, exchange)| {
            let mut expected = Arrivals::default();
            expected.0[case.server] = 1;
            let id = format!("{SUITE}/match/{}", exchange.dial.id);
            arrival(id, owed, exchange, expected, &logs, &arena.servers[case.server])
        })
        .collect();
    let arrived = unruled
        .iter()
        .map(|exchange| logs.arrivals(exchange))
        .fold([0, 0], |sum, Arrivals(seen)| [sum[0] + seen[0], sum[1] + seen[1]]);
    let control =
        Claim::about(format!("{SUITE}/match/no-rule/{way}"), "without a rule, requests with the header go to both")
            .from(format!("meshed {caller}"))
            .to(&plain)
            .expects("arrivals at both")
            .observes(&Arrivals(arrived), Arrivals::to_string, |Arrivals(seen)| !seen.contains(&0));
    claims.push(all_answered(control, unruled, &arena.servers[0]));
    Ok(claims)
}

/// The claim that a request was answered, and arrived this often at each server.
fn arrival(
    id: String,
    requirement: &str,
    exchange: &Exchange,
    expected: Arrivals,
    logs: &Logs,
    server: &Workload,
) -> Claim {
    let claim = Claim::about(id, requirement)
        .from(&exchange.vantage)
        .to(exchange.destination())
        .expects(format!("arrivals: {expected}"))
        .observes(&logs.arrivals(exchange), Arrivals::to_string, |seen| *seen == expected);
    all_answered(claim, std::slice::from_ref(exchange), server)
}

async fn mirroring(arena: &Arena, caller: &Workload) -> Result<Vec<Claim>> {
    let way = arena.way(caller);
    let port = arena.port(Protocol::Http1)?;
    let many = |service: &str, count: usize| {
        let (id, host) = (format!("{service}/{way}"), arena.place.host(service));
        (0..count).map(move |_| request(&id, Protocol::Http1, &host, port))
    };
    let asked = many(COPIED, SOME).chain(many(HALF_COPIED, REQUESTS)).chain(many(PINNED, SOME));
    let seen = ask(caller, asked.collect()).await?;
    let is_copied = |exchange: &Exchange| exchange.dial.host == arena.place.host(COPIED);
    let logs = logs(arena, &seen, |exchange| if is_copied(exchange) { 2 } else { 1 }).await?;
    let (copied, rest) = seen.split_at(SOME);
    let (half, pinned) = rest.split_at(REQUESTS);
    let [one, two] = &arena.servers;
    let each = |exchanges: &[Exchange], expected: Arrivals| {
        Share::of(exchanges, |exchange| logs.arrivals(exchange) == expected)
    };
    let claim = |id: &str, requirement: &str, expected: &str, share: Share, of: f64| {
        Claim::about(format!("{SUITE}/mirror/{id}/{way}"), requirement)
            .from(format!("meshed {caller}"))
            .to(two)
            .expects(expected)
            .observes(&share, told, |share| share.fits(of, ERROR))
    };
    let owed = "each request is copied once, and answered by the route's own destination";
    let all = claim("all", owed, "each arrives once at both servers", each(copied, Arrivals([1, 1])), 1.0);
    let words = format!("{MIRRORED} % arrive at both servers, the rest at `one`");
    let owed = "the stated share of the requests is copied";
    let in_part = claim("half", owed, &words, each(half, Arrivals([1, 1])), f64::from(MIRRORED) / 100.0);
    let strays = half.iter().find(|exchange| !matches!(logs.arrivals(exchange), Arrivals([1, 0 | 1])));
    let in_part = match strays {
        Some(stray) => in_part.with_fault(format!("one arrived otherwise: {}", logs.arrivals(stray))),
        None => in_part,
    };
    let owed = "without a mirror, no request is copied";
    let none = claim("none", owed, "each arrives once, at `two`", each(pinned, Arrivals([0, 1])), 1.0);
    let by_one = |exchanges: &[Exchange]| exchanges.iter().all(|exchange| is_by(exchange, one));
    let answer = "a mirror answered";
    let [all, in_part] = [(all, copied), (in_part, half)].map(|(claim, exchanges)| {
        if by_one(exchanges) { claim } else { all_answered(claim.with_fault(answer), exchanges, one) }
    });
    Ok(vec![all, in_part, all_answered(none, pinned, two)])
}

crate::trials! {
    requests_go_where_rules_send_them,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_match_has_a_case_for_each_server() {
        for server in [0, 1] {
            assert!(cases("h").iter().filter(|case| case.server == server).count() >= 4);
        }
    }
}
