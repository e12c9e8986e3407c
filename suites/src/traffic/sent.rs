//! Requests of a caller to an arena, who answered them, and where they arrived.

use std::fmt;
use std::time::Duration;

use meshproof::istio::{AccessEntry, logged, read_until};
use meshproof::judge::Share;
use meshproof::probe::{self, Dial, Exchange, Protocol, Vantage};
use meshproof::report::{Claim, Statement};
use meshproof::scope::claims::must_be_answered;
use meshproof::{Result, Workload, cluster};

use super::arena::{Arena, SERVERS, SUITE};

/// Probability that one claim about a share fails on a mesh that is right. A run has fewer than 50 such claims, so it fails
/// for chance less than once in 20,000 times.
pub(crate) const ERROR: f64 = 1e-6;

/// Requests for each share. With 150, a share of 50 % in place of 80 % is refused in more than 99.8 % of runs.
pub(crate) const REQUESTS: usize = 150;

/// Requests of which all, or some, go somewhere. Two servers that share them by chance both answer, but for 2 in 2⁴⁰.
pub(crate) const SOME: usize = 40;

/// Longest wait for log lines. Proxies flush their logs every second.
const LOGGED: Duration = Duration::from_secs(10);

/// A dial to a service of an arena, whose answer has time: where it goes is judged, not how soon. The kernel chooses the source port: a nonce tells such requests apart, and there are
/// hundreds.
pub(crate) fn request(id: impl Into<String>, protocol: Protocol, host: &str, port: u16) -> Dial {
    Dial { source_port: None, timeout_ms: probe::ANSWER_MS, ..probe::dial(id, protocol, host, port) }
}

/// Makes the dials from the caller.
pub(crate) async fn ask(caller: &Workload, dials: Vec<Dial>) -> Result<Vec<Exchange>> {
    Ok(Vantage::Meshed(caller.clone()).dial(dials).await?)
}

/// Whether this server answered.
pub(crate) fn is_by(exchange: &Exchange, server: &Workload) -> bool {
    let who = exchange.report.who.as_ref();
    exchange.outcome().is_answered()
        && who.is_some_and(|who| (who.cluster.as_str(), &who.pod) == (server.cluster.name(), &server.pod))
}

/// A claim about requests from one place to another.
fn about(id: String, requirement: &str, exchanges: &[Exchange]) -> Statement {
    Claim::about(format!("{SUITE}/{id}"), requirement)
        .from(exchanges.first().map(|exchange| exchange.vantage.to_string()).unwrap_or_default())
        .to(exchanges.first().map(Exchange::destination).unwrap_or_default())
}

/// The control of rules: without one, both servers answer, so that the rules make the difference.
pub(crate) fn both_answer(id: String, exchanges: &[Exchange], servers: [&Workload; 2]) -> Claim {
    let by = servers.map(|server| exchanges.iter().filter(|exchange| is_by(exchange, server)).count());
    let [one, other] = servers;
    let claim = about(id, "without a rule, both servers answer", exchanges)
        .expects(format!("answers of {one} and of {other}"))
        .observes(&by, |[ones, others]| format!("{ones} of {one}, {others} of {other}"), |by| !by.contains(&0));
    all_answered(claim, exchanges, one)
}

/// The claim that `server` answers this share of the requests, and that all are answered.
pub(crate) fn answers_share(
    id: String,
    requirement: &str,
    exchanges: &[Exchange],
    server: &Workload,
    expected: f64,
) -> Claim {
    let share = Share::of(exchanges, |exchange| is_by(exchange, server));
    let claim = about(id, requirement, exchanges)
        .expects(format!("{:.0} % of the answers from {server}", 100.0 * expected))
        .observes(&share, told, |share| share.fits(expected, ERROR));
    all_answered(claim, exchanges, server)
}

/// A share in words.
pub(crate) fn told(share: &Share) -> String {
    format!("{share}: a share of {}", share.interval(ERROR))
}

/// Fails the claim if a request was not answered.
pub(crate) fn all_answered(claim: Claim, exchanges: &[Exchange], server: &Workload) -> Claim {
    let lost: Vec<&Exchange> = exchanges.iter().filter(|exchange| !exchange.outcome().is_answered()).collect();
    match lost.first() {
        None => claim,
        Some(first) => claim
            .with_fault(format!(
                "{} of {} were not answered, the first: {}",
                lost.len(),
                exchanges.len(),
                first.outcome()
            ))
            .with_subject(must_be_answered(first, server)),
    }
}

/// How often a request arrived at each server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Arrivals(pub(crate) [usize; 2]);

impl Arrivals {
    pub(crate) fn sum(self) -> usize {
        self.0.iter().sum()
    }
}

impl fmt::Display for Arrivals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [one, two] = self.0;
        write!(f, "{one} at `one`, {two} at `two`")
    }
}

/// What the servers' proxies logged of requests.
pub(crate) struct Logs([Vec<AccessEntry>; 2]);

impl Logs {
    /// How often the request of `exchange` arrived.
    pub(crate) fn arrivals(&self, exchange: &Exchange) -> Arrivals {
        let is_of = |entry: &&AccessEntry| !entry.is_outbound() && entry.carries(&exchange.dial.nonce);
        Arrivals(self.0.each_ref().map(|log| log.iter().filter(is_of).count()))
    }
}

/// Reads the servers' logs of these requests, until each request has at least as many lines as `owed` says, and everything
/// that had ended by then is in the logs.
pub(crate) async fn logs(arena: &Arena, exchanges: &[Exchange], owed: impl Fn(&Exchange) -> usize) -> Result<Logs> {
    read(arena, exchanges, owed).await?;
    // A proxy writes its log in order: with the line of a later request, no earlier line is missing.
    let port = arena.port(Protocol::Http1)?;
    let last = |name: &&str| request(format!("last-at-{name}"), Protocol::Http1, &arena.place.host(name), port);
    let last = ask(arena.own_caller()?, SERVERS.iter().map(last).collect()).await?;
    let oldest = exchanges.iter().chain(&last).cloned().collect::<Vec<_>>();
    let is_last = |exchange: &Exchange| last.iter().any(|one| one.dial.nonce == exchange.dial.nonce);
    read(arena, &oldest, |exchange| usize::from(is_last(exchange))).await
}

async fn read(arena: &Arena, exchanges: &[Exchange], owed: impl Fn(&Exchange) -> usize) -> Result<Logs> {
    let oldest = exchanges.iter().map(|exchange| exchange.started).min();
    let since = || oldest.map(|oldest| oldest.elapsed()).unwrap_or_default();
    let [one, two] = &arena.servers;
    let reading = async || {
        let (one, two) = futures::try_join!(logged(one, since()), logged(two, since()))?;
        Ok::<_, cluster::Error>(Some(Logs([one, two])))
    };
    let missing = |logs: &Option<Logs>| {
        let arrived = |exchange: &Exchange| logs.as_ref().map_or(0, |logs| logs.arrivals(exchange).sum());
        let missing = exchanges.iter().filter(|exchange| arrived(exchange) < owed(exchange));
        missing.map(|exchange| exchange.dial.id.clone()).collect()
    };
    let logs = read_until("the servers' proxies to log every arrival", LOGGED, reading, missing).await?;
    Ok(logs.unwrap_or(Logs([Vec::new(), Vec::new()])))
}
