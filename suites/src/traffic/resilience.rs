//! Injected faults, retries and time limits.

use std::time::Duration;

use meshproof::istio::{AccessEntry, outbound};
use meshproof::judge::Share;
use meshproof::probe::{Dial, Exchange, Expected, Protocol};
use meshproof::report::Claim;
use meshproof::{Result, Scope, Verdict, Workload};
use serde_json::json;

use super::arena::{Arena, PLAIN, Place, REQUIRED, SUITE, Service};
use super::sent::{ERROR, Logs, REQUESTS, ask, logs, request, told};

/// Percentage of aborted requests. With [`REQUESTS`], 0 % and 60 % are refused in more than 99 % of runs.
const ABORTED: u8 = 30;

/// Status of aborted requests: no server and no proxy has it of its own.
const TEAPOT: u16 = 418;

/// How much later than its time a request may end on a busy machine.
const SLACK: Duration = Duration::from_secs(3);

/// An injected delay, and a time limit.
const LIMIT: Duration = Duration::from_secs(1);

/// How long a server takes that is too slow for [`LIMIT`], in milliseconds.
const SLOW_MS: u64 = 5_000;

/// A time limit of one attempt.
const ATTEMPT: Duration = Duration::from_millis(600);

/// Requests in each row that has no share.
const EACH: usize = 4;

const ABORTS: &str = "aborts";
const GRPC_ABORTS: &str = "grpc-aborts";
const DELAYS: &str = "delays";
const RETRIED: &str = "retried";
const NOT_RETRIED: &str = "not-retried";
const LIMITED_ATTEMPTS: &str = "limited-attempts";
const LIMITED: &str = "limited";

fn services(place: &Place) -> Vec<Service> {
    let milliseconds = |limit: Duration| format!("{}ms", limit.as_millis());
    let rows = [
        (ABORTS, json!({ "fault": { "abort": { "httpStatus": TEAPOT, "percentage": { "value": ABORTED } } } })),
        (GRPC_ABORTS, json!({ "fault": { "abort": { "grpcStatus": "UNAVAILABLE", "percentage": { "value": 100 } } } })),
        (
            DELAYS,
            json!({ "fault": { "delay": { "fixedDelay": milliseconds(LIMIT), "percentage": { "value": 100 } } } }),
        ),
        (RETRIED, json!({ "retries": { "attempts": 2, "retryOn": "5xx" } })),
        (NOT_RETRIED, json!({ "retries": { "attempts": 0 } })),
        (
            LIMITED_ATTEMPTS,
            json!({ "retries": { "attempts": 1, "retryOn": "5xx", "perTryTimeout": milliseconds(ATTEMPT) } }),
        ),
        (LIMITED, json!({ "timeout": milliseconds(LIMIT), "retries": { "attempts": 0 } })),
    ];
    let routed = rows.into_iter().map(|(name, mut route)| {
        route["route"] = json!([{ "destination": { "host": place.host(name) } }]);
        Service::routed(place, name, json!([route]))
    });
    std::iter::once(Service::plain(place)).chain(routed).collect()
}

/// A kind of request, and what must become of each.
struct Row {
    name: &'static str,
    requirement: &'static str,
    service: &'static str,
    protocol: Protocol,
    /// `None`: the probe says who it is.
    path: Option<String>,
    outcome: Expected,
    /// How often each request arrives at the servers.
    arrivals: usize,
    /// The shortest time. The longest is [`SLACK`] more. Zero: any time.
    takes: Duration,
    /// Response flags that the caller's proxy must log.
    flags: &'static [&'static str],
}

/// The rows. Each control has the requests of a row, and no rule.
fn rows() -> Vec<Row> {
    let slow = || Some(format!("/delay/{SLOW_MS}"));
    let broken = || Some("/status/503".to_owned());
    let row = |name, requirement, service, path, outcome| Row {
        name,
        requirement,
        service,
        protocol: Protocol::Http1,
        path,
        outcome,
        arrivals: 1,
        takes: Duration::ZERO,
        flags: &[],
    };
    let delays = "an injected delay is as long as it says";
    let retries = "a failed request is tried as often as its rule says";
    let limits = "a time limit is as long as it says";
    vec![
        Row {
            protocol: Protocol::Grpc,
            arrivals: 0,
            flags: &["FI"],
            ..row("grpc-abort", "a gRPC call is aborted with the stated status", GRPC_ABORTS, None, Expected::Grpc(14))
        },
        Row {
            protocol: Protocol::Grpc,
            ..row("grpc-abort-no-rule", "without a rule, no call is aborted", PLAIN, None, Expected::Answered)
        },
        Row { takes: LIMIT, flags: &["DI"], ..row("delay", delays, DELAYS, None, Expected::Answered) },
        Row { arrivals: 3, ..row("retries", retries, RETRIED, broken(), Expected::Http(503)) },
        row("no-retries", retries, NOT_RETRIED, broken(), Expected::Http(503)),
        Row {
            arrivals: 2,
            takes: 2 * ATTEMPT,
            flags: &["UT"],
            ..row("attempt-limit", limits, LIMITED_ATTEMPTS, slow(), Expected::Http(504))
        },
        Row { takes: LIMIT, flags: &["UT"], ..row("limit", limits, LIMITED, slow(), Expected::Http(504)) },
        Row {
            takes: Duration::from_millis(SLOW_MS),
            ..row("limit-no-rule", "without a time limit, a slow answer comes", PLAIN, slow(), Expected::Answered)
        },
    ]
}

/// An abort of a share of requests, aborts of gRPC calls, a delay, retries counted at the servers, a time limit of each
/// attempt and one of the whole request, from the same and the other clusters. Each has the same requests without the rule.
///
/// Red if: a fault, a limit or the retries are left out; there is one retry more or less; the delay has a third of its
/// length, or the limits half; twice as many requests are aborted.
async fn faults_retries_and_time_limits_are_what_they_say() -> Verdict {
    Scope::run(SUITE, "faults_retries_and_time_limits_are_what_they_say", async |scope| {
        scope.requires(REQUIRED)?;
        let arenas = Arena::all(scope, "faults", &[Protocol::Http1, Protocol::Grpc], services).await?;
        Arena::judge_each(scope, &arenas, async |arena, caller| {
            // One after the other: hundreds of requests at once take longer than the time limits of the rows.
            let aborts = aborts(arena, caller).await?;
            Ok(aborts.into_iter().chain(each_row(arena, caller).await?).collect())
        })
        .await;
        Ok(())
    })
    .await
}

async fn each_row(arena: &Arena, caller: &Workload) -> Result<Vec<Claim>> {
    let (way, rows) = (arena.way(caller), rows());
    let mut dials = Vec::new();
    for row in &rows {
        let (host, port) = (arena.place.host(row.service), arena.port(row.protocol)?);
        let id = format!("{}/{way}", row.name);
        let dial = || Dial { path: row.path.clone(), ..request(&id, row.protocol, &host, port) };
        dials.extend((0..EACH).map(|_| dial()));
    }
    let seen = ask(caller, dials).await?;
    let of_row = |exchange: &Exchange| rows.iter().find(|row| exchange.dial.id == format!("{}/{way}", row.name));
    let logs = logs(arena, &seen, |exchange| of_row(exchange).map_or(0, |row| row.arrivals)).await?;
    let said = outbound(&seen, caller).await?;
    let judged = rows.iter().zip(seen.chunks(EACH).zip(said.chunks(EACH)));
    Ok(judged.map(|(row, (seen, said))| row.judge(&way, seen, said, &logs)).collect())
}

impl Row {
    fn judge(&self, way: &str, seen: &[Exchange], said: &[Option<AccessEntry>], logs: &Logs) -> Claim {
        let faults: Vec<String> = seen
            .iter()
            .zip(said)
            .flat_map(|(exchange, said)| self.faults(exchange, said.as_ref(), logs.arrivals(exchange).sum()))
            .collect();
        let words = |seen: &[Exchange]| {
            let one = |exchange: &Exchange| {
                let (arrivals, took) = (logs.arrivals(exchange).sum(), took(exchange));
                format!("{} after {took:.2?}, arrived {arrivals} times", exchange.outcome())
            };
            let mut told: Vec<String> = seen.iter().map(one).collect();
            told.dedup();
            told.join("; ")
        };
        let time = match self.takes.is_zero() {
            true => String::new(),
            false => format!(" after {:.1?} to {:.1?}", self.takes, self.takes + SLACK),
        };
        let expected = format!("{}{time}, arrived {} times, {EACH} times over", self.outcome, self.arrivals);
        let claim = Claim::about(format!("{SUITE}/{}/{way}", self.name), self.requirement)
            .from(seen.first().map(|exchange| exchange.vantage.to_string()).unwrap_or_default())
            .to(seen.first().map(Exchange::destination).unwrap_or_default())
            .expects(expected)
            .observes(seen, words, |seen| seen.len() == EACH);
        faults.into_iter().fold(claim, Claim::with_fault)
    }

    fn faults(&self, exchange: &Exchange, said: Option<&AccessEntry>, arrivals: usize) -> Vec<String> {
        let mut faults = Vec::new();
        if !self.outcome.is_met_by(exchange.outcome()) {
            faults.push(format!("{} instead of {}", exchange.outcome(), self.outcome));
        }
        if arrivals != self.arrivals {
            faults.push(format!("it arrived {arrivals} times instead of {}", self.arrivals));
        }
        let took = took(exchange);
        if took < self.takes {
            faults.push(format!("it took {took:.2?}, less than {:.2?}", self.takes));
        }
        // The proxy's own account has no share of the caller's lateness on a busy machine.
        let lasted = said.and_then(|entry| entry.get("duration")?.parse().ok()).map(Duration::from_millis);
        if !self.takes.is_zero() && lasted.is_none_or(|lasted| lasted > self.takes + SLACK) {
            let longest = self.takes + SLACK;
            faults.push(format!("it took {lasted:.2?} by the caller's proxy, not {longest:.2?} at most"));
        }
        let flags = said.map(|entry| entry.get("response_flags").unwrap_or_default());
        match flags {
            None => faults.push("the caller's proxy does not say what became of it".into()),
            Some(flags) if !self.flags.iter().all(|flag| flags.split(',').any(|one| one == *flag)) => {
                faults.push(format!("the caller's proxy says `{flags}`, not {:?}", self.flags));
            }
            Some(_) => {}
        }
        faults
    }
}

fn took(exchange: &Exchange) -> Duration {
    Duration::from_micros(exchange.report.elapsed_us)
}

/// A share of requests is aborted, and no aborted request arrives. Without the rule, none is.
async fn aborts(arena: &Arena, caller: &Workload) -> Result<Vec<Claim>> {
    let (way, port) = (arena.way(caller), arena.port(Protocol::Http1)?);
    let many = |service: &str, count: usize| {
        let (id, host) = (format!("{service}/{way}"), arena.place.host(service));
        (0..count).map(move |_| request(&id, Protocol::Http1, &host, port))
    };
    let seen = ask(caller, many(ABORTS, REQUESTS).chain(many(PLAIN, REQUESTS)).collect()).await?;
    let is_aborted = |exchange: &Exchange| Expected::Http(TEAPOT).is_met_by(exchange.outcome());
    let logs = logs(arena, &seen, |exchange| usize::from(exchange.outcome().is_answered())).await?;
    let (ruled, plain) = seen.split_at(REQUESTS);
    let claims = [
        ("abort", "the stated share of requests is aborted, with the stated status", ruled, ABORTED),
        ("abort-no-rule", "without a rule, no request is aborted", plain, 0),
    ];
    let claim = |(id, requirement, exchanges, percent): (&str, &str, &[Exchange], u8)| {
        let share = Share::of(exchanges, is_aborted);
        let claim = Claim::about(format!("{SUITE}/{id}/{way}"), requirement)
            .from(format!("meshed {caller}"))
            .to(exchanges.first().map(Exchange::destination).unwrap_or_default())
            .expects(format!("HTTP status {TEAPOT} for {percent} %, answers for the others"))
            .observes(&share, told, |share| share.fits(f64::from(percent) / 100.0, ERROR));
        let other = exchanges
            .iter()
            .find(|exchange| !is_aborted(exchange) && !exchange.outcome().is_answered())
            .map(|exchange| format!("one was neither aborted nor answered: {}", exchange.outcome()));
        let wrong = exchanges
            .iter()
            .find(|exchange| logs.arrivals(exchange).sum() != usize::from(exchange.outcome().is_answered()));
        let wrong = wrong
            .map(|exchange| format!("one ended with {} and arrived: {}", exchange.outcome(), logs.arrivals(exchange)));
        other.into_iter().chain(wrong).fold(claim, Claim::with_fault)
    };
    Ok(claims.into_iter().map(claim).collect())
}

crate::trials! {
    faults_retries_and_time_limits_are_what_they_say,
}
