//! CUSTOM policies about connections: the probe of the server's cluster is asked over gRPC, by a network filter.

use futures::future::try_join_all;
use meshproof::policy::authorization::{Answer, Policy};
use meshproof::probe::{self, authorize};
use meshproof::record::Requirement;
use meshproof::{Cluster, Error, Result, Scope, Verdict};
use serde_json::{Value, json};

use super::SUITE;
use super::arena::{Caller, REQUIRED, Server, Setup, servers};
use super::custom::{GRPC, HTTP, declared, no_authorizer};
use super::judge::{Spoken, claim_all, judge};
use super::routes::{Identity, Line, NOWHERE, Named, Route, at_port, ending_at};
use super::rows::{Ask, Cell};

/// A provider like [`GRPC`] that says `failOpen`.
const OPEN: &str = "meshproof-authorizer-open";

/// A provider that no mesh configuration has.
const MISSING: &str = "meshproof-authorizer-nobody";

/// Port of the first row. The authorizer allows connections of its own namespace to even ports, and no others.
const FIRST: u16 = 20_000;

/// Server names of [marked](Route::with_mark) connections.
const MARKED: &str = "marked-*";

/// Path of the requests to a server whose provider is judged.
const PATH: &str = "/status/210";

/// A port with its policies.
struct Row {
    line: Line,
    policies: Vec<Policy>,
}

/// The rows of a server whose naked caller in the same cluster has the address `near`, each with a port of its own.
fn rows(named: &Named, near: &str, namespace: &str) -> Result<Vec<Row>> {
    let of = |field: &str, values: &[String]| json!({ "from": [{ "source": { field: values } }] });
    let when = |key: &str, value: &str| json!({ "when": [{ "key": key, "values": [value] }] });
    let asks = |rule: Value| ("CUSTOM", rule);
    let by_method = json!({ "to": [{ "operation": { "methods": ["GET"] } }] });
    let near = [near.to_owned()];
    let rows = [
        ("custom", 0, vec![asks(json!({}))]),
        // Of one identity, marked or not, the authorizer allows one port and denies another.
        ("custom-server-name", 0, vec![asks(when("connection.sni", MARKED))]),
        ("custom-server-name-denied", 1, vec![asks(when("connection.sni", MARKED))]),
        ("custom-address", 0, vec![asks(of("ipBlocks", &near))]),
        ("custom-address-not", 0, vec![asks(of("notIpBlocks", &near))]),
        // A field of HTTP spares no connection from being asked about.
        ("custom-method", 0, vec![asks(by_method)]),
        // CUSTOM comes before DENY, and DENY before ALLOW.
        ("custom-deny", 0, vec![asks(json!({})), ("DENY", of("notPrincipals", &named.ones))]),
        ("custom-allow", 0, vec![asks(json!({})), ("ALLOW", of("principals", &named.ones))]),
    ];
    let numbered = rows.into_iter().zip((FIRST..).step_by(2)).map(|((name, odd, rules), port)| {
        let line = Line::new(name, port + odd);
        let policies = rules.into_iter().map(|(action, rule)| {
            let named = if action == "CUSTOM" { name.to_owned() } else { format!("{name}-too") };
            policy(namespace, &named, action, vec![at_port(rule, line.port)])
        });
        Ok::<_, Error>(Row { line, policies: policies.collect::<Result<_>>()? })
    });
    numbered.collect()
}

/// A policy. A CUSTOM one asks over gRPC.
fn policy(namespace: &str, name: &str, action: &str, rules: Vec<Value>) -> Result<Policy> {
    let mut spec = json!({ "action": action, "rules": rules });
    if action == "CUSTOM" {
        spec["provider"] = json!({ "name": GRPC });
    }
    Policy::parse(namespace, name, spec).map_err(Error::suite)
}

/// The policies of all rows, and one that allows the connections that no ALLOW row is about.
fn policies(rows: Vec<Row>, namespace: &str) -> Result<Vec<Policy>> {
    let others = rows.iter().filter(|row| row.line.name != "custom-allow");
    let open: Vec<String> = others.map(|row| row.line.port.to_string()).collect();
    let open = policy(namespace, "open", "ALLOW", vec![json!({ "to": [{ "operation": { "ports": open } }] })])?;
    Ok(rows.into_iter().flat_map(|row| row.policies).chain([open]).collect())
}

/// What the authorizer in the namespace `of` says of a connection.
fn answer(of: &str, identity: &Identity, port: u16) -> Answer {
    let principal = identity.proven.as_ref().map(|(id, _)| id.to_string()).unwrap_or_default();
    if authorize::allows_connection(of, &principal, port) { Answer::Allows } else { Answer::Denies }
}

/// Connects on all routes to `server`, and judges. Without `is_there`, the authorizer cannot be asked.
async fn connect(scope: &Scope, server: &Server, id: &str, lines: &[Line], is_there: bool) -> Result<()> {
    let authorizer = probe::meshed(&server.workload.cluster).await?;
    let says = |identity: &Identity, port: u16| match is_there {
        true => answer(&authorizer.namespace, identity, port),
        false => Answer::Nothing,
    };
    let routes = Route::all(scope, server).await?.into_iter().map(Route::with_mark).collect::<Vec<_>>();
    let claims = try_join_all(routes.iter().map(|route| route.judge(id, lines, &says))).await?;
    claims.into_iter().flatten().for_each(|claim| scope.claim(claim));
    Ok(())
}

async fn requires(scope: &Scope) -> Result<Named> {
    scope.requires(REQUIRED)?;
    scope.requires([Requirement::EastWest])?;
    Named::of(&Caller::meshed(scope).await?, scope.testbed.trust.domain())
}

/// The authorizer allows and denies the connections that a CUSTOM policy is about, by the identity and the port that the
/// server's proxy tells it, directly and through an east-west gateway; it is asked about no others. It comes before DENY, and DENY before
/// ALLOW.
///
/// Seen red by: the CUSTOM policies about another port in the mesh (the insider is answered).
async fn an_external_authorizer_decides_about_connections() -> Verdict {
    Scope::run(SUITE, "an_external_authorizer_decides_about_connections", async |scope| {
        let named = requires(scope).await?;
        declared(scope, GRPC).await?;
        let lines: Vec<Line> = rows(&named, NOWHERE, "")?.into_iter().map(|row| row.line).collect();
        let naked = try_join_all(scope.testbed.clusters.iter().map(probe::naked)).await?;
        let made = servers(scope, "custom-tcp", &[], |owner, namespace| {
            let near = naked.iter().find(|pod| pod.cluster.name() == owner.name());
            let near = near.map_or(NOWHERE, |pod| &pod.address);
            let policies = policies(rows(&named, near, namespace)?, namespace)?;
            Ok(Setup { lines: Some(FIRST..=ending_at(&lines)), ..Setup::new(policies) })
        })
        .await?;
        try_join_all(made.iter().map(|server| connect(scope, server, "tcp", &lines, true))).await.map(drop)
    })
    .await
}

/// Policies are asked at the first byte of the client: a client that they deny hears what the server says of its own
/// accord. Istio says so of its policies (*Security Best Practices*, server-first protocols).
///
/// Seen red by: the policy `deny` with action ALLOW in the mesh (the control, where the client speaks first, is answered).
async fn what_a_server_says_first_is_not_held_back() -> Verdict {
    Scope::run(SUITE, "what_a_server_says_first_is_not_held_back", async |scope| {
        let named = requires(scope).await?;
        declared(scope, GRPC).await?;
        let made = servers(scope, "first-words", &[], |_, namespace| {
            let ones = json!({ "from": [{ "source": { "principals": named.ones } }] });
            let deny = policy(namespace, "deny", "DENY", vec![ones])?;
            let custom = policy(namespace, "custom", "CUSTOM", vec![json!({})])?;
            Ok(Setup { lines: Some(FIRST..=FIRST), ..Setup::new(vec![deny, custom]) })
        })
        .await?;
        let judging = made.iter().map(async |server| {
            let port = probe::port(&server.workload.cluster, probe::Protocol::ServerFirst)?;
            // The first line is the control: there, the same policies deny.
            let silent = Line { is_silent: true, ..Line::new("server-first", port) };
            connect(scope, server, "tcp", &[Line::new("client-first", FIRST), silent], true).await
        });
        try_join_all(judging).await.map(drop)
    })
    .await
}

/// What is judged of a provider.
#[derive(Debug, Clone, Copy)]
struct Judged {
    provider: &'static str,
    /// Whether the authorizer can be asked.
    is_there: bool,
    /// Port about which `provider` is asked.
    port: u16,
}

impl Judged {
    /// A policy that asks about requests for [`PATH`] and about marked connections.
    fn policy(self, cluster: &Cluster, namespace: &str) -> Result<Policy> {
        let http = probe::port(cluster, probe::Protocol::Http1)?.to_string();
        let rules = [
            // With its port: on raw TCP, the path does not count.
            json!({ "to": [{ "operation": { "paths": [PATH], "ports": [http] } }] }),
            json!({
                "to": [{ "operation": { "ports": [self.port.to_string()] } }],
                "when": [{ "key": "connection.sni", "values": [MARKED] }],
            }),
        ];
        let spec = json!({ "action": "CUSTOM", "provider": { "name": self.provider }, "rules": rules });
        Policy::parse(namespace, "custom", spec).map_err(Error::suite)
    }

    fn cells(self) -> [Cell; 2] {
        ["allow", "deny"].map(|word| {
            let ask = Ask::get(word, PATH).with_header(authorize::HEADER, word);
            Cell { row: "custom", ask: Ask { is_unanswered: !self.is_there, ..ask } }
        })
    }
}

/// The provider decides what becomes of a call: over HTTP and on a raw connection, on one server with one policy.
async fn judged_by_provider(test: &str, judged: Judged) -> Verdict {
    Scope::run(SUITE, test, async |scope| {
        requires(scope).await?;
        let callers = Caller::meshed(scope).await?;
        let declared = match judged.provider {
            MISSING => Vec::new(),
            provider => declared(scope, provider).await?,
        };
        let purpose = if judged.is_there { judged.provider.into() } else { format!("{}-away", judged.provider) };
        let purpose = purpose.trim_start_matches("meshproof-authorizer-");
        let made = servers(scope, &format!("tcp-{purpose}"), &callers, |owner, namespace| {
            let policies = vec![judged.policy(owner, namespace)?];
            let objects = match judged.is_there {
                true => Vec::new(),
                false => vec![no_authorizer(&declared, owner, namespace)?],
            };
            Ok(Setup { objects, lines: Some(FIRST..=FIRST + 1), policies })
        })
        .await?;
        let judging = made.iter().map(async |server| {
            let cells = judged.cells();
            let line = [Line::new("custom", judged.port)];
            let id = format!("tcp-{purpose}");
            let (verdicts, ()) = futures::try_join!(
                judge(scope, server, &callers, &cells, Spoken::Http1),
                connect(scope, server, &id, &line, judged.is_there)
            )?;
            claim_all(scope, &[], verdicts);
            Ok::<_, Error>(())
        });
        try_join_all(judging).await.map(drop)
    })
    .await
}

/// An authorizer that cannot prove who it is is not asked about connections either, and none comes through.
///
/// Seen red by: the rule `no-authorizer` missing in the mesh; a provider that says `failOpen`.
async fn without_its_authorizer_no_connection_comes_through() -> Verdict {
    let judged = Judged { provider: GRPC, is_there: false, port: FIRST };
    judged_by_provider("without_its_authorizer_no_connection_comes_through", judged).await
}

/// istiod leaves a CUSTOM policy out of ports of raw TCP whose provider speaks HTTP only: nobody is asked there, and every
/// connection comes through. The same policy holds for requests.
///
/// Seen red by: the provider over gRPC in the mesh's policy (the connection is closed).
async fn an_authorizer_over_http_is_asked_about_no_connection() -> Verdict {
    let judged = Judged { provider: HTTP, is_there: true, port: FIRST + 1 };
    judged_by_provider("an_authorizer_over_http_is_asked_about_no_connection", judged).await
}

/// A CUSTOM policy that names no provider of the mesh denies what it matches.
///
/// Seen red by: a provider that the mesh has (what its authorizer allows is answered).
async fn without_its_provider_a_policy_denies() -> Verdict {
    let judged = Judged { provider: MISSING, is_there: true, port: FIRST };
    judged_by_provider("without_its_provider_a_policy_denies", judged).await
}

/// A provider that says `failOpen` denies like any other, and lets through what its authorizer cannot be asked about.
///
/// Seen red by: the provider over HTTP (what the authorizer denies is answered), and the one over gRPC without `failOpen`.
async fn an_authorizer_may_fail_open(is_there: bool) -> Verdict {
    let judged = Judged { provider: OPEN, is_there, port: FIRST + 1 };
    let test = format!("an_authorizer_may_fail_open::{}", if is_there { "asked" } else { "not_asked" });
    judged_by_provider(&test, judged).await
}

crate::trials! {
    an_external_authorizer_decides_about_connections,
    what_a_server_says_first_is_not_held_back,
    without_its_authorizer_no_connection_comes_through,
    an_authorizer_over_http_is_asked_about_no_connection,
    without_its_provider_a_policy_denies,
    an_authorizer_may_fail_open {
        asked(true),
        not_asked(false),
    },
}
