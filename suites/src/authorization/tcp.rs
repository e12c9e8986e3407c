//! Rules about connections, on ports of raw TCP.
//!
//! A port stands for a row. The callers are handshakes with certificates of several workloads, from one pod: so a
//! denial and its control differ in the identity only.

use futures::future::try_join_all;
use meshproof::policy::authorization::{Answer, Policy};
use meshproof::probe;
use meshproof::record::Requirement;
use meshproof::{Error, Result, Scope, Verdict};
use serde_json::{Value, json};

use super::SUITE;
use super::arena::{Caller, REQUIRED, Setup, servers};
use super::routes::{Identity, Line, NOWHERE, Named, Route, at_port, ending_at};

/// Port of the first row.
const FIRST: u16 = 20_000;

impl Named {
    /// The rows of a server whose naked caller in the same cluster has the address `near`: name, action, and rules without
    /// their port.
    fn rows(&self, near: &str) -> Vec<(&'static str, &'static str, Vec<Value>)> {
        let Self { ones, others, namespace } = self;
        let ones_at =
            |field: &str, block: &str| json!({ "from": [{ "source": { "principals": ones, field: [block] } }] });
        let suffixes: Vec<String> =
            ones.iter().filter_map(|one| Some(format!("*/{}", one.split_once('/')?.1))).collect();
        let accounts: Vec<String> = ones.iter().filter_map(|one| account(one)).collect();
        let source = |field: &str, values: &[String]| json!({ "from": [{ "source": { field: values } }] });
        let of_ones = |mut rule: Value| {
            rule["from"] = json!([{ "source": { "principals": ones } }]);
            rule
        };
        let others = source("principals", others);
        let operation = |field: &str, value: &str| json!({ "to": [{ "operation": { field: [value] } }] });
        let condition = |key: &str, value: &str| json!({ "when": [{ "key": key, "values": [value] }] });
        let namespace = std::slice::from_ref(namespace);
        vec![
            ("principal", "ALLOW", vec![source("principals", ones)]),
            ("principal-denied", "DENY", vec![source("principals", ones)]),
            ("principal-suffix-denied", "DENY", vec![source("principals", &suffixes)]),
            ("principal-not-denied", "DENY", vec![source("notPrincipals", ones)]),
            ("namespace", "ALLOW", vec![source("namespaces", namespace)]),
            ("namespace-not-denied", "DENY", vec![source("notNamespaces", namespace)]),
            ("account", "ALLOW", vec![source("serviceAccounts", &accounts)]),
            ("method-allows-nothing", "ALLOW", vec![of_ones(operation("methods", "GET")), others.clone()]),
            ("method-denies-all", "DENY", vec![of_ones(operation("methods", "POST"))]),
            ("path-denies-all", "DENY", vec![of_ones(operation("notPaths", "/open"))]),
            ("host-denies-all", "DENY", vec![of_ones(operation("hosts", "no.example"))]),
            ("header-denies-all", "DENY", vec![of_ones(condition("request.headers[x]", "y"))]),
            ("token-allows-nothing", "ALLOW", vec![of_ones(condition("request.auth.principal", "*")), others.clone()]),
            ("server-name", "ALLOW", vec![of_ones(condition("connection.sni", "outbound_*")), others.clone()]),
            ("address", "ALLOW", vec![of_ones(condition("source.ip", NOWHERE)), others.clone()]),
            ("ip-block", "ALLOW", vec![ones_at("ipBlocks", near), others.clone()]),
            ("ip-block-denied", "DENY", vec![ones_at("ipBlocks", &format!("{near}/32"))]),
            ("ip-block-not", "ALLOW", vec![ones_at("notIpBlocks", near), others.clone()]),
            ("ip-block-not-denied", "DENY", vec![ones_at("notIpBlocks", near)]),
            ("remote-ip-block", "ALLOW", vec![ones_at("remoteIpBlocks", near), others]),
            ("remote-ip-block-not-denied", "DENY", vec![ones_at("notRemoteIpBlocks", near)]),
        ]
    }

    fn policies(&self, namespace: &str, near: &str) -> Result<Vec<Policy>> {
        let rows = self.rows(near);
        let ports = |denying: bool| {
            let numbered = rows.iter().zip(FIRST..).filter(move |((_, action, _), _)| (*action == "DENY") == denying);
            numbered.map(|(_, port)| port.to_string()).collect::<Vec<_>>()
        };
        let open = json!({ "rules": [{ "to": [{ "operation": { "ports": ports(true) } }] }] });
        let numbered = rows.iter().zip(FIRST..).map(|((name, action, rules), port)| {
            let rules: Vec<Value> = rules.iter().cloned().map(|rule| at_port(rule, port)).collect();
            (*name, json!({ "action": action, "rules": rules }))
        });
        let policies = numbered.chain([("open", open)]);
        policies.map(|(name, spec)| Policy::parse(namespace, name, spec).map_err(Error::suite)).collect()
    }
}

/// `NAMESPACE/NAME` of the service account in a principal.
fn account(principal: &str) -> Option<String> {
    let (namespace, name) = principal.split_once("/ns/")?.1.split_once("/sa/")?;
    Some(format!("{namespace}/{name}"))
}

/// Connections are allowed or ended by the caller's identity, its namespace, its address and the server name, directly and
/// through an east-west gateway, whose address then counts as the caller's; CVE-2020-16844 (`principal-suffix-denied`) and ISTIO-SECURITY-2021-004
/// (`namespace-not-denied` in plaintext). A field of HTTP allows no connection, and spares none.
///
/// Seen red by: the policies `principal-denied`, `principal-suffix-denied` and `namespace-not-denied` missing in the mesh.
async fn policies_decide_about_connections() -> Verdict {
    Scope::run(SUITE, "policies_decide_about_connections", async |scope| {
        scope.requires(REQUIRED)?;
        scope.requires([Requirement::EastWest])?;
        let callers = Caller::meshed(scope).await?;
        let named = Named::of(&callers, scope.testbed.trust.domain())?;
        let lines: Vec<Line> =
            named.rows(NOWHERE).iter().zip(FIRST..).map(|((name, ..), port)| Line::new(name, port)).collect();
        let naked = try_join_all(scope.testbed.clusters.iter().map(probe::naked)).await?;
        let made = servers(scope, "tcp", &[], |owner, namespace| {
            let near = naked.iter().find(|pod| pod.cluster.name() == owner.name());
            let near = near.map_or(NOWHERE, |pod| &pod.address);
            Ok(Setup { lines: Some(FIRST..=ending_at(&lines)), ..Setup::new(named.policies(namespace, near)?) })
        })
        .await?;
        let judging = made.iter().map(async |server| {
            let routes = Route::all(scope, server).await?;
            let nobody_is_asked = |_: &Identity, _: u16| Answer::Nothing;
            let claims = try_join_all(routes.iter().map(|route| route.judge("tcp", &lines, &nobody_is_asked))).await?;
            claims.into_iter().flatten().for_each(|claim| scope.claim(claim));
            Ok::<_, Error>(())
        });
        try_join_all(judging).await.map(drop)
    })
    .await
}

crate::trials! {
    policies_decide_about_connections,
}
