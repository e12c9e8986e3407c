//! `judge`: judges recorded runs under the current bounds, without a cluster.

mod power;
mod resample;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use meshproof::judge::recorded::Judged;
use meshproof::judge::{Baselines, Comparison, Recording, recorded};
use meshproof::report::{self, table};

use crate::Ended;

/// Judge recorded runs again under today's bounds; it fails where a gate does not hold
#[derive(Debug, clap::Args)]
pub struct Judge {
    /// Where the runs are: what a suite leaves in target/meshproof/perf
    #[arg(required_unless_present = "power")]
    directory: Option<PathBuf>,
    /// Print the comparisons as JSON
    #[arg(long)]
    json: bool,
    /// The bounds [default: those that the suite left beside the runs; in a checkout, fixtures/perf/bounds.toml]
    #[arg(long, value_name = "FILE")]
    bounds: Option<PathBuf>,
    /// Write what was measured as the baseline of machines of this kind, into baselines.json beside the bounds
    #[arg(long, conflicts_with = "power")]
    record_baseline: bool,
    /// Measure the judge itself instead: false alarms and power, on simulated runs
    #[arg(long, conflicts_with_all = ["directory", "json", "bounds"])]
    power: bool,
    /// The same on the runs of two equal arms that were recorded on a machine: comparisons drawn from their pairs
    #[arg(long, conflicts_with_all = ["power", "json", "record_baseline"])]
    resample: bool,
    /// Simulated or drawn comparisons for each number [default: 2000, with --resample 1000]
    #[arg(long, value_parser = clap::value_parser!(u32).range(100..))]
    comparisons: Option<u32>,
}

impl Judge {
    /// Judges, and prints what was found. `bounds` are those of a checkout.
    ///
    /// # Errors
    /// Fails if the runs or the bounds cannot be read: nothing was judged.
    pub fn run(self, bounds: Option<PathBuf>) -> Result<Ended> {
        let Some(directory) = self.directory else {
            power::print(self.comparisons.unwrap_or(2_000));
            return Ok(Ended::Holds);
        };
        let bounds = self.bounds.or(bounds).unwrap_or_else(|| directory.join("bounds/bounds.toml"));
        let recording = recorded::read(&directory)?;
        if self.resample {
            resample::print(&recording, &bounds, self.comparisons.unwrap_or(1_000))?;
            return Ok(Ended::Holds);
        }
        let judged = recorded::judge_each(&directory, &recording, &bounds)?;
        if self.record_baseline {
            let count = record_baseline(&directory, &bounds, recording, &judged)?;
            eprintln!("{count} ratios are the baseline of machines of this kind now");
        }
        let mut failures = Vec::new();
        let mut comparisons = Vec::new();
        for one in judged {
            match one.outcome {
                Ok(of_one) => comparisons.extend(of_one),
                Err(error) => failures.push(format!("not judged: {error}")),
            }
        }
        if self.json {
            println!("{}", serde_json::to_string_pretty(&comparisons)?);
        } else {
            table::beside_others(&comparisons).iter().for_each(|table| println!("{table}"));
            println!("{}", table::comparisons(&comparisons));
            table::attempts(&comparisons).iter().for_each(|table| println!("{table}"));
        }
        let lost: Vec<&Comparison> = comparisons.iter().filter(|comparison| !comparison.holds).collect();
        failures.extend(lost.iter().map(ToString::to_string));
        if failures.is_empty() {
            return Ok(Ended::Holds);
        }
        eprintln!(
            "error: {} of {} comparisons do not hold, {} could not be judged\n{}",
            lost.len(),
            comparisons.len(),
            failures.len() - lost.len(),
            failures.join("\n")
        );
        Ok(if comparisons.is_empty() { Ended::NothingJudged } else { Ended::DoesNotHold })
    }
}

/// Records the comparisons that have baselines. Other comparisons in the same directory have no influence.
fn record_baseline(directory: &Path, bounds: &Path, mut recording: Recording, judged: &[Judged]) -> Result<usize> {
    let mut comparisons = Vec::new();
    for one in judged.iter().filter(|one| one.has_baseline) {
        match &one.outcome {
            Ok(of_one) => comparisons.extend(of_one.iter().cloned()),
            Err(error) => bail!("no baseline was recorded: {error}"),
        }
    }
    recording.retain(|id, _| judged.iter().any(|one| one.id == *id && one.has_baseline));
    let baselines = Baselines::beside(bounds)?;
    Ok(baselines.record(bounds, &recording, &comparisons, measured(directory)?)?)
}

/// The versions that a suite measured in `directory`: the suite's revision, and the versions of the mesh and the
/// clusters.
fn measured(directory: &Path) -> Result<BTreeMap<String, String>> {
    let report = report::read(directory).context("a baseline says what was measured, which a suite's report knows")?;
    let mut measured = report.versions;
    measured.insert("revision".into(), report.revision);
    Ok(measured)
}

#[cfg(test)]
mod tests {
    use meshproof::host::Host;
    use meshproof::judge::{Arm, Run};
    use meshproof::report::record_tables;

    use super::*;

    const BOUNDS: &str = include_str!("../../fixtures/perf/two-arms.toml");

    /// Bounds with the gate of a baseline, and those of a further comparison.
    fn bounds() -> String {
        let plain = BOUNDS.replace("receipts", "# receipts").replace("goal", "# goal");
        let (_, other) = plain.split_once("[[comparison]]").unwrap();
        let sidecar = plain
            .replace("\"one\"", "\"sidecar\"")
            .replace("max_pairs = 10", "max_pairs = 4")
            .replace("gate = { at_most = 1.0 }", "gate_of_baseline = { at_most = 1.5 }");
        format!("{sidecar}[[comparison]]{}", other.replace("\"one\"", "\"other\""))
    }

    fn runs(directory: &Path, comparison: &str, spoil: impl Fn(&mut Run)) {
        for order in 0..8 {
            let plan = serde_json::json!({ "mode": "baseline" });
            let mut run = Run::new(comparison, order, Host::default(), plan);
            (run.started, run.duration, run.requests) = (10.0 * f64::from(order), 10.0, 1_000);
            run.measure("p99_us", if run.arm == Arm::Treatment { 2_000.0 } else { 1_000.0 }, "us");
            spoil(&mut run);
            run.record(&directory.join("runs")).unwrap();
        }
    }

    fn record(directory: &Path) -> Result<usize> {
        let bounds = directory.join("bounds.toml");
        let recording = recorded::read(directory)?;
        let judged = recorded::judge_each(directory, &recording, &bounds)?;
        record_baseline(directory, &bounds, recording, &judged)
    }

    fn place(spoil_sidecar: impl Fn(&mut Run)) -> tempfile::TempDir {
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("bounds.toml"), bounds()).unwrap();
        record_tables(place.path(), "perf", BTreeMap::new(), Vec::new(), Vec::new()).unwrap();
        runs(place.path(), "sidecar", spoil_sidecar);
        runs(place.path(), "other", |run| run.saturated = Some("late".into()));
        place
    }

    #[test]
    fn a_refused_run_of_another_comparison_does_not_keep_a_baseline_from_being_recorded() {
        assert_eq!(record(place(|_| {}).path()).unwrap(), 1);
    }

    #[test]
    fn a_refused_run_of_its_own_does() {
        let error = record(place(|run| run.saturated = Some("late".into())).path()).unwrap_err().to_string();
        assert!(error.contains("no baseline was recorded: sidecar: run 000-control is refused"), "{error}");
    }
}
