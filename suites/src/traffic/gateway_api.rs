//! The Gateway API beside Istio's own: `HTTPRoute`, `GRPCRoute` and `TLSRoute`.

use std::time::Duration;

use futures::future::try_join_all;
use meshproof::probe::{self, Dial, Expected, Protocol, TlsOptions, Vantage, WHOAMI_METHOD, handshake};
use meshproof::record::{HostPort, Requirement, Write};
use meshproof::report::Claim;
use meshproof::scope::claims;
use meshproof::{Error, Result, Scope, Seen, Verdict, Workload, eventually};
use serde_json::{Value, json};

use super::arena::{PLAIN, Place, REQUIRED, SUITE, await_marks};
use super::sent::{REQUESTS, SOME, answers_share, ask, both_answer, request};
use super::span::{Servers, Side, Span, Spanning};

/// Group of the API's objects, and their version.
const GROUP: &str = "gateway.networking.k8s.io";
const VERSION: &str = "v1";

/// Share of the requests for the first cluster, in percent.
const WEIGHT: u8 = 80;

const WEIGHTED: &str = "weighted";
const CALLED: &str = "called";
const NOT_CALLED: &str = "not-called";

/// Name of the gateway, and its port.
const GATEWAY: &str = "api";
const PORT: u16 = 8443;

/// A name that no route has, although the gateway's listener takes it.
const UNKNOWN: &str = "nowhere.api.meshproof.test";

/// Longest wait for the gateway and its routes.
const READY: Duration = Duration::from_secs(60);

/// Name of the service of one side.
fn of_side(index: usize) -> String {
    format!("side-{index}")
}

/// The server name that leads to one side.
fn server_name(index: usize) -> String {
    format!("to-{index}.api.meshproof.test")
}

fn services() -> Vec<Spanning> {
    let of_all = [PLAIN, WEIGHTED, CALLED, NOT_CALLED].map(|name| Spanning::of_all(name, None));
    let of_one = (0..2).map(|index| Spanning { name: of_side(index), servers: Servers::Of(index), policy: None });
    of_all.into_iter().chain(of_one).collect()
}

/// The ports of a side's service that routes lead to.
#[derive(Debug, Clone, Copy)]
struct Ports {
    http: u16,
    grpc: u16,
    tls: u16,
}

/// The routes, and the gateway of `TLSRoute`s.
fn objects(place: &Place, ports: Ports) -> Vec<Value> {
    let object = |kind: &str, name: &str, spec: Value| {
        json!({
            "apiVersion": format!("{GROUP}/{VERSION}"), "kind": kind,
            "metadata": { "name": name, "namespace": place.namespace }, "spec": spec,
        })
    };
    // Of the one port: a route of all ports would lead HTTP/1.1 to a port of gRPC.
    let of_service = |name: &str, port: u16| json!([{ "group": "", "kind": "Service", "name": name, "port": port }]);
    let to = |index: usize, port: u16| json!({ "name": of_side(index), "port": port });
    let weighted = |index: usize, weight: u8| {
        let mut backend = to(index, ports.http);
        backend["weight"] = weight.into();
        backend
    };
    let shares = json!([{ "backendRefs": [weighted(0, WEIGHT), weighted(1, 100 - WEIGHT)] }]);
    let (service, method) = WHOAMI_METHOD.trim_start_matches('/').split_once('/').unwrap_or_default();
    let by_method = |method: &str| {
        json!([
            {
                "matches": [{ "method": { "type": "Exact", "service": service, "method": method } }],
                "backendRefs": [to(1, ports.grpc)],
            },
            { "backendRefs": [to(0, ports.grpc)] },
        ])
    };
    let mut gateway = object(
        "Gateway",
        GATEWAY,
        json!({
            "gatewayClassName": "istio",
            "listeners": [{
                "name": "tls", "port": PORT, "protocol": "TLS", "hostname": "*.api.meshproof.test",
                "tls": { "mode": "Passthrough" },
            }],
        }),
    );
    // Nothing outside of the cluster has to reach it.
    gateway["metadata"]["annotations"] = json!({ "networking.istio.io/service-type": "ClusterIP" });
    let by_name = |index: usize| {
        let spec = json!({
            "parentRefs": [{ "name": GATEWAY }], "hostnames": [server_name(index)],
            "rules": [{ "backendRefs": [to(index, ports.tls)] }],
        });
        object("TLSRoute", &of_side(index), spec)
    };
    let grpc = |name: &str, method: &str| {
        object("GRPCRoute", name, json!({ "parentRefs": of_service(name, ports.grpc), "rules": by_method(method) }))
    };
    vec![
        object("HTTPRoute", WEIGHTED, json!({ "parentRefs": of_service(WEIGHTED, ports.http), "rules": shares })),
        grpc(CALLED, method),
        grpc(NOT_CALLED, "Another"),
        gateway,
        by_name(0),
        by_name(1),
    ]
}

/// Routes of the Gateway API, in both directions between the clusters: an `HTTPRoute` shares the requests to a service
/// between clusters by weight, a `GRPCRoute` sends a method to one of them, and a `TLSRoute` leads by the server name from a
/// gateway that Istio runs for it. Without a route, the servers of all clusters answer; a method that does not match takes
/// the next rule; a server name without a route leads nowhere.
///
/// Red if: the weights are 20 and 80, or a route is left out; the method is another; two server names are exchanged.
async fn routes_of_the_gateway_api_lead_where_they_say() -> Verdict {
    Scope::run(SUITE, "routes_of_the_gateway_api_lead_where_they_say", async |scope| {
        scope.requires(REQUIRED)?;
        // Routes and gateways of this API are more than what `attach` permits.
        scope.requires([Requirement::Clusters(2), Requirement::Write(Write::Objects)])?;
        let clusters = &scope.testbed.clusters;
        for cluster in clusters.iter().take(2) {
            for kind in ["Gateway", "HTTPRoute", "GRPCRoute", "TLSRoute"] {
                let known = cluster.knows(GROUP, VERSION, kind).await?;
                cluster.record().declared(&format!("{kind} of the Gateway API"), known.then_some(()))?;
            }
        }
        let first = clusters.first().ok_or_else(|| Error::suite("the mesh has no cluster"))?;
        let port = |protocol| probe::port(first, protocol);
        let ports = Ports { http: port(Protocol::Http1)?, grpc: port(Protocol::Grpc)?, tls: port(Protocol::Tls)? };
        let protocols = [Protocol::Http1, Protocol::Grpc, Protocol::Tls];
        let span = Span::make(scope, "gateway-api", &protocols, services(), |place, _| objects(place, ports)).await?;
        let judging = span.sides.iter().map(async |side| {
            let (routed, by_name) = futures::try_join!(routes(&span, side), names(&span, side))?;
            let kubectl = side.cluster.command("kubectl");
            let kinds = "gateways.gateway.networking.k8s.io,httproutes,grpcroutes,tlsroutes";
            let show = format!("{kubectl} -n {} get {kinds} -o yaml", span.place.namespace);
            let claims = routed.into_iter().chain(by_name);
            claims.for_each(|claim| scope.claim(claim.with_commands(vec![show.clone()])));
            Ok::<_, Error>(())
        });
        try_join_all(judging).await.map(drop)
    })
    .await
}

/// What a caller's requests to services become.
async fn routes(span: &Span, side: &Side) -> Result<Vec<Claim>> {
    let from = side.cluster.name();
    let known = [(WEIGHTED, Protocol::Http1), (CALLED, Protocol::Grpc), (NOT_CALLED, Protocol::Grpc)];
    let known: Vec<String> = known
        .into_iter()
        .map(|(name, protocol)| {
            let (namespace, host) = (&span.place.namespace, span.place.host(name));
            let port = probe::port(&side.cluster, protocol)?;
            Ok::<_, Error>(format!("/virtual-service/{namespace}~{port}~{host}"))
        })
        .collect::<Result<_, _>>()?;
    await_marks(&side.caller, "dynamic_route_configs", known).await?;
    let calls = async |service: &str, protocol, count: usize| {
        let (host, port) = (span.place.host(service), probe::port(&side.cluster, protocol)?);
        let id = format!("{service}/from-{from}");
        ask(&side.caller, (0..count).map(|_| request(&id, protocol, &host, port)).collect()).await
    };
    let [first, second] = [0, 1].map(|index| &span.sides[index].server);
    let weighted = calls(WEIGHTED, Protocol::Http1, REQUESTS).await?;
    let owed = "an HTTPRoute shares requests between clusters as its weights say";
    let share = f64::from(WEIGHT) / 100.0;
    let mut claims = vec![answers_share(format!("http-route/from-{from}"), owed, &weighted, first, share)];
    let (called, not_called) =
        (calls(CALLED, Protocol::Grpc, SOME).await?, calls(NOT_CALLED, Protocol::Grpc, SOME).await?);
    let owed = "a GRPCRoute sends the method that it names to its own destination";
    claims.push(answers_share(format!("grpc-route/named/from-{from}"), owed, &called, second, 1.0));
    let owed = "a GRPCRoute sends other methods by the next rule";
    claims.push(answers_share(format!("grpc-route/other/from-{from}"), owed, &not_called, first, 1.0));
    for protocol in [Protocol::Http1, Protocol::Grpc] {
        let plain = calls(PLAIN, protocol, SOME).await?;
        let id = format!("gateway-api/no-route/{protocol}/from-{from}");
        claims.push(both_answer(id, &plain, [first, second]));
    }
    Ok(claims)
}

/// A request for `name` through the gateway: the handshake is that of the server behind it.
fn through(gateway: &Workload, id: &str, name: &str) -> Dial {
    let place = HostPort::new(&gateway.address, PORT);
    let dial = handshake(format!("{id}/{}", gateway.cluster.name()), &place, Some(name), None, Protocol::Http1);
    let tls = dial.tls.map(|tls| TlsOptions { alpn: vec!["http/1.1".into()], ..tls });
    Dial { tls, authority: Some(name.into()), source_port: None, ..dial }
}

/// Where the gateway of a side leads by the server name.
async fn names(span: &Span, side: &Side) -> Result<Vec<Claim>> {
    let selector = format!("gateway.networking.k8s.io/gateway-name={GATEWAY}");
    let gateway = Workload::await_ready(&side.cluster, &span.place.namespace, &selector, READY).await?;
    let client = Vantage::Naked(probe::naked(&side.cluster).await?);
    let dials = |id: &str| -> Vec<Dial> {
        span.sides.iter().map(|owner| through(&gateway, id, &server_name(owner.index))).collect()
    };
    eventually(format!("the gateway {gateway} to lead to every server"), READY, async || {
        let seen = client.dial(dials("first")).await?;
        let lost = seen.iter().find(|exchange| !exchange.outcome().is_answered());
        Ok::<_, Error>(match lost {
            None => Seen::Yes(()),
            Some(lost) => Seen::NotYet(format!("{}: {}", lost.destination(), lost.outcome())),
        })
    })
    .await?;
    let mut asked = dials("by-name");
    asked.push(through(&gateway, "unknown", UNKNOWN));
    let mut seen = client.dial(asked).await?;
    let unknown = seen.pop().ok_or_else(|| Error::suite("a dial has no report"))?;
    let (id, owed) = (format!("{SUITE}/tls-route"), "a TLSRoute leads to its destination by the server name");
    let mut claims: Vec<Claim> = seen
        .iter()
        .zip(&span.sides)
        .map(|(exchange, owner)| {
            let id = format!("{id}/to-{}", owner.cluster.name());
            claims::answered(&id, owed, exchange, &owner.server)
        })
        .collect();
    let control = &seen[side.index];
    let owed = "a server name without a TLSRoute leads nowhere";
    claims.push(claims::denied(&id, owed, &unknown, Expected::EndedBeforeTls, control, Some(&side.server)));
    Ok(claims)
}

crate::trials! {
    routes_of_the_gateway_api_lead_where_they_say,
}
