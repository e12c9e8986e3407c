//! Rules about connections, on ports of raw TCP.
//!
//! A port stands for a row. The callers are handshakes with certificates of several workloads, from one pod: so a
//! denial and its control differ in the identity only.

use std::net::IpAddr;

use futures::future::{try_join, try_join_all};
use meshproof::cluster::Pair;
use meshproof::identity::{ClientCertificate, SpiffeId};
use meshproof::istio::{AccessEntry, Decided, decisions, issue, sni_of};
use meshproof::policy::authorization::{Answer, Call, Decision, Policy, decide};
use meshproof::probe::{self, Dial, Exchange, Expected, Protocol, Vantage, dial, handshake};
use meshproof::record::{HostPort, Requirement};
use meshproof::report::Claim;
use meshproof::scope::claims;
use meshproof::{Error, Result, Scope, Verdict, Workload};
use serde_json::{Value, json};

use super::SUITE;
use super::arena::{Caller, REQUIRED, Server, Setup, servers};
use super::judge::by_the_right_policy;

const REQUIREMENT: &str = "authorization policies decide about connections as Istio's reference says";

/// An address that no caller has.
const NOWHERE: &str = "198.51.100.7";

/// Port of the first row.
const FIRST: u16 = 20_000;

/// Names of the callers: `ones` are the workloads that most rows are about, `others` are not.
struct Named {
    ones: Vec<String>,
    others: Vec<String>,
    /// Namespace of both.
    namespace: String,
}

impl Named {
    fn of(callers: &[Caller], trust_domain: &str) -> Result<Self> {
        let principal = |caller: &Caller| {
            caller.workload().spiffe_id(trust_domain).to_string().trim_start_matches("spiffe://").to_owned()
        };
        let first = callers.first().ok_or_else(|| Error::suite("the mesh has no caller"))?;
        Ok(Self {
            ones: callers.iter().step_by(2).map(principal).collect(),
            others: callers.iter().skip(1).step_by(2).map(principal).collect(),
            namespace: first.workload().namespace.clone(),
        })
    }

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

/// The rule, about this port only.
fn at_port(mut rule: Value, port: u16) -> Value {
    if rule.get("to").is_none() {
        rule["to"] = json!([{ "operation": {} }]);
    }
    for to in rule["to"].as_array_mut().into_iter().flatten() {
        to["operation"]["ports"] = json!([port.to_string()]);
    }
    rule
}

/// An identity with which connections are made.
struct Identity {
    name: &'static str,
    /// `None`: plaintext.
    proven: Option<(SpiffeId, ClientCertificate)>,
}

/// A way to a server's proxy, for callers with several identities.
struct Route<'a> {
    name: String,
    server: &'a Server,
    vantage: Vantage,
    /// The gateway's address, if the way leads through one.
    gateway: Option<HostPort>,
    /// The address that the server's proxy sees.
    seen: Option<IpAddr>,
    identities: Vec<Identity>,
}

impl<'a> Route<'a> {
    /// The routes from every cluster to `server`.
    async fn all(scope: &Scope, server: &'a Server) -> Result<Vec<Self>> {
        let to = &server.workload.cluster;
        let routes = scope.testbed.pairs().into_iter().filter(|pair| pair.to.name() == to.name());
        try_join_all(routes.map(|pair| Self::from(scope, server, pair))).await
    }

    async fn from(scope: &Scope, server: &'a Server, pair: Pair) -> Result<Self> {
        let of = async |name, workload: Workload| {
            let id = workload.spiffe_id(scope.testbed.trust.domain());
            Ok::<_, Error>(Identity { name, proven: Some((id, issue(&scope.testbed, &workload).await?)) })
        };
        let naked = probe::naked(&pair.from).await?;
        let (one, other) = try_join(probe::caller(&pair.from), probe::meshed(&pair.from)).await?;
        let proven = [of("one", one), of("other", other), of("insider", server.workload.clone())];
        let mut identities = try_join_all(proven).await?;
        let gateway = match pair.crosses_networks() {
            true => Some(pair.to.record().eastwest_address()?.clone()),
            false => None,
        };
        let seen = if gateway.is_some() { server.gateway } else { naked.address.parse().ok() };
        if gateway.is_none() {
            identities.push(Identity { name: "plaintext", proven: None });
        }
        Ok(Self { name: pair.to_string(), server, vantage: Vantage::Naked(naked), gateway, seen, identities })
    }

    fn dial(&self, row: &str, port: u16, identity: &Identity) -> Dial {
        let id = format!("{row}/{}/{}", identity.name, self.name);
        let direct = HostPort::new(&self.server.workload.address, port);
        let place = self.gateway.as_ref().unwrap_or(&direct);
        match &identity.proven {
            Some((_, certificate)) => {
                handshake(id, place, self.server_name(port).as_deref(), Some(certificate), Protocol::Tcp)
            }
            None => dial(id, Protocol::Tcp, &place.host, place.port),
        }
    }

    fn server_name(&self, port: u16) -> Option<String> {
        self.gateway.as_ref().map(|_| sni_of(port, &self.server.host))
    }

    fn expected(&self, port: u16, identity: &Identity) -> Decision {
        let call = Call {
            peer: identity.proven.as_ref().map(|(id, _)| id.clone()),
            source_ip: self.seen,
            remote_ip: self.seen,
            destination_ip: self.server.workload.address.parse().ok(),
            port,
            server_name: self.server_name(port),
            http: None,
            authorizer: Answer::Allows,
        };
        decide(&self.server.mesh, &self.server.policies, &call)
    }

    /// Connects with every identity to every row's port, and judges.
    async fn judge(&self, rows: &[&'static str]) -> Result<Vec<Claim>> {
        let cells: Vec<(&str, u16, &Identity)> = rows
            .iter()
            .zip(FIRST..)
            .flat_map(|(row, port)| self.identities.iter().map(move |identity| (*row, port, identity)))
            .collect();
        let dials = cells.iter().map(|(row, port, identity)| self.dial(row, *port, identity)).collect();
        let exchanges = self.vantage.dial(dials).await?;
        let expected: Vec<Decision> = cells.iter().map(|(_, port, identity)| self.expected(*port, identity)).collect();
        let calls = exchanges
            .iter()
            .zip(&cells)
            .map(|(exchange, (_, _, identity))| Decided { exchange, peer: identity.proven.as_ref().map(|(id, _)| id) });
        let accounts = decisions(&calls.collect::<Vec<_>>(), &self.server.workload).await?;
        let claims = exchanges.iter().enumerate().map(|(index, exchange)| {
            let (row, port, _) = cells[index];
            let same_port = (0..cells.len()).find(|at| cells[*at].1 == port && expected[*at] == Decision::Allowed);
            match same_port {
                Some(control) => self.claim(exchange, &expected[index], &exchanges[control], accounts[index].as_ref()),
                None => Claim::error(format!("{SUITE}/tcp-{row}/{}", self.name), "no identity may connect: no control"),
            }
        });
        Ok(claims.collect())
    }

    fn claim(
        &self,
        exchange: &Exchange,
        expected: &Decision,
        control: &Exchange,
        account: Option<&AccessEntry>,
    ) -> Claim {
        let (id, workload) = (format!("{SUITE}/tcp"), &self.server.workload);
        let claim = match expected {
            Decision::Allowed => claims::answered(&id, REQUIREMENT, exchange, workload),
            _ => {
                let how = Expected::EndedBeforeAnswer;
                let claim = claims::denied_by_proxy(&id, REQUIREMENT, exchange, how, control, workload, account);
                by_the_right_policy(claim, expected, account, &workload.namespace)
            }
        };
        claim.with_evidence(format!("the model says: {expected}"))
    }
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
        let rows: Vec<&'static str> = named.rows(NOWHERE).iter().map(|(name, ..)| *name).collect();
        let last = FIRST + u16::try_from(rows.len()).unwrap_or_default() - 1;
        let naked = try_join_all(scope.testbed.clusters.iter().map(probe::naked)).await?;
        let made = servers(scope, "tcp", &[], |owner, namespace| {
            let near = naked.iter().find(|pod| pod.cluster.name() == owner.name());
            let near = near.map_or(NOWHERE, |pod| &pod.address);
            Ok(Setup { lines: Some(FIRST..=last), ..Setup::new(named.policies(namespace, near)?) })
        })
        .await?;
        let judging = made.iter().map(async |server| {
            let routes = Route::all(scope, server).await?;
            let claims = try_join_all(routes.iter().map(|route| route.judge(&rows))).await?;
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
