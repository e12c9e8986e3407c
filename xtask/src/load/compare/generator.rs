//! The generators: their command lines, and how their output is read.

use std::path::Path;

use anyhow::{Context, Result};
use meshproof_load::Summary;
use serde_json::Value;

use super::outcome::Latencies;
use super::{Compare, Programs};

/// Duration of the server's single stall in a run.
pub(super) const STALL_MS: f64 = 200.0;

/// A scenario of the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scenario {
    /// As many requests as possible on kept-alive HTTP/1.1 connections.
    Kept,
    /// As many TLS connections as possible, with one request each.
    NewTls,
    /// A rate far below every generator's maximum, on a server of known latency. Each quantile is in a separate latency
    /// tier.
    Known,
    /// The same rate on a server that answers at once, except during one stall.
    Stall,
}

/// A load generator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Generator {
    Meshproof,
    Fortio,
    Wrk,
    K6,
}

const K6_SCRIPT: &str = "\
import http from 'k6/http';
const fresh = __ENV.FRESH === '1', rate = Number(__ENV.RATE), users = Number(__ENV.USERS), duration = __ENV.SECONDS + 's';
const open = { executor: 'constant-arrival-rate', rate, timeUnit: '1s', duration, preAllocatedVUs: users };
const closed = { executor: 'constant-vus', vus: users, duration };
export const options = {
  insecureSkipTLSVerify: true, noConnectionReuse: fresh, noVUConnectionReuse: fresh, discardResponseBodies: true,
  summaryTrendStats: ['p(50)', 'p(99)', 'p(99.9)'], scenarios: { load: rate > 0 ? open : closed },
};
export default function () { http.get(__ENV.URL); }
";

impl Scenario {
    pub(super) const ALL: [Self; 4] = [Self::Kept, Self::NewTls, Self::Known, Self::Stall];

    pub(super) fn title(self, rate: u32) -> String {
        match self {
            Self::Kept => "Kept-alive HTTP/1.1, closed loop".into(),
            Self::NewTls => "A new TLS connection for each request (RSA-2048), closed loop".into(),
            Self::Known => {
                format!("{rate} requests/s on a server that takes 10 ms, one in 50 times 20 ms, one in 200 times 40 ms")
            }
            Self::Stall => format!("{rate} requests/s on a server that answers at once and stalls once, for 200 ms"),
        }
    }

    /// Arguments of the server for a run of `seconds`.
    pub(super) fn server(self, seconds: u32) -> Vec<String> {
        let words = match self {
            Self::Kept => String::new(),
            Self::NewTls => "--tls".into(),
            Self::Known => "--delay 10ms --slow 50:20ms --slow 200:40ms".into(),
            // A second stall would start after the end of the run.
            Self::Stall => format!("--stall {STALL_MS}ms --stall-every {}ms", seconds * 600),
        };
        words.split_whitespace().map(str::to_owned).collect()
    }

    fn has_a_rate(self) -> bool {
        matches!(self, Self::Known | Self::Stall)
    }

    pub(super) fn generators(self) -> &'static [Generator] {
        match self {
            Self::Kept | Self::NewTls => &[Generator::Meshproof, Generator::Fortio, Generator::Wrk, Generator::K6],
            // wrk cannot run at a fixed rate.
            Self::Known | Self::Stall => &[Generator::Meshproof, Generator::Fortio, Generator::K6],
        }
    }
}

impl Generator {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Meshproof => "meshproof",
            Self::Fortio => "fortio",
            Self::Wrk => "wrk",
            Self::K6 => "k6",
        }
    }

    /// The command line for `scenario` against the server at `address`.
    pub(super) fn command(
        self,
        programs: &Programs,
        compare: &Compare,
        scenario: Scenario,
        address: &str,
        scratch: &Path,
    ) -> Result<Vec<String>> {
        let (seconds, connections) = (compare.seconds, compare.connections);
        let fresh = scenario == Scenario::NewTls;
        let scheme = if fresh { "https" } else { "http" };
        let url = format!("{scheme}://{address}/");
        let rate = if scenario.has_a_rate() { compare.rate } else { 0 };
        let path = |path: &Path| path.display().to_string();
        let command = |program: String, arguments: String| -> Vec<String> {
            std::iter::once(program).chain(arguments.split(' ').map(str::to_owned)).collect()
        };
        let mut words = match self {
            // At full speed the driver reports saturation, which is not a failure here.
            Self::Meshproof => command(
                path(&programs.load),
                format!(
                    "run {address} --connections {connections} --duration {seconds}s --warmup 0s --json --report-only"
                ),
            ),
            // fortio's "uniform" spreads the requests of the connections in time, as the other generators do.
            Self::Fortio => command(
                path(&programs.fortio),
                format!(
                    "load -c {connections} -qps {rate} -t {seconds}s -p 50,99,99.9 -r 0.0001 -loglevel error -uniform \
                     -json -"
                ),
            ),
            Self::Wrk => command("wrk".into(), format!("-t1 -c{connections} -d{seconds}s --latency")),
            Self::K6 => {
                let script = scratch.join("script.js");
                std::fs::write(&script, K6_SCRIPT)?;
                let text = format!(
                    "run --quiet --no-usage-report -e USERS={connections} -e SECONDS={seconds} -e RATE={rate} -e FRESH={} \
                     -e URL={url} --summary-export",
                    u8::from(fresh)
                );
                let mut words = command(path(&programs.k6), text);
                words.extend([path(&scratch.join("summary.json")), path(&script)]);
                words
            }
        };
        let more: Vec<String> = match (self, scenario) {
            (Self::Meshproof, Scenario::NewTls) => ["--tls", "--insecure", "--reuse", "1"].map(str::to_owned).into(),
            (Self::Meshproof, Scenario::Known | Scenario::Stall) => vec!["--rate".into(), rate.to_string()],
            (Self::Fortio, Scenario::NewTls) => vec!["-k".into(), "-keepalive=false".into(), url],
            (Self::Wrk, Scenario::NewTls) => vec!["-H".into(), "Connection: close".into(), url],
            (Self::Fortio | Self::Wrk, _) => vec![url],
            (Self::Meshproof, Scenario::Kept) | (Self::K6, _) => Vec::new(),
        };
        words.extend(more);
        Ok(words)
    }

    /// Reads the latencies from the generator's standard output, or from its file in `scratch`.
    pub(super) fn read(self, output: &str, scratch: &Path) -> Result<Latencies> {
        let missing = || format!("the output of {} holds no percentiles: {output}", self.name());
        match self {
            Self::Meshproof => {
                let summary: Summary = serde_json::from_str(output)?;
                Latencies::read(&summary.latency.total).with_context(missing)
            }
            Self::Fortio => {
                let json: Value = serde_json::from_str(output)?;
                let at = |percentile: f64| {
                    let all = json["DurationHistogram"]["Percentiles"].as_array()?;
                    let one = all.iter().find(|one| one["Percentile"].as_f64() == Some(percentile))?;
                    Some(one["Value"].as_f64()? * 1000.0)
                };
                let (p50_ms, p99_ms) = at(50.0).zip(at(99.0)).with_context(missing)?;
                Ok(Latencies { p50_ms, p99_ms, p99_9_ms: Some(at(99.9).with_context(missing)?) })
            }
            Self::Wrk => {
                let at = |percentile: &str| {
                    let line = output.lines().find_map(|line| line.trim().strip_prefix(percentile))?;
                    wrk_milliseconds(line.trim())
                };
                let (p50_ms, p99_ms) = at("50%").zip(at("99%")).with_context(missing)?;
                Ok(Latencies { p50_ms, p99_ms, p99_9_ms: None })
            }
            Self::K6 => {
                let json: Value = serde_json::from_str(&std::fs::read_to_string(scratch.join("summary.json"))?)?;
                let at = |name: &str| json["metrics"]["http_req_duration"][name].as_f64();
                let (p50_ms, p99_ms) = at("p(50)").zip(at("p(99)")).with_context(missing)?;
                Ok(Latencies { p50_ms, p99_ms, p99_9_ms: Some(at("p(99.9)").with_context(missing)?) })
            }
        }
    }
}

/// Parses a duration as wrk prints it, such as `1.20ms`.
fn wrk_milliseconds(text: &str) -> Option<f64> {
    let units = [("us", 1e-3), ("ms", 1.0), ("s", 1000.0), ("m", 60_000.0)];
    units.iter().find_map(|(unit, factor)| Some(text.strip_suffix(unit)?.trim().parse::<f64>().ok()? * factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_of_wrk_is_read_whatever_its_unit() {
        assert_eq!(wrk_milliseconds("1.50ms"), Some(1.5));
        assert_eq!(wrk_milliseconds("250.00us"), Some(0.25));
        assert_eq!(wrk_milliseconds("2.00s"), Some(2000.0));
        assert_eq!(wrk_milliseconds("fast"), None);
    }
}
