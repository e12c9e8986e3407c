//! Actions and fields over HTTP.

use futures::future::try_join_all;
use meshproof::policy::authorization::Policy;
use meshproof::record::TrustDomain;
use meshproof::{Cluster, Error, Result, Scope, Verdict};
use serde_json::json;

use super::SUITE;
use super::arena::{Caller, REQUIRED, Server, Setup, host, servers};
use super::judge::{Spoken, claim_all, judge};
use super::rows::{Ask, Row, cells, from, policies, row, to, when};

/// Rows about who calls. Each has a form for ALLOW and for DENY, and a negative one.
fn identities(one: &Caller, trust: &TrustDomain) -> Vec<Row> {
    let workload = one.workload();
    let (namespace, account) = (&workload.namespace, &workload.service_account);
    let rest = format!("ns/{namespace}/sa/{account}");
    let exact = format!("{}/{rest}", trust.name);
    let prefix = format!("{}/ns/{namespace}/sa/{}*", trust.name, &account[..account.len() - 1]);
    let former = trust.aliases.iter().take(1).flat_map(|alias| {
        let former = json!({ "principals": [format!("{alias}/{rest}")] });
        ["principal-former-domain", "principal-former-domain-denied"]
            .into_iter()
            .zip(["ALLOW", "DENY"])
            .map(move |(name, action)| from(name, action, former.clone()))
    });
    let rows = vec![
        from("principal", "ALLOW", json!({ "principals": [exact] })),
        from("principal-denied", "DENY", json!({ "principals": [exact] })),
        from("principal-prefix", "ALLOW", json!({ "principals": [prefix] })),
        from("principal-suffix", "ALLOW", json!({ "principals": [format!("*/sa/{account}")] })),
        from("principal-suffix-denied", "DENY", json!({ "principals": [format!("*/{rest}")] })),
        from("principal-any", "ALLOW", json!({ "principals": ["*"] })),
        from("principal-own-domain", "ALLOW", json!({ "principals": [format!("cluster.local/{rest}")] })),
        from("principal-foreign-domain", "ALLOW", json!({ "principals": [format!("foreign.example/{rest}")] }))
            .one_sided("no caller is of that domain: principal-own-domain is the counterpart"),
        from("principal-not", "ALLOW", json!({ "notPrincipals": [exact] })),
        from("principal-not-denied", "DENY", json!({ "notPrincipals": [exact] })),
        from("namespace", "ALLOW", json!({ "namespaces": [namespace] })),
        from("namespace-prefix-denied", "DENY", json!({ "namespaces": [format!("{}*", &namespace[..3])] })),
        from("namespace-not", "ALLOW", json!({ "notNamespaces": [namespace] })),
        from("namespace-not-denied", "DENY", json!({ "notNamespaces": [namespace] })),
        from("account", "ALLOW", json!({ "serviceAccounts": [format!("{namespace}/{account}")] })),
        from("account-denied", "DENY", json!({ "serviceAccounts": [format!("{namespace}/{account}")] })),
        from("account-not", "ALLOW", json!({ "notServiceAccounts": [format!("{namespace}/{account}")] })),
        from("account-of-own-namespace", "ALLOW", json!({ "serviceAccounts": [account] }))
            .one_sided("no caller is in the server's namespace: account is the counterpart"),
        when("when-principal", "ALLOW", json!({ "key": "source.principal", "values": [exact] })),
        when("when-principal-not", "ALLOW", json!({ "key": "source.principal", "notValues": [exact] })),
        when("when-namespace", "DENY", json!({ "key": "source.namespace", "values": [namespace] })),
        when(
            "when-account",
            "ALLOW",
            json!({ "key": "source.serviceAccount", "values": [format!("{namespace}/{account}")] }),
        ),
    ];
    former.chain(rows).collect()
}

/// Rows about what is asked for.
fn operations(host: &str) -> Vec<Row> {
    let method = |method| Ask { method, ..Ask::get(method, "") };
    let all = || [method("GET"), method("POST"), method("HEAD"), method("PUT")];
    let to_host = |name: &str, host: &str| Ask { host: Some(host.into()), ..Ask::get(name, "") };
    let in_capitals = host.to_uppercase();
    let hosts = || [to_host("as-written", host), to_host("in-capitals", &in_capitals), Ask::get("with-port", "")];
    let keyed = |name: &str, values: &[&str]| {
        values.iter().fold(Ask::get(name, ""), |ask, value| ask.with_header("x-meshproof-key", *value))
    };
    let headers = || {
        [
            Ask::get("none", ""),
            keyed("good", &["good"]),
            keyed("bad", &["bad"]),
            keyed("good-and-bad", &["good", "bad"]),
            keyed("bad-and-good", &["bad", "good"]),
            keyed("joined", &["good,bad"]),
            keyed("goodness", &["goodness"]),
        ]
    };
    let key = |values: &str, value: &str| json!({ "key": "request.headers[x-meshproof-key]", values: [value] });
    vec![
        to("method", "ALLOW", json!({ "methods": ["GET", "HEAD"] })).asking(all()),
        to("method-denied", "DENY", json!({ "methods": ["POST"] })).asking(all()),
        to("method-not", "ALLOW", json!({ "notMethods": ["POST"] })).asking(all()),
        to("method-prefix", "ALLOW", json!({ "methods": ["P*"] })).asking(all()),
        to("host", "ALLOW", json!({ "hosts": [host] })).asking(hosts()),
        to("host-denied", "DENY", json!({ "hosts": [host] })).asking(hosts()),
        to("host-not", "ALLOW", json!({ "notHosts": [host] })).asking(hosts()),
        to("host-prefix", "DENY", json!({ "hosts": [format!("{host}:*")] })).asking(hosts()),
        to("host-elsewhere", "ALLOW", json!({ "hosts": ["*.elsewhere.example"] }))
            .asking(hosts())
            .one_sided("no such host leads here: host is the counterpart"),
        to("port", "ALLOW", json!({ "ports": ["8080"] })).one_sided("port-other is the counterpart"),
        to("port-other", "ALLOW", json!({ "ports": ["8081"] })).one_sided("port is the counterpart"),
        to("port-not-denied", "DENY", json!({ "notPorts": ["8081"] })).one_sided("port-other is the counterpart"),
        when("when-port", "DENY", json!({ "key": "destination.port", "values": ["8080"] }))
            .one_sided("when-port-not is the counterpart"),
        when("when-port-not", "DENY", json!({ "key": "destination.port", "notValues": ["8080"] }))
            .one_sided("when-port is the counterpart"),
        when("header", "ALLOW", key("values", "good")).asking(headers()),
        when("header-denied", "DENY", key("values", "bad")).asking(headers()),
        when("header-prefix", "ALLOW", key("values", "good*")).asking(headers()),
        when("header-suffix", "ALLOW", key("values", "*ness")).asking(headers()),
        when("header-any", "ALLOW", key("values", "*")).asking(headers()),
        when("header-not", "ALLOW", key("notValues", "bad")).asking(headers()),
        when("server-name", "ALLOW", json!({ "key": "connection.sni", "values": ["outbound_*"] })),
    ]
}

/// Rows about where a call comes from, and about policies that decide nothing. `near` is in the server's own network: a
/// gateway hides the addresses of other networks.
fn others(near: &Caller) -> Vec<Row> {
    let address = &near.workload().address;
    let nothing = "the policy must decide nothing: principal-denied is the counterpart";
    let everyone = || json!({ "from": [{ "source": { "notNamespaces": ["no-such-namespace"] } }] });
    vec![
        from("address", "ALLOW", json!({ "ipBlocks": [address] })),
        from("address-denied", "DENY", json!({ "ipBlocks": [address] })),
        from("address-not", "ALLOW", json!({ "notIpBlocks": [address] })),
        when("when-address", "ALLOW", json!({ "key": "source.ip", "values": [address] })),
        row("audited", "AUDIT", everyone()).one_sided(nothing),
        row("deny-dry-run", "DENY", everyone()).dry_run().one_sided(nothing),
        row("allow-dry-run", "ALLOW", json!({ "from": [{ "source": { "namespaces": ["no-such-namespace"] } }] }))
            .dry_run()
            .one_sided(nothing),
    ]
}

fn all_rows(callers: &[Caller], owner: &Cluster, host: &str, trust: &TrustDomain) -> Result<Vec<Row>> {
    let none = || Error::suite(format!("{} has no caller", owner.name()));
    let one = callers.first().ok_or_else(none)?;
    let near = callers.iter().find(|caller| caller.cluster.name() == owner.name()).ok_or_else(none)?;
    Ok(identities(one, trust).into_iter().chain(operations(host)).chain(others(near)).collect())
}

/// A policy about another workload of the namespace.
fn of_another(namespace: &str) -> Result<Policy> {
    let spec = json!({
        "action": "DENY", "selector": { "matchLabels": { "app": "another" } }, "rules": [{}],
    });
    Policy::parse(namespace, "of-another", spec).map_err(Error::suite)
}

/// Every cell is judged over HTTP/1.1; the rows about the caller over HTTP/2 and gRPC as well.
///
/// Seen red by: the policies `principal-denied`, `principal-suffix-denied`, `namespace-not-denied`, `host-denied` and
/// `header-denied` missing in the mesh, each in its own cells.
async fn actions_and_fields_decide_over_http() -> Verdict {
    Scope::run(SUITE, "actions_and_fields_decide_over_http", async |scope| {
        scope.requires(REQUIRED)?;
        let (callers, trust) = (Caller::meshed(scope).await?, &scope.testbed.record.mesh.trust);
        let made = servers(scope, "fields", &callers, |owner, namespace| {
            let rows = all_rows(&callers, owner, &host(owner, namespace)?, trust)?;
            let objects = vec![of_another(namespace)?.object()];
            Ok(Setup { objects, ..Setup::new(policies(&rows, namespace)?) })
        })
        .await?;
        try_join_all(made.iter().map(|server| at_server(scope, server, &callers, trust))).await.map(drop)
    })
    .await
}

async fn at_server(scope: &Scope, server: &Server, meshed: &[Caller], trust: &TrustDomain) -> Result<()> {
    let rows = all_rows(meshed, &server.workload.cluster, &server.host, trust)?;
    let callers: Vec<Caller> = meshed.iter().cloned().chain([Caller::naked(server).await?]).collect();
    let cells = cells(&rows);
    // The first rows are about the caller, so they need no other method and no header.
    let of_identity = &cells[..rows.iter().take_while(|row| row.name != "method").count()];
    let (by_http1, by_http2, by_grpc) = futures::try_join!(
        judge(scope, server, &callers, &cells, Spoken::Http1),
        judge(scope, server, meshed, of_identity, Spoken::Http2),
        judge(scope, server, meshed, of_identity, Spoken::Grpc),
    )?;
    claim_all(scope, &rows, by_http1);
    claim_all(scope, &[], by_http2);
    claim_all(scope, &[], by_grpc);
    Ok(())
}

crate::trials! {
    actions_and_fields_decide_over_http,
}
