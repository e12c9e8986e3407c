//! k6, a load generator for TLS, as an alternative to the load driver: same gateway, same request, a new connection for
//! each request.
//!
//! k6 has no intended send time. A user that waits for a slow answer sends no request, so k6's latency omits requests
//! that a stall delayed. k6's request duration starts on an open connection: it excludes connecting and TLS. The
//! iteration's duration includes both. So `p99_us` of a k6 run is the iteration's, the counterpart of the driver's
//! total.

use std::time::{Duration, Instant};

use futures::try_join;
use k8s_openapi::api::core::v1::Service;
use meshproof_load::Limits;
use serde::Deserialize;
use serde_json::json;

use super::bench::{Bench, GATEWAY, GATEWAY_PORT, costs, ready, start};
use super::cost::Cost;
use super::counted::{Counted, CountedRun};
use super::isolation::{Isolation, frozen};
use super::side::Side;
use crate::cluster::{self, EXEC_BOUND, Workload};
use crate::compare::{Error, Result};
use crate::host::Host;
use crate::judge::Run;
use crate::scope::Scope;

/// The seed's k6 script, without what is specific to one machine.
const SCRIPT: &str = include_str!("../../fixtures/perf/k6.js");

/// Prints `begins` on standard error and runs k6 with the script (first argument) and further arguments. After the end
/// of standard input, prints the number of processors for k6, then k6's output.
const RUN: &str = r#"script="$1"; shift; echo begins >&2; told="$(printf '%s' "$script" | k6 run --quiet --no-usage-report "$@" -)"; ended=$?
while read -r _; do :; done; nproc; printf '%s\n' "$told"; exit $ended"#;

/// Time from k6's start to its first load.
const STARTS: Duration = Duration::from_millis(400);

/// Name of k6's deployment, of its container, and of k6's entry in a run's costs.
const NAME: &str = "k6";

/// One run of k6.
#[derive(Debug, Clone, PartialEq)]
pub struct K6Spec {
    /// Number of virtual users. Each user makes one request at a time.
    pub users: u32,
    /// Duration in seconds.
    pub seconds: u32,
    /// Iterations per second of all users together. `None`: as many as the users can make, as in the seed.
    pub rate: Option<u32>,
    /// Server name, for SNI and `Host`.
    pub name: String,
    /// Path and query of the request.
    pub path: String,
    /// See [`RunSpec::drain`](super::RunSpec::drain).
    pub drain: Duration,
}

impl Bench {
    /// Starts k6 on the client's node, until the test ends.
    ///
    /// # Errors
    /// The errors of [`Bench::start`].
    pub async fn with_k6(mut self, scope: &Scope) -> Result<Self> {
        start(scope, &self.cluster, Side::Naked.namespace(&self.cluster)?, NAME, self.places.client()).await?;
        self.k6 = Some(ready(&self.cluster, Side::Naked, NAME).await?);
        Ok(self)
    }

    /// Like [`Bench::run_between`], with k6 at the gateway. Requires [`Bench::start_gateway`] and [`Bench::with_k6`].
    /// k6 does not report its start, so the run has no receipt for the freeze by `isolation`.
    ///
    /// The run's metrics are the fields of the seed's summary: `total_*` is the iteration's duration, `request_*` the
    /// request's, `handshake_*` the TLS handshake's, `request_tls_*` the sum of request and TLS handshake, each as
    /// `*_mean_us` and `*_p99_us`. Further metrics are `virtual_users`, `requests` and `checks` (the passed checks).
    ///
    /// # Errors
    /// [`Exec`](crate::cluster::Error::Exec): k6 cannot run, its summary is malformed, or no request was answered.
    pub async fn run_k6<T, E>(
        &self,
        comparison: &str,
        order: u32,
        host: &Host,
        spec: &K6Spec,
        isolation: Option<&Isolation>,
        counts: impl AsyncFn() -> Result<T, E>,
    ) -> Result<CountedRun<T>>
    where
        Error: From<E>,
    {
        let counts = async || Ok::<_, Error>(counts().await?);
        let (Some(k6), Some(gateway)) = (&self.k6, self.gateway()) else {
            return Err(cluster::Error::NoPod {
                cluster: self.cluster.name().into(),
                namespace: Side::Naked.namespace(&self.cluster)?.into(),
                selector: format!("app={NAME}"),
                seen: "for neither it nor the gateway was started with this bench".into(),
            }
            .into());
        };
        let K6Spec { users, seconds, rate, .. } = spec;
        let plan = json!({ "k6": { "users": users, "seconds": seconds, "rate": rate } });
        let mut run = Run::new(comparison, order, host.clone(), plan);
        let arguments = spec.arguments(&self.gateway_address(gateway).await?);
        let mut command = vec!["/usr/bin/sh", "-c", RUN, "k6", SCRIPT];
        command.extend(arguments.iter().map(String::as_str));
        let own_cost = async || -> Result<Cost> { Ok(Cost::read(k6, NAME).await?) };
        let began = Instant::now();
        let (costs_before, own_before, before) = try_join!(self.cost(), own_cost(), counts())?;
        let length = Duration::from_secs((*seconds).into());
        let (output, _) = frozen(isolation, STARTS + length + spec.drain, async |input| -> Result<_> {
            Ok(self.cluster.exec_within(length + EXEC_BOUND, k6.container(NAME), &command, input).await?)
        })
        .await?;
        let (costs_after, own_after, after) = try_join!(self.cost(), own_cost(), counts())?;
        let failed = |reason: String| k6.unusable("k6 run", reason);
        let (processors, summary) = parse(&output).map_err(failed)?;
        summary.record(&mut run).map_err(failed)?;
        let requests = run.requests as f64;
        let own = own_after.cpu_us - own_before.cpu_us;
        run.measure(format!("cpu_us_per_request/{NAME}"), (own / requests).max(f64::MIN_POSITIVE), "us");
        run.saturated = saturated(own / summary.microseconds(), processors);
        costs(&mut run, requests, own / requests, Counted { before: &costs_before, after: &costs_after });
        run.duration = began.elapsed().as_secs_f64();
        Ok(CountedRun { run, counted: Counted { before, after } })
    }

    /// The IP address of the gateway's service. k6 `hosts` entries need an IP address.
    async fn gateway_address(&self, gateway: &Workload) -> Result<String> {
        let namespace = &gateway.namespace;
        let service = self.cluster.api::<Service>(namespace).get(GATEWAY).await;
        let service = service.map_err(self.cluster.failed(format!("read service {namespace}/{GATEWAY}")))?;
        Ok(service.spec.and_then(|spec| spec.cluster_ip).unwrap_or_default())
    }
}

impl K6Spec {
    /// Arguments of `k6 run` for a gateway at `address`.
    fn arguments(&self, address: &str) -> Vec<String> {
        let Self { users, seconds, rate, name, path, drain: _ } = self;
        let hosts = json!({ name.as_str(): address });
        let variables = [
            format!("USERS={users}"),
            format!("SECONDS={seconds}"),
            format!("RATE={}", rate.unwrap_or(0)),
            format!("HOSTS={hosts}"),
            format!("ADDRESS=https://{name}:{GATEWAY_PORT}{path}"),
        ];
        variables.into_iter().flat_map(|variable| ["-e".to_owned(), variable]).collect()
    }
}

/// The reason why k6 was the bottleneck, or `None`. k6 does not report saturation; its control group reports CPU usage.
fn saturated(cores_used: f64, processors: u32) -> Option<String> {
    let (share, limit) = (cores_used / f64::from(processors.max(1)), Limits::default().cpu);
    let used = share * 100.0;
    (share > limit)
        .then(|| format!("k6 used {used:.0} % of its {processors} processors, more than {:.0} %", limit * 100.0))
}

/// k6's end-of-test summary. The fields without `Option` are required.
#[derive(Debug, Deserialize)]
struct Summary {
    metrics: Metrics,
    state: State,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct State {
    test_run_duration_ms: f64,
}

#[derive(Debug, Deserialize)]
struct Metrics {
    iteration_duration: Metric<Trend>,
    /// Absent if no request was answered as expected.
    #[serde(rename = "http_req_duration{expected_response:true}")]
    request: Option<Metric<Trend>>,
    http_req_tls_handshaking: Metric<Trend>,
    http_reqs: Metric<Counter>,
    checks: Metric<Rate>,
    /// Number of users. With a fixed rate, some users may have been idle.
    vus_max: Metric<Gauge>,
    /// Iterations that found no free user. Only with a fixed rate.
    dropped_iterations: Option<Metric<Counter>>,
}

#[derive(Debug, Deserialize)]
struct Metric<V> {
    contains: String,
    values: V,
}

/// In milliseconds.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "all that the script asks for has to be there, whether or not it is used")]
struct Trend {
    avg: f64,
    min: f64,
    med: f64,
    max: f64,
    #[serde(rename = "p(95)")]
    p95: f64,
    #[serde(rename = "p(99)")]
    p99: f64,
    count: u64,
}

#[derive(Debug, Deserialize)]
struct Counter {
    count: u64,
}

#[derive(Debug, Deserialize)]
struct Rate {
    passes: u64,
    fails: u64,
}

#[derive(Debug, Deserialize)]
struct Gauge {
    max: u32,
}

/// Parses the number of processors and the summary below it.
fn parse(output: &str) -> std::result::Result<(u32, Summary), String> {
    let (processors, json) = output.split_once('\n').ok_or("it printed no summary")?;
    let processors = processors.trim().parse().map_err(|_| format!("`{processors}` is no number of processors"))?;
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let summary: Summary = serde_path_to_error::deserialize(&mut deserializer)
        .map_err(|error| format!("its summary cannot be read: {}: {}", error.path(), error.inner()))?;
    deserializer.end().map_err(|error| format!("more follows its summary: {error}"))?;
    Ok((processors, summary))
}

impl Summary {
    fn microseconds(&self) -> f64 {
        self.state.test_run_duration_ms * 1e3
    }

    /// Writes the summary into the run's metrics.
    fn record(&self, run: &mut Run) -> std::result::Result<(), String> {
        let Metrics { iteration_duration, request, http_req_tls_handshaking: tls, http_reqs, checks, vus_max, .. } =
            &self.metrics;
        let request = request.as_ref().ok_or("no request was answered")?;
        let trends = [("iteration", iteration_duration), ("request", request), ("TLS handshake", tls)];
        for (name, trend) in trends {
            if trend.contains != "time" {
                return Err(format!("the {name} duration is `{}` and no time", trend.contains));
            }
            if trend.values.p99 <= 0.0 {
                return Err(format!("the {name} duration is 0 at p99: that was not measured"));
            }
        }
        let (passes, fails) = (checks.values.passes, checks.values.fails);
        if http_reqs.values.count != passes + fails {
            return Err(format!(
                "{} requests and {} checks: one request an iteration is owed, and a check of each",
                http_reqs.values.count,
                passes + fails
            ));
        }
        for (name, parts) in [
            ("total", &[iteration_duration][..]),
            ("request", &[request]),
            ("handshake", &[tls]),
            // As in the seed. The sum of two 99th percentiles is not the 99th percentile of the sum.
            ("request_tls", &[request, tls]),
        ] {
            let sum = |of: fn(&Trend) -> f64| parts.iter().map(|part| of(&part.values)).sum::<f64>() * 1e3;
            run.measure(format!("{name}_mean_us"), sum(|trend| trend.avg), "us");
            run.measure(format!("{name}_p99_us"), sum(|trend| trend.p99), "us");
        }
        run.measure("p50_us", iteration_duration.values.med * 1e3, "us");
        run.measure("p99_us", iteration_duration.values.p99 * 1e3, "us");
        run.measure("requests_per_second", passes as f64 * 1e3 / self.state.test_run_duration_ms, "1/s");
        run.measure("virtual_users", vus_max.values.max.into(), "users");
        run.measure("requests", http_reqs.values.count as f64, "requests");
        run.measure("checks", passes as f64, "passed");
        run.dropped = self.metrics.dropped_iterations.as_ref().map_or(0, |dropped| dropped.values.count);
        run.requests = passes + fails + run.dropped;
        run.errors = fails;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
