//! Ways to the raw ports of a server, directly and through an east-west gateway, for callers with several identities. Each
//! connection is a raw handshake, so that a denial and its control differ in the identity only.

use std::net::IpAddr;

use futures::future::{try_join, try_join_all};
use meshproof::cluster::Pair;
use meshproof::identity::{ClientCertificate, SpiffeId};
use meshproof::istio::{AccessEntry, Decided, decisions, issue, sni_of};
use meshproof::policy::authorization::{Answer, Call, Decision, decide};
use meshproof::probe::{self, Dial, Exchange, Expected, Protocol, Vantage, dial, handshake};
use meshproof::record::HostPort;
use meshproof::report::Claim;
use meshproof::scope::claims;
use meshproof::{Error, Result, Scope, Workload};
use serde_json::{Value, json};

use super::arena::{Caller, Server};
use super::judge::by_the_right_policy;
use super::{SUITE, dial_in_turn};

const REQUIREMENT: &str = "authorization policies decide about connections as Istio's reference says";

/// An address that no caller has.
pub(super) const NOWHERE: &str = "198.51.100.7";

/// Names of the callers: `ones` are the workloads that most rows are about, `others` are not.
pub(super) struct Named {
    pub(super) ones: Vec<String>,
    pub(super) others: Vec<String>,
    /// Namespace of both.
    pub(super) namespace: String,
}

impl Named {
    pub(super) fn of(callers: &[Caller], trust_domain: &str) -> Result<Self> {
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
}

/// The rule, about this port only.
pub(super) fn at_port(mut rule: Value, port: u16) -> Value {
    if rule.get("to").is_none() {
        rule["to"] = json!([{ "operation": {} }]);
    }
    for to in rule["to"].as_array_mut().into_iter().flatten() {
        to["operation"]["ports"] = json!([port.to_string()]);
    }
    rule
}

/// A port of raw TCP, and the row of the table that it is about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line {
    pub(super) name: &'static str,
    pub(super) port: u16,
    /// Whether the server speaks first, and the client says nothing. Proxies ask policies when the client's first byte
    /// comes, so none is asked.
    pub(super) is_silent: bool,
}

impl Line {
    /// A port on which the client speaks first.
    pub(super) fn new(name: &'static str, port: u16) -> Self {
        Self { name, port, is_silent: false }
    }
}

/// The last port of `lines`.
pub(super) fn ending_at(lines: &[Line]) -> u16 {
    lines.iter().map(|line| line.port).max().unwrap_or_default()
}

/// Begins the server name of a [marked](Route::with_mark) identity. A sidecar takes any server name.
const MARK: &str = "marked-";

/// An identity with which connections are made.
pub(super) struct Identity {
    pub(super) name: &'static str,
    /// `None`: plaintext.
    pub(super) proven: Option<(SpiffeId, ClientCertificate)>,
    /// Whether the handshake has a server name that begins with [`MARK`].
    is_marked: bool,
}

/// A way to a server's proxy, for callers with several identities.
pub(super) struct Route<'a> {
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
    pub(super) async fn all(scope: &Scope, server: &'a Server) -> Result<Vec<Self>> {
        let to = &server.workload.cluster;
        let routes = scope.testbed.pairs().into_iter().filter(|pair| pair.to.name() == to.name());
        try_join_all(routes.map(|pair| Self::from(scope, server, pair))).await
    }

    async fn from(scope: &Scope, server: &'a Server, pair: Pair) -> Result<Self> {
        let of = async |name, workload: Workload| {
            let id = workload.spiffe_id(scope.testbed.trust.domain());
            let proven = Some((id, issue(&scope.testbed, &workload).await?));
            Ok::<_, Error>(Identity { name, proven, is_marked: false })
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
            identities.push(Identity { name: "plaintext", proven: None, is_marked: false });
        }
        Ok(Self { name: pair.to_string(), server, vantage: Vantage::Naked(naked), gateway, seen, identities })
    }

    fn dial(&self, Line { name, port, is_silent }: Line, identity: &Identity) -> Dial {
        let id = format!("{name}/{}/{}", identity.name, self.name);
        let protocol = if is_silent { Protocol::ServerFirst } else { Protocol::Tcp };
        let direct = HostPort::new(&self.server.workload.address, port);
        let place = self.gateway.as_ref().unwrap_or(&direct);
        match &identity.proven {
            Some((_, certificate)) => {
                handshake(id, place, self.server_name(port, identity).as_deref(), Some(certificate), protocol)
            }
            None => dial(id, protocol, &place.host, place.port),
        }
    }

    /// The same with a further identity, where no gateway needs the server name: that of the first, marked by a server
    /// name. Policies that ask an external authorizer cannot choose connections by the caller's identity.
    pub(super) fn with_mark(mut self) -> Self {
        let first = self.identities.first().and_then(|first| first.proven.clone());
        if let (None, Some(proven)) = (&self.gateway, first) {
            self.identities.push(Identity { name: "one-marked", proven: Some(proven), is_marked: true });
        }
        self
    }

    fn server_name(&self, port: u16, identity: &Identity) -> Option<String> {
        match &self.gateway {
            Some(_) => Some(sni_of(port, &self.server.host)),
            // The port tells the lines of the log apart.
            None => identity.is_marked.then(|| format!("{MARK}{port}.meshproof.test")),
        }
    }

    fn expected(&self, line: Line, identity: &Identity, authorizer: Answer) -> Decision {
        if line.is_silent {
            return Decision::Allowed;
        }
        let port = line.port;
        let call = Call {
            peer: identity.proven.as_ref().map(|(id, _)| id.clone()),
            source_ip: self.seen,
            remote_ip: self.seen,
            destination_ip: self.server.workload.address.parse().ok(),
            port,
            server_name: self.server_name(port, identity),
            http: None,
            authorizer,
        };
        decide(&self.server.mesh, &self.server.policies, &call)
    }

    /// Connects with every identity to every line, and judges. `authorizer` is what the external authorizer says of a
    /// connection by an identity to a port, if a policy asks it. `id` begins the claims' ids.
    pub(super) async fn judge(
        &self,
        id: &str,
        lines: &[Line],
        authorizer: &impl Fn(&Identity, u16) -> Answer,
    ) -> Result<Vec<Claim>> {
        // In plaintext, a PERMISSIVE proxy waits for the client's first byte to tell what is spoken.
        let speaks = |line: &Line, identity: &Identity| !line.is_silent || identity.proven.is_some();
        let of_line = |line: &Line| {
            let identities = self.identities.iter().filter(|identity| speaks(line, identity));
            identities.map(|identity| (*line, identity)).collect::<Vec<_>>()
        };
        let cells: Vec<(Line, &Identity)> = lines.iter().flat_map(of_line).collect();
        let dials = cells.iter().map(|(line, identity)| self.dial(*line, identity)).collect();
        let exchanges = dial_in_turn(&self.vantage, dials).await?;
        let expected =
            cells.iter().map(|(line, identity)| self.expected(*line, identity, authorizer(identity, line.port)));
        let expected: Vec<Decision> = expected.collect();
        let calls = exchanges
            .iter()
            .zip(&cells)
            .map(|(exchange, (_, identity))| Decided { exchange, peer: identity.proven.as_ref().map(|(id, _)| id) });
        let accounts = decisions(&calls.collect::<Vec<_>>(), &self.server.workload).await?;
        let claims = exchanges.iter().enumerate().map(|(index, exchange)| {
            let (line, _) = cells[index];
            let may = |at: &usize| cells[*at].0.port == line.port && expected[*at] == Decision::Allowed;
            let id = format!("{SUITE}/{id}");
            match (0..cells.len()).find(may) {
                Some(control) => {
                    self.claim(&id, exchange, &expected[index], &exchanges[control], accounts[index].as_ref())
                }
                None => {
                    Claim::error(format!("{id}-{}/{}", line.name, self.name), "no identity may connect: no control")
                }
            }
        });
        Ok(claims.collect())
    }

    fn claim(
        &self,
        id: &str,
        exchange: &Exchange,
        expected: &Decision,
        control: &Exchange,
        account: Option<&AccessEntry>,
    ) -> Claim {
        let workload = &self.server.workload;
        let claim = match expected {
            Decision::Allowed => claims::answered(id, REQUIREMENT, exchange, workload),
            _ => {
                let how = Expected::EndedBeforeAnswer;
                let claim = claims::denied_by_proxy(id, REQUIREMENT, exchange, how, control, workload, account);
                by_the_right_policy(claim, expected, account, &workload.namespace)
            }
        };
        claim.with_evidence(format!("the model says: {expected}"))
    }
}
