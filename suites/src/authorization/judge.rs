//! Asks a server from every caller, and compares what is observed with what the model expects.

use std::collections::BTreeMap;
use std::fmt;

use futures::future::try_join_all;
use meshproof::istio::{AccessEntry, Decided, decisions, sni_of};
use meshproof::policy::authorization::{Answer, Call, Decision, Denier, decide};
use meshproof::probe::{ANSWER_MS, Dial, Exchange, Expected, Protocol, Vantage, dial, grpc, port};
use meshproof::record::HostPort;
use meshproof::report::Claim;
use meshproof::scope::claims;
use meshproof::{Error, Result, Scope};

use super::arena::{Caller, Server};
use super::dial_in_turn;
use super::rows::{Ask, CONTROL, Cell, Presented, Row};

const REQUIREMENT: &str = "a workload's authorization policies decide as Istio's reference says";

/// gRPC status of a method that the probe does not have.
const UNIMPLEMENTED: u16 = 12;

/// How the requests are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spoken {
    /// HTTP/1.1, byte for byte.
    Http1,
    /// HTTP/2. Only method GET, and no headers.
    Http2,
    /// gRPC. The path is the method, which the probe does not have.
    Grpc,
}

impl Spoken {
    fn protocol(self) -> Protocol {
        match self {
            Self::Http1 => Protocol::Http1,
            Self::Http2 => Protocol::Http2,
            Self::Grpc => Protocol::Grpc,
        }
    }

    /// The dial of a request. The control asks for what every caller may have.
    fn dial(self, id: String, ask: &Ask, place: &HostPort, is_control: bool) -> Dial {
        if self == Self::Http1 {
            return ask.raw(&place.to_string()).dial(id, place);
        }
        let mut dial = dial(id, self.protocol(), &place.host, place.port);
        // Without a path, a gRPC dial calls the probe's own method.
        dial.path = (self == Self::Http2 || !is_control).then(|| ask.path.clone());
        // What a policy decides is judged, not how soon. A caller asks hundreds of times at once.
        dial.timeout_ms = ANSWER_MS;
        dial
    }
}

/// What should become of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Expectation {
    /// What the policies decide.
    Policies(Decision),
    /// The token is refused with this status, before any policy is asked.
    BadToken(u16),
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policies(decision) => decision.fmt(f),
            Self::BadToken(status) => write!(f, "HTTP status {status} for the token"),
        }
    }
}

/// A request from a caller, what it should come to, and what it came to.
struct Judged<'a> {
    cell: &'a Cell,
    exchange: Exchange,
    expected: Expectation,
    /// How the workload answers if the request comes through.
    reached: Expected,
}

/// All requests of one caller to one server, and the control.
struct Asked<'a> {
    control: Exchange,
    judged: Vec<Judged<'a>>,
}

/// A judged cell.
pub(crate) struct Verdict {
    row: &'static str,
    is_denial: bool,
    claim: Claim,
}

/// Judges every cell from every caller at `server`.
///
/// # Errors
/// A caller does not report on its calls. A log cannot be read.
pub(crate) async fn judge(
    scope: &Scope,
    server: &Server,
    callers: &[Caller],
    cells: &[Cell],
    spoken: Spoken,
) -> Result<Vec<Verdict>> {
    let asking = callers.iter().map(|caller| ask(scope, server, caller, cells, spoken));
    let asked = try_join_all(asking).await?;
    // The proxy of the caller may reject what is malformed, so the server's need not log it.
    let is_logged = |judged: &&Judged<'_>| judged.expected != Expectation::Policies(Decision::Malformed);
    let logged: Vec<&Exchange> =
        asked.iter().flat_map(|asked| &asked.judged).filter(is_logged).map(|judged| &judged.exchange).collect();
    let calls: Vec<Decided<'_>> = logged.iter().map(|exchange| Decided { exchange, peer: None }).collect();
    let found = decisions(&calls, &server.workload).await?;
    let accounts: BTreeMap<&str, AccessEntry> =
        logged.iter().zip(found).filter_map(|(exchange, entry)| Some((exchange.dial.nonce.as_str(), entry?))).collect();
    let verdicts = asked.iter().flat_map(|Asked { control, judged }| {
        judged.iter().map(|judged| {
            let account = accounts.get(judged.exchange.dial.nonce.as_str());
            let is_denial = judged.expected != Expectation::Policies(Decision::Allowed);
            Verdict { row: judged.cell.row, is_denial, claim: claim(server, judged, control, account) }
        })
    });
    Ok(verdicts.collect())
}

async fn ask<'a>(
    scope: &Scope,
    server: &Server,
    caller: &Caller,
    cells: &'a [Cell],
    spoken: Spoken,
) -> Result<Asked<'a>> {
    let at = port(&server.workload.cluster, spoken.protocol())?;
    let place = caller.entrance(server, at);
    let host = place.to_string();
    let route = format!("{}-to-{}", caller.name, server.workload.cluster.name());
    let id = |row: &str, ask: &Ask| format!("{row}/{}/{}/{route}", ask.name, spoken.protocol());
    let control = Ask::get("get", CONTROL);
    let control = spoken.dial(id("control", &control), &control, &place, true);
    let dials = cells.iter().map(|cell| spoken.dial(id(cell.row, &cell.ask), &cell.ask, &place, false));
    let mut exchanges = dial_in_turn(&caller.vantage, dials.chain([control]).collect()).await?;
    if spoken == Spoken::Http1 {
        exchanges = exchanges.into_iter().map(Exchange::with_status).collect();
    }
    let control = exchanges.pop().ok_or_else(|| Error::suite("no control was dialled"))?;
    let judged = cells.iter().zip(exchanges).map(|(cell, exchange)| {
        let (http, authorizer) = (Some(cell.ask.request(&host)), cell.ask.authorizer());
        let call = Call { http, authorizer, ..call(scope, server, caller, at) };
        let expected = match cell.ask.presented {
            Presented::Refused(status) => Expectation::BadToken(status),
            _ => Expectation::Policies(decide(&server.mesh, &server.policies, &call)),
        };
        Judged { cell, exchange, expected, reached: reached(server, &cell.ask, spoken) }
    });
    Ok(Asked { control, judged: judged.collect() })
}

/// What the server's proxy knows of a call by `caller`, without the request.
fn call(scope: &Scope, server: &Server, caller: &Caller, port: u16) -> Call {
    let is_meshed = matches!(caller.vantage, Vantage::Meshed(_));
    let address = caller.address_at(server);
    Call {
        peer: is_meshed.then(|| caller.workload().spiffe_id(scope.testbed.trust.domain())),
        source_ip: address,
        remote_ip: address,
        destination_ip: server.workload.address.parse().ok(),
        port,
        server_name: is_meshed.then(|| sni_of(port, &server.host)),
        http: None,
        authorizer: Answer::Allows,
    }
}

/// The claim about one request.
fn claim(server: &Server, judged: &Judged<'_>, control: &Exchange, account: Option<&AccessEntry>) -> Claim {
    let Judged { cell, exchange, expected, reached } = judged;
    let (id, workload) = (super::SUITE, &server.workload);
    let denied = |how, account| claims::denied_by_proxy(id, REQUIREMENT, exchange, how, control, workload, account);
    let claim = match expected {
        Expectation::Policies(Decision::Allowed) => {
            claims::let_through(id, REQUIREMENT, exchange, *reached, workload, account)
        }
        Expectation::Policies(decision @ Decision::Denied(_)) => {
            let claim = denied(refusal(exchange.dial.protocol), account);
            by_the_right_policy(claim, decision, account, &workload.namespace)
        }
        Expectation::Policies(Decision::Malformed) => {
            claims::denied(id, REQUIREMENT, exchange, Expected::Http(400), control, Some(workload))
        }
        Expectation::BadToken(status) => {
            denied(Expected::Http(*status), account.filter(|account| account.is_denied_for_token()))
        }
    };
    let kubectl = workload.cluster.command("kubectl");
    let show = format!("{kubectl} -n {} get authorizationpolicies {} -o yaml", workload.namespace, cell.row);
    claim.with_evidence(format!("the model says: {expected}")).with_commands(vec![show])
}

/// How a proxy denies by policy.
pub(crate) fn refusal(protocol: Protocol) -> Expected {
    match protocol {
        Protocol::Grpc => Expected::Grpc(grpc::PERMISSION_DENIED),
        Protocol::Http1 | Protocol::Http2 | Protocol::Bytes => Expected::Http(403),
        _ => Expected::EndedBeforeAnswer,
    }
}

/// Fails the claim if the proxy says that another policy denied than the model.
pub(crate) fn by_the_right_policy(
    claim: Claim,
    expected: &Decision,
    account: Option<&AccessEntry>,
    namespace: &str,
) -> Claim {
    let Some(account) = account else { return claim };
    let by_authorizer = match expected {
        Decision::Denied(Denier::Authorizer(_)) => {
            Some((account.is_denied_by_authorizer(), "its authorizer denied it"))
        }
        Decision::Denied(Denier::NoAnswer(_)) => {
            Some((account.is_denied_without_authorizer(), "its authorizer did not answer"))
        }
        _ => None,
    };
    if let Some((is_so, owed)) = by_authorizer {
        let details = account.get("response_code_details").unwrap_or("nothing");
        let fault = || format!("the proxy says {details}, not that {owed}");
        return if is_so { claim } else { claim.with_fault(fault()) };
    }
    let wanted = match expected {
        Decision::Denied(Denier::Policy(name) | Denier::NoProvider(name)) => Some(format!("{namespace}/{name}")),
        _ => None,
    };
    let matched = account.denied_by();
    if account.is_denied_by_policy() && matched == wanted {
        return claim;
    }
    let words = |policy: Option<String>| policy.unwrap_or_else(|| "no ALLOW policy that matches".into());
    claim.with_fault(format!("the proxy denied it by {}, the model by {}", words(matched), words(wanted)))
}

/// How a request that comes through is answered by the probe, which has few pages. The proxy hands on the normal form of
/// the path.
fn reached(server: &Server, ask: &Ask, spoken: Spoken) -> Expected {
    if spoken == Spoken::Grpc {
        return Expected::Grpc(UNIMPLEMENTED);
    }
    let path = server.mesh.normalization.path(&ask.path).unwrap_or_default();
    let is_read = matches!(ask.method, "GET" | "HEAD");
    match path.strip_prefix("/status/").map(str::parse::<u16>) {
        Some(Ok(200..300)) if is_read => Expected::Answered,
        Some(Err(_)) if is_read => Expected::Http(400),
        _ => Expected::Http(404),
    }
}

/// Adds the claims of all cells, and a claim for each row whose cells all have the same expectation: such a row cannot tell
/// a policy from none.
pub(crate) fn claim_all(scope: &Scope, rows: &[Row], verdicts: Vec<Verdict>) {
    for row in rows.iter().filter(|row| row.one_sided.is_none()) {
        let of_row = || verdicts.iter().filter(|verdict| verdict.row == row.name);
        let denials = of_row().filter(|verdict| verdict.is_denial).count();
        if denials == 0 || denials == of_row().count() {
            let reason = "every cell of the row has the same expectation";
            scope.claim(Claim::error(format!("{}/{}", super::SUITE, row.name), reason));
        }
    }
    verdicts.into_iter().for_each(|verdict| scope.claim(verdict.claim));
}
