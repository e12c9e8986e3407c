//! A recorded run, schema `meshproof.run/v1`: one measurement of one arm of a comparison.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};
use serde::{Deserialize, Serialize};

use crate::host::Host;
use crate::judge::attempt::{Cause, FROZEN_SHARE, MIN_FROZEN_SHARE, Refusal};
use crate::judge::{Arm, Error, Mode, Result, arm};

/// Schema identifier in every run.
pub const SCHEMA: &str = "meshproof.run/v1";

/// Quantiles of the distribution `latency` that are also metrics, in microseconds.
const LATENCY_QUANTILES: [(&str, f64); 4] = [("p50_us", 0.5), ("p90_us", 0.9), ("p99_us", 0.99), ("p99_9_us", 0.999)];

/// A measured number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metric {
    /// Above 0, because the judge takes ratios.
    pub value: f64,
    /// Unit: `us`, `1/s`, `bytes` …
    pub unit: String,
}

/// A distribution of integers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Distribution {
    /// Unit of the values.
    pub unit: String,
    /// HdrHistogram V2, deflated, in base64.
    pub hdr: String,
}

/// Runs by comparison, in the order of execution.
pub type Recording = BTreeMap<String, Vec<Run>>;

/// One run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// Id of the comparison in `bounds.toml`, for example `bypass_p99/16`.
    pub comparison: String,
    /// The arm.
    pub arm: Arm,
    /// Position in the order of execution, from 0.
    pub order: u32,
    /// The ABBA block, from 0. A block has four runs.
    pub block: u32,
    /// Number of the attempt at this run, from 1.
    #[serde(default = "first")]
    pub attempt: u32,
    /// Why this attempt was refused and repeated. Empty for a judged run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<Refusal>,
    /// Start, in seconds since 1970.
    pub started: f64,
    /// Duration in seconds, preparation and warm-up included.
    pub duration: f64,
    /// The machine.
    pub host: Host,
    /// The plan of the run: the same for all runs of a comparison.
    pub plan: serde_json::Value,
    /// Measurements by name: `p99_us`, `requests_per_second`, `cpu_us_per_request/<proxy>` …
    pub metrics: BTreeMap<String, Metric>,
    /// Distributions, by name: `latency`.
    #[serde(default)]
    pub histograms: BTreeMap<String, Distribution>,
    /// Requests due in the measured window.
    pub requests: u64,
    /// Requests answered with an error, or not answered.
    pub errors: u64,
    /// Requests never sent.
    pub dropped: u64,
    /// Why the load generator was the bottleneck, if it was. Such a run proves nothing and is refused.
    #[serde(default)]
    pub saturated: Option<String>,
    /// TLS parameters that the generator and its peer negotiated: the same for all runs of a comparison. Empty without
    /// TLS.
    #[serde(default)]
    pub tls: Vec<String>,
    /// Counters that prove whether the treatment was at work.
    #[serde(default)]
    pub receipts: BTreeMap<String, f64>,
}

/// The default attempt number. Older recordings have no attempt number, and no refused attempts.
fn first() -> u32 {
    1
}

impl Run {
    /// An empty run with the number `order`, started now.
    pub fn new(comparison: impl Into<String>, order: u32, host: Host, plan: serde_json::Value) -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self {
            schema: SCHEMA.into(),
            comparison: comparison.into(),
            arm: arm(order),
            order,
            block: order / 4,
            attempt: first(),
            refused: Vec::new(),
            started: since.as_secs_f64(),
            duration: 0.0,
            host,
            plan,
            metrics: BTreeMap::new(),
            histograms: BTreeMap::new(),
            requests: 0,
            errors: 0,
            dropped: 0,
            saturated: None,
            tls: Vec::new(),
            receipts: BTreeMap::new(),
        }
    }

    /// Adds a metric.
    pub fn measure(&mut self, name: impl Into<String>, value: f64, unit: impl Into<String>) {
        self.metrics.insert(name.into(), Metric { value, unit: unit.into() });
    }

    /// Adds a distribution of latencies in microseconds as `latency`, and its p50, p90, p99 and p99.9 as metrics.
    ///
    /// # Errors
    /// [`Error::Run`]: the histogram is empty, or cannot be serialized.
    pub fn latency(&mut self, histogram: &Histogram<u64>) -> Result<()> {
        let failed = |reason: String| self.fault(Path::new(&self.file()), "histograms.latency", reason);
        if histogram.is_empty() {
            return Err(failed("no request was answered".into()));
        }
        let mut bytes = Vec::new();
        V2DeflateSerializer::new().serialize(histogram, &mut bytes).map_err(|error| failed(error.to_string()))?;
        let distribution = Distribution { unit: "us".into(), hdr: STANDARD.encode(bytes) };
        self.histograms.insert("latency".into(), distribution);
        for (name, quantile) in LATENCY_QUANTILES {
            self.measure(name, histogram.value_at_quantile(quantile) as f64, "us");
        }
        Ok(())
    }

    /// The run's mode: `plan.mode`.
    pub fn mode(&self) -> Mode {
        let mode = self.plan.get("mode");
        mode.and_then(|mode| serde_json::from_value(mode.clone()).ok()).unwrap_or_default()
    }

    /// A decoded distribution.
    ///
    /// # Errors
    /// [`Error::Run`]: there is no distribution with this name, or the distribution is damaged.
    pub fn histogram(&self, name: &str) -> Result<Histogram<u64>> {
        self.unpack(Path::new(&self.file()), name)
    }

    fn unpack(&self, path: &Path, name: &str) -> Result<Histogram<u64>> {
        let field = format!("histograms.{name}");
        let distribution =
            self.histograms.get(name).ok_or_else(|| self.fault(path, &field, "there is no such histogram"))?;
        let bytes = STANDARD.decode(&distribution.hdr).map_err(|error| self.fault(path, &field, error))?;
        Deserializer::new().deserialize(&mut bytes.as_slice()).map_err(|error| self.fault(path, &field, error))
    }

    /// The run's file name, relative to the directory of all runs: `one/003-treatment.json`, or
    /// `one/003-refused-1-treatment.json`.
    pub fn file(&self) -> String {
        let refused = if self.refused.is_empty() { String::new() } else { format!("refused-{}-", self.attempt) };
        format!("{}/{:03}-{refused}{}.json", self.comparison, self.order, self.arm)
    }

    /// Refusals that follow from the run's measurements. The rule is the same for both arms.
    pub fn refusals(&self) -> Vec<Refusal> {
        let saturated = self.saturated.as_ref().map(|why| Refusal {
            cause: Cause::GeneratorSaturated,
            reason: format!("the load generator was the bottleneck: {why}"),
        });
        let frozen = self.receipts.get(FROZEN_SHARE).filter(|share| **share < MIN_FROZEN_SHARE);
        let not_frozen = frozen.map(|share| Refusal {
            cause: Cause::NotFrozen,
            reason: format!(
                "the rest of the cluster was frozen for {share:.2} of the run, less than {MIN_FROZEN_SHARE}"
            ),
        });
        saturated.into_iter().chain(not_frozen).collect()
    }

    /// Whether this is a refused attempt, not a judged run.
    pub fn is_refused(&self) -> bool {
        !self.refused.is_empty()
    }

    /// Whether the run ended before it measured anything.
    fn is_interrupted(&self) -> bool {
        self.refused.iter().any(|refusal| refusal.cause == Cause::Interrupted)
    }

    /// Writes the run below `runs`, and returns the run as read back from the file. The judge then judges exactly the
    /// recorded digits, so that judging again gives the same verdict.
    ///
    /// # Errors
    /// [`Error::Run`].
    pub fn record(&self, runs: &Path) -> Result<Self> {
        Self::read(&self.write(runs)?)
    }

    /// Writes atomically: another process sees the whole file or none.
    fn write(&self, runs: &Path) -> Result<PathBuf> {
        let path = runs.join(self.file());
        self.validate(&path)?;
        let write = || -> std::io::Result<()> {
            std::fs::create_dir_all(path.parent().unwrap_or(runs))?;
            let partial = path.with_extension("partial");
            std::fs::write(&partial, serde_json::to_vec_pretty(self)?)?;
            std::fs::rename(&partial, &path)
        };
        write().map_err(|error| self.fault(&path, "(file)", error))?;
        Ok(path)
    }

    /// Reads a run.
    ///
    /// # Errors
    /// [`Error::Run`], with the file and the faulty field.
    pub fn read(path: &Path) -> Result<Self> {
        let failed = |field: String, reason: String| Error::Run {
            path: path.into(),
            field: field.into(),
            reason: reason.into(),
        };
        let text = std::fs::read_to_string(path).map_err(|error| failed("(file)".into(), error.to_string()))?;
        let run: Self =
            serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(&text)).map_err(|error| {
                let field = error.path().to_string();
                failed(
                    if field == "." || field.ends_with('?') { "(file)".into() } else { field },
                    error.into_inner().to_string(),
                )
            })?;
        run.validate(path)?;
        if !path.ends_with(run.file()) {
            return Err(run.fault(path, "order", format!("by what is in it, this file is named {}", run.file())));
        }
        Ok(run)
    }

    fn validate(&self, path: &Path) -> Result<()> {
        let fault = |field: &str, reason: &str| Err(self.fault(path, field, reason));
        if self.schema != SCHEMA {
            return fault("schema", &format!("`{}` is not `{SCHEMA}`", self.schema));
        }
        let parts = || self.comparison.split('/');
        if parts().any(|part| part.is_empty() || part.starts_with('.') || part.contains('\\')) {
            return fault("comparison", &format!("`{}` names no directory", self.comparison));
        }
        if self.block != self.order / 4 {
            return fault("block", &format!("run {} belongs to block {}", self.order, self.order / 4));
        }
        if !(self.started.is_finite() && self.started >= 0.0) {
            return fault("started", "not a time");
        }
        if !(self.duration.is_finite() && self.duration >= 0.0) {
            return fault("duration", "not a duration");
        }
        self.validate_attempt(path)?;
        if self.requests == 0 && !self.is_interrupted() {
            return fault("requests", "a run without requests measured nothing");
        }
        if self.errors.saturating_add(self.dropped) > self.requests {
            return fault("errors", "with those dropped, more than there were requests");
        }
        for (name, metric) in &self.metrics {
            if !(metric.value.is_finite() && metric.value > 0.0) {
                return fault(
                    &format!("metrics.{name}"),
                    &format!("{} has no ratio: it must be above 0", metric.value),
                );
            }
        }
        for (name, value) in &self.receipts {
            if !value.is_finite() {
                return fault(&format!("receipts.{name}"), "not a number");
            }
        }
        for name in self.histograms.keys() {
            let histogram = self.unpack(path, name)?;
            if name == "latency" {
                self.check_quantiles(path, &histogram)?;
            }
        }
        Ok(())
    }

    /// Rejects an attempt whose refusal does not follow from its measurements. A refusal by hand would select runs.
    fn validate_attempt(&self, path: &Path) -> Result<()> {
        let fault = |field: &str, reason: &str| Err(self.fault(path, field, reason));
        if self.attempt == 0 {
            return fault("attempt", "attempts are counted from 1");
        }
        if self.is_interrupted() {
            let measured = self.requests > 0 || !self.metrics.is_empty() || !self.histograms.is_empty();
            return if measured { fault("refused", "an interrupted attempt has no measurement") } else { Ok(()) };
        }
        let causes = |refused: &[Refusal]| refused.iter().map(|refusal| refusal.cause).collect::<Vec<_>>();
        if self.is_refused() && causes(&self.refused) != causes(&self.refusals()) {
            return fault("refused", "does not follow from what was measured");
        }
        Ok(())
    }

    /// Rejects a latency quantile that differs from its histogram by more than the histogram's resolution.
    fn check_quantiles(&self, path: &Path, latency: &Histogram<u64>) -> Result<()> {
        for (name, quantile) in LATENCY_QUANTILES {
            let Some(metric) = self.metrics.get(name) else { continue };
            let fault = |reason: String| self.fault(path, &format!("metrics.{name}"), reason);
            if metric.unit != "us" {
                return Err(fault(format!("its unit is `{}`, where `us` is due", metric.unit)));
            }
            let seen = latency.value_at_quantile(quantile);
            let ends = [latency.lowest_equivalent(seen) as f64, latency.highest_equivalent(seen) as f64];
            if metric.value < ends[0] || metric.value > ends[1] {
                let value = metric.value;
                return Err(fault(format!("{value} us is not what `histograms.latency` has there: {seen} us")));
            }
        }
        Ok(())
    }

    fn fault(&self, path: &Path, field: &str, reason: impl ToString) -> Error {
        Error::Run { path: path.into(), field: field.into(), reason: reason.to_string().into() }
    }
}

#[cfg(test)]
mod tests;
