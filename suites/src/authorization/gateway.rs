//! Calls through an ingress gateway: the client's address, and headers that a client must not be able to forge.

use futures::future::try_join_all;
use meshproof::istio::{Decided, decisions, ingress_gateway};
use meshproof::policy::authorization::{Answer, Call, Decision, decide};
use meshproof::probe::{self, Exchange, Expected, Protocol, RawRequest, Vantage};
use meshproof::record::{Gateway, HostPort, Requirement};
use meshproof::report::Claim;
use meshproof::scope::claims;
use meshproof::{Cluster, Error, Result, Scope, Seen, Verdict, Workload, cluster, eventually};
use serde_json::{Map, Value, json};
use std::time::Duration;

use super::SUITE;
use super::arena::{REQUIRED, Server, Setup, host, servers};
use super::judge::by_the_right_policy;
use super::rows::{Ask, CONTROL, Row, cells, from, policies};

const REQUIREMENT: &str = "behind a gateway, policies decide by the client's address, which the client cannot forge";

/// An address that no client has.
const FORGED: &str = "198.51.100.7";

/// Longest wait for a route through the gateway.
const ROUTED: Duration = Duration::from_secs(30);

/// Rows about addresses, of the client and of the gateway.
fn rows(client: &Workload, gateway: &Workload) -> Vec<Row> {
    let (client, gateway) = (&client.address, &gateway.address);
    let why = "the other rows of this test have the other expectation";
    let forged = || {
        [
            Ask::get("honest", ""),
            Ask::get("forged", "").with_header("x-forwarded-for", FORGED),
            Ask::get("forged-chain", "").with_header("x-forwarded-for", format!("{FORGED}, {FORGED}")),
            Ask::get("forged-internal", "").with_header("x-envoy-external-address", FORGED),
            Ask::get("forged-path", "").with_header("x-envoy-original-path", CONTROL),
        ]
    };
    let row = |name, action, source: Value| from(name, action, source).asking(forged()).one_sided(why);
    vec![
        row("remote-address", "ALLOW", json!({ "remoteIpBlocks": [client] })),
        row("remote-address-denied", "DENY", json!({ "remoteIpBlocks": [client] })),
        row("remote-address-not-denied", "DENY", json!({ "notRemoteIpBlocks": [client] })),
        row("remote-address-forged", "ALLOW", json!({ "remoteIpBlocks": [FORGED] })),
        row("remote-address-not-forged", "DENY", json!({ "notRemoteIpBlocks": [FORGED] })),
        row("gateway-address", "ALLOW", json!({ "ipBlocks": [gateway] })),
        row("gateway-address-denied", "DENY", json!({ "ipBlocks": [format!("{gateway}/32")] })),
        row("gateway-address-not", "ALLOW", json!({ "notIpBlocks": [gateway] })),
        row("gateway-address-not-denied", "DENY", json!({ "notIpBlocks": [gateway] })),
        row("remote-address-not", "ALLOW", json!({ "notRemoteIpBlocks": [client] })),
        row("gateway-address-of-client", "ALLOW", json!({ "ipBlocks": [client] })),
    ]
}

/// The listener and the route of the ingress gateway to the server in `namespace`.
fn route(owner: &Cluster, gateway: &Gateway, namespace: &str) -> Result<Vec<Value>> {
    let label = |one: &str| one.split_once('=').map(|(key, value)| (key.trim().to_owned(), json!(value.trim())));
    let selector: Option<Map<String, Value>> = gateway.selector.split(',').map(label).collect();
    let selector = selector.ok_or_else(|| Error::suite("the gateway's selector is no list of labels"))?;
    let (name, host, port) = (front(namespace), host(owner, namespace)?, probe::port(owner, Protocol::Http1)?);
    let metadata = json!({ "name": "front", "namespace": namespace });
    Ok(vec![
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": metadata,
            "spec": {
                "selector": selector,
                "servers": [{ "port": { "number": 80, "name": "http", "protocol": "HTTP" }, "hosts": [name] }],
            },
        }),
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": metadata,
            "spec": {
                "hosts": [name], "gateways": ["front"],
                "http": [{ "route": [{ "destination": { "host": host, "port": { "number": port } } }] }],
            },
        }),
    ])
}

/// The host name by which the gateway leads to the server in `namespace`.
fn front(namespace: &str) -> String {
    format!("{namespace}.meshproof.test")
}

/// `remoteIpBlocks` is about the client, `ipBlocks` about the gateway. `X-Forwarded-For` and `x-envoy-*` of a client count
/// for nothing (CVE-2023-27487, CVE-2024-45806).
///
/// Seen red by: the policy `remote-address-denied` missing in the mesh.
async fn a_client_cannot_forge_its_address_through_a_gateway() -> Verdict {
    Scope::run(SUITE, "a_client_cannot_forge_its_address_through_a_gateway", async |scope| {
        scope.requires(REQUIRED)?;
        scope.requires([Requirement::Ingress])?;
        let clients = try_join_all(scope.testbed.clusters.iter().map(probe::naked)).await?;
        let with_gateway = scope.testbed.clusters.iter().filter(|cluster| cluster.record().gateways.ingress.is_some());
        let gateways = try_join_all(with_gateway.map(ingress_gateway)).await?;
        let of = |pods: &[Workload], cluster: &Cluster| {
            pods.iter().find(|pod| pod.cluster.name() == cluster.name()).cloned()
        };
        let made = servers(scope, "front", &[], |owner, namespace| {
            let (Some(client), Some(gateway)) = (of(&clients, owner), of(&gateways, owner)) else {
                return Ok(Setup::new(Vec::new()));
            };
            let policies = policies(&rows(&client, &gateway), namespace)?;
            let objects = route(owner, owner.record().ingress()?, namespace)?;
            Ok(Setup { objects, ..Setup::new(policies) })
        })
        .await?;
        let judging = made.iter().map(async |server| {
            let owner = &server.workload.cluster;
            let (Some(client), Some(gateway)) = (of(&clients, owner), of(&gateways, owner)) else { return Ok(()) };
            at_server(scope, server, client, &gateway).await
        });
        try_join_all(judging).await.map(drop)
    })
    .await
}

async fn at_server(scope: &Scope, server: &Server, client: Workload, gateway: &Workload) -> Result<()> {
    let rows = rows(&client, gateway);
    let place = HostPort::new(&gateway.address, server.workload.cluster.record().ingress()?.port);
    let name = front(&server.workload.namespace);
    let vantage = Vantage::Naked(client.clone());
    await_route(&vantage, &place, &name).await?;
    let cells = cells(&rows);
    let id = |row: &str, ask: &str| format!("{row}/{ask}/{}", server.workload.cluster.name());
    let control = RawRequest::new("GET", &name, CONTROL).dial(id("control", "get"), &place);
    let dials =
        cells.iter().map(|cell| cell.ask.raw(&name).with_nonce_in_query().dial(id(cell.row, &cell.ask.name), &place));
    let exchanges = vantage.dial(dials.chain([control]).collect()).await?;
    let mut exchanges: Vec<Exchange> = exchanges.into_iter().map(Exchange::with_status).collect();
    let control = exchanges.pop().ok_or_else(|| Error::suite("no control was dialled"))?;
    let calls = exchanges.iter().map(|exchange| Decided { exchange, peer: None });
    let accounts = decisions(&calls.collect::<Vec<_>>(), &server.workload).await?;
    let workload = &server.workload;
    for ((cell, exchange), account) in cells.iter().zip(&exchanges).zip(&accounts) {
        let call = Call {
            peer: Some(gateway.spiffe_id(scope.testbed.trust.domain())),
            source_ip: gateway.address.parse().ok(),
            remote_ip: client.address.parse().ok(),
            destination_ip: workload.address.parse().ok(),
            port: probe::port(&workload.cluster, Protocol::Http1)?,
            server_name: None,
            http: Some(cell.ask.request(&name)),
            authorizer: Answer::Allows,
        };
        let expected = decide(&server.mesh, &server.policies, &call);
        let (id, account) = (format!("{SUITE}/front"), account.as_ref());
        let claim: Claim = match &expected {
            Decision::Allowed => claims::let_through(&id, REQUIREMENT, exchange, Expected::Answered, workload, account),
            denied => {
                let how = Expected::Http(403);
                let claim = claims::denied_by_proxy(&id, REQUIREMENT, exchange, how, &control, workload, account);
                by_the_right_policy(claim, denied, account, &workload.namespace)
            }
        };
        scope.claim(claim.with_evidence(format!("the model says: {expected}")));
    }
    Ok(())
}

/// Waits until the gateway leads to the server.
async fn await_route(vantage: &Vantage, place: &HostPort, name: &str) -> Result<()> {
    Ok(eventually(format!("the gateway at {place} to lead to {name}"), ROUTED, async || {
        let dial = RawRequest::new("GET", name, CONTROL).dial("route", place);
        let exchanges = vantage.dial(vec![dial]).await?;
        let first = exchanges.into_iter().next().map(Exchange::with_status);
        Ok::<_, cluster::Error>(match first {
            Some(exchange) if exchange.outcome().is_answered() => Seen::Yes(()),
            Some(exchange) => Seen::NotYet(exchange.outcome().to_string()),
            None => Seen::NotYet("no report".into()),
        })
    })
    .await?)
}

crate::trials! {
    a_client_cannot_forge_its_address_through_a_gateway,
}
