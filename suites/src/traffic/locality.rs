//! Preference of near servers, shares by region, and failover between clusters.

use meshproof::probe::{Exchange, Protocol};
use meshproof::record::Requirement;
use meshproof::report::Claim;
use meshproof::{Result, Scope, Verdict};
use serde_json::{Map, Value, json};

use super::arena::{PLAIN, REQUIRED, SUITE};
use super::sent::{REQUESTS, SOME, answers_share, ask, both_answer, request};
use super::span::{Side, Span, Spanning, region};

/// Share of the requests that stay in their region, in percent.
const STAYS: u8 = 70;

const BY_REGION: &str = "by-region";
const BY_CLUSTER: &str = "by-cluster";
const SPREAD: &str = "spread";

/// Without it, Istio gives endpoints no priority.
fn detection() -> Value {
    json!({ "consecutive5xxErrors": 5, "interval": "10s", "baseEjectionTime": "30s" })
}

/// Protocols whose calls say who answers.
const PROTOCOLS: [Protocol; 3] = [Protocol::Http1, Protocol::Grpc, Protocol::Tcp];

fn services() -> Vec<Spanning> {
    let locality = |setting: Value| json!({ "localityLbSetting": setting });
    let by_region = json!({ "loadBalancer": locality(json!({ "enabled": true })), "outlierDetection": detection() });
    let by_cluster = json!({
        "loadBalancer": locality(json!({ "enabled": true, "failoverPriority": ["topology.istio.io/cluster"] })),
        "outlierDetection": detection(),
    });
    let of = |index: usize| format!("{}/*", region(index));
    let from = |index: usize| {
        let to: Map<String, Value> =
            [(of(index), json!(STAYS)), (of(1 - index), json!(100 - STAYS))].into_iter().collect();
        json!({ "from": of(index), "to": to })
    };
    let distribute = [from(0), from(1)];
    let spread = json!({ "loadBalancer": locality(json!({ "enabled": true, "distribute": distribute })) });
    vec![
        Spanning::of_all(PLAIN, None),
        Spanning::of_all(BY_REGION, Some(by_region)),
        Spanning::of_all(BY_CLUSTER, Some(by_cluster)),
        Spanning::of_all(SPREAD, Some(spread)),
    ]
}

/// Calls stay in their region, or in their cluster, while a server is there; go to the other cluster when it is gone; and
/// come back with it. Or they are shared between regions by weight. Without a rule, the servers of all clusters answer.
///
/// Red if: the rules are left out; the weights are 30 and 70.
async fn calls_stay_near_fail_over_and_come_back() -> Verdict {
    Scope::run(SUITE, "calls_stay_near_fail_over_and_come_back", async |scope| {
        scope.requires(REQUIRED)?;
        scope.requires([Requirement::Clusters(2)])?;
        let mut span = Span::make(scope, "near", &PROTOCOLS, services(), |_, _| Vec::new()).await?;
        for claims in futures::future::try_join_all(span.sides.iter().map(|side| at_first(&span, side))).await? {
            claims.into_iter().for_each(|claim| scope.claim(claim));
        }
        let preferring = [BY_REGION, BY_CLUSTER];
        for index in 0..span.sides.len() {
            for (moment, is_there) in [("gone", false), ("back", true)] {
                span.set_server(index, is_there, &preferring).await?;
                let claims = near(&span, index, moment, is_there).await?;
                claims.into_iter().for_each(|claim| scope.claim(claim));
            }
        }
        Ok(())
    })
    .await
}

/// Asks a service from the caller of a side.
async fn calls(span: &Span, side: &Side, service: &str, protocol: Protocol, count: usize) -> Result<Vec<Exchange>> {
    let (host, port) = (span.place.host(service), meshproof::probe::port(&side.cluster, protocol)?);
    let id = format!("{service}/{}", side.cluster.name());
    ask(&side.caller, (0..count).map(|_| request(&id, protocol, &host, port)).collect()).await
}

async fn at_first(span: &Span, side: &Side) -> Result<Vec<Claim>> {
    let from = side.cluster.name();
    let mut claims = near(span, side.index, "at-first", true).await?;
    for protocol in PROTOCOLS {
        let spread = calls(span, side, SPREAD, protocol, REQUESTS).await?;
        let id = format!("spread/{protocol}/from-{from}");
        let owed = "regions share requests as their weights say";
        claims.push(answers_share(id, owed, &spread, &side.server, f64::from(STAYS) / 100.0));
    }
    let plain = calls(span, side, PLAIN, Protocol::Http1, SOME).await?;
    let servers = [&side.server, &span.other(side.index).server];
    claims.push(both_answer(format!("near/no-rule/from-{from}"), &plain, servers));
    Ok(claims)
}

/// Whether the calls of a side stay there, or all go to the other.
async fn near(span: &Span, index: usize, moment: &str, stays: bool) -> Result<Vec<Claim>> {
    let side = &span.sides[index];
    let server = if stays { &side.server } else { &span.other(index).server };
    let mut claims = Vec::new();
    for (service, protocol) in
        [BY_REGION, BY_CLUSTER].into_iter().flat_map(|service| PROTOCOLS.map(|protocol| (service, protocol)))
    {
        let seen = calls(span, side, service, protocol, SOME).await?;
        let id = format!("near/{service}/{moment}/{protocol}/from-{}", side.cluster.name());
        let owed = "calls go to the nearest server that there is";
        let shares = answers_share(id, owed, &seen, server, 1.0);
        let (kubectl, namespace) = (side.cluster.command("kubectl"), &span.place.namespace);
        let (istioctl, pod) = (side.cluster.command("istioctl"), &side.caller.pod);
        claims.push(shares.with_commands(vec![
            format!("{kubectl} -n {namespace} get destinationrules -o yaml"),
            format!("{istioctl} proxy-config endpoints {pod}.{namespace} -o yaml"),
        ]));
    }
    Ok(claims)
}

crate::trials! {
    calls_stay_near_fail_over_and_come_back,
}
