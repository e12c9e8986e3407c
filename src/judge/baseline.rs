//! `fixtures/perf/baselines.json`: previously measured ratios, for bounds relative to them.
//!
//! The cost of a sidecar depends on the machine. A baseline holds for one kind of machine. On other kinds, the bound
//! states that there is no baseline. `cargo xtask judge DIR --record-baseline` writes a baseline from runs of
//! [`Mode::Baseline`]. A baseline of fewer pairs is too coarse for a gate that is a multiple of it (12 pairs: 1.3
//! instead of 2.1 to 2.4).

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::bounds::Bounds;
use super::limit::Verdict;
use super::trial::{MODE_VARIABLE, Mode, Trial};
use super::{Comparison, Recording, Run};
use crate::host::Host;
use crate::judge::{Error, Result};

/// Schema identifier in the file.
pub const SCHEMA: &str = "meshproof.baselines/v1";

/// All baselines, one per kind of machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baselines {
    schema: String,
    baselines: Vec<Baseline>,
}

/// The measurements on one kind of machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Baseline {
    /// A machine of this kind.
    host: Host,
    /// Versions of what was measured: meshproof's revision, and the versions of mesh and clusters.
    measured: BTreeMap<String, String>,
    /// Ratios by comparison and metric.
    ratios: BTreeMap<String, BTreeMap<String, Ratio>>,
}

/// The ratio of one metric.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ratio {
    /// Treatment over control.
    ratio: f64,
    /// 95 % interval of the ratio.
    ci95: [f64; 2],
    /// Number of pairs.
    pairs: usize,
}

impl Default for Baselines {
    fn default() -> Self {
        Self { schema: SCHEMA.into(), baselines: Vec::new() }
    }
}

impl Baselines {
    /// Reads the baselines in the directory of the bounds file `bounds`. Empty if there is no baselines file.
    ///
    /// # Errors
    /// [`Error::Baseline`]: the file cannot be read, or contains an impossible ratio.
    pub fn beside(bounds: &Path) -> Result<Self> {
        let path = bounds.with_file_name("baselines.json");
        let failed = |reason: String| Error::Baseline { path: path.clone(), reason };
        let text = match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            text => text.map_err(|error| failed(error.to_string()))?,
        };
        let baselines: Self = serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(&text))
            .map_err(|error| {
                let field = error.path().to_string();
                failed(format!("`{field}`: {}", error.into_inner()))
            })?;
        if baselines.schema != SCHEMA {
            return Err(failed(format!("`schema`: `{}` is not `{SCHEMA}`", baselines.schema)));
        }
        for baseline in &baselines.baselines {
            for (id, metrics) in &baseline.ratios {
                for (metric, Ratio { ratio, ci95: [low, high], .. }) in metrics {
                    if !(*ratio > 0.0 && ratio.is_finite() && low <= ratio && ratio <= high) {
                        return Err(failed(format!("`{id} {metric}`: {ratio} ({low} to {high}) is no measured ratio")));
                    }
                }
            }
        }
        Ok(baselines)
    }

    /// `trial` for judging on `host`. A gate relative to a baseline becomes an absolute gate, or no gate if there is no
    /// baseline for this kind of machine. Without a gate, the bound states the reason.
    pub fn apply(&self, trial: &Trial, host: &Host) -> Trial {
        let mut trial = trial.clone();
        let baseline = self.baselines.iter().find(|baseline| baseline.host.is_of_a_kind_with(host));
        // A new baseline is not judged by the baseline that it replaces.
        let baseline = baseline.filter(|_| trial.plan.mode != Mode::Baseline);
        for metric in &mut trial.metrics {
            let Some(relative) = metric.gate_of_baseline else { continue };
            let known = baseline.and_then(|baseline| {
                let ratio = baseline.ratios.get(&trial.id)?.get(&metric.name)?;
                Some((ratio, baseline.measured.get("revision").map_or("unknown", String::as_str)))
            });
            if let Some((recorded, revision)) = known {
                metric.gate = Some(relative.scaled(recorded.ratio));
                metric.expect = Verdict::Pass;
                metric.source = format!(
                    "{} times the {:.3} ({:.3} to {:.3}) recorded at {revision} on such a machine: {}",
                    relative.ratio(),
                    recorded.ratio,
                    recorded.ci95[0],
                    recorded.ci95[1],
                    metric.source
                );
            } else if trial.plan.mode == Mode::Baseline {
                metric.source = format!("recorded, not judged: {}", metric.source);
            } else {
                metric.source = format!(
                    "machines of this kind have no baseline of it (`cargo xtask judge DIR --record-baseline`): {}",
                    metric.source
                );
            }
        }
        trial
    }

    /// Stores the judged ratios of `recording` that relative bounds in the file `bounds` refer to, and writes the file.
    /// Replaces the baseline for the same kind of machine. `measured` holds the versions. Returns the number of ratios.
    ///
    /// # Errors
    /// [`Error::Baseline`]: no ratio is referred to, the runs are from several machines, or the file cannot be written.
    pub fn record(
        mut self,
        bounds: &Path,
        recording: &Recording,
        comparisons: &[Comparison],
        measured: BTreeMap<String, String>,
    ) -> Result<usize> {
        let path = bounds.with_file_name("baselines.json");
        let failed = |reason: String| Error::Baseline { path: path.clone(), reason };
        let trials = Bounds::load(bounds, Mode::Baseline)?;
        let mut ratios = BTreeMap::<String, BTreeMap<String, Ratio>>::new();
        let mut host: Option<Host> = None;
        for (id, runs) in recording {
            let Some(trial) = trials.trial(id) else { continue };
            for metric in trial.metrics.iter().filter(|metric| metric.gate_of_baseline.is_some()) {
                let Some(seen) = comparisons.iter().find(|seen| seen.id == *id && seen.metric == metric.name) else {
                    continue;
                };
                if let Some(undecided) = &seen.undecided {
                    return Err(failed(format!("{} is no baseline: {undecided}", seen.key())));
                }
                let [Some(low), Some(high)] = seen.ci95 else {
                    return Err(failed(format!("{} has too few pairs for an interval", seen.key())));
                };
                let needed = trial.budget.min_pairs;
                let mode = runs.first().map(Run::mode).unwrap_or_default();
                if mode != Mode::Baseline || seen.pairs < needed {
                    let (key, mode) = (seen.key(), mode.name());
                    return Err(failed(format!(
                        "{key} was measured in mode {mode}, with {} pairs, and what others are judged by is in mode baseline, with \
                         {needed}: {MODE_VARIABLE}=baseline cargo test --test perf overhead",
                        seen.pairs,
                    )));
                }
                let ratio = Ratio { ratio: seen.ratio, ci95: [low, high], pairs: seen.pairs };
                ratios.entry(id.clone()).or_default().insert(metric.name.clone(), ratio);
            }
            let Some(run) = runs.first().filter(|_| ratios.contains_key(id)) else { continue };
            match &host {
                Some(known) if !known.is_of_a_kind_with(&run.host) => {
                    let differences = known.differences(&run.host).join(", ");
                    return Err(failed(format!("runs of `{id}` are of another machine than others: {differences}")));
                }
                _ => host = Some(Host { steal: None, ..run.host.clone() }),
            }
        }
        let Some(host) = host else {
            return Err(failed("nothing was recorded that a bound is relative to".into()));
        };
        let count = ratios.values().map(BTreeMap::len).sum();
        self.baselines.retain(|baseline| !baseline.host.is_of_a_kind_with(&host));
        self.baselines.push(Baseline { host, measured, ratios });
        let json = serde_json::to_string_pretty(&self).map_err(|error| failed(error.to_string()))?;
        let partial = path.with_extension("partial");
        let written = std::fs::write(&partial, json + "\n").and_then(|()| std::fs::rename(&partial, &path));
        written.map_err(|error| failed(error.to_string()))?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::tests::{BOUNDS, run};
    use crate::judge::{Limit, recorded};

    /// Bounds whose gate is relative to a baseline.
    fn relative() -> String {
        let absolute = "gate = { at_most = 1.0 }\ngoal = { at_most = 0.88 }";
        assert!(BOUNDS.contains(absolute), "{BOUNDS}");
        BOUNDS.replace(absolute, "gate_of_baseline = { at_most = 1.25 }")
    }

    /// Bounds in a directory, and runs for a baseline. Treatment runs take `effect` times as long. The machines have
    /// the kernel release `kernel`.
    fn recorded(effect: f64, kernel: &str) -> (tempfile::TempDir, Recording) {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("bounds.toml"), relative()).unwrap();
        let runs: Vec<Run> = (0..20)
            .map(|order| {
                let treated = crate::judge::arm(order) == crate::judge::Arm::Treatment;
                let mut run = run(order, 1_000.0 * if treated { effect } else { 1.0 });
                run.host.kernel = kernel.into();
                run.plan["mode"] = "baseline".into();
                run
            })
            .collect();
        (directory, Recording::from([("one".to_owned(), runs)]))
    }

    /// The same runs, as measured in quick mode.
    fn quick(recording: &Recording) -> Recording {
        let mut recording = recording.clone();
        recording.values_mut().flatten().for_each(|run| run.plan["mode"] = "quick".into());
        recording
    }

    fn judged(directory: &Path, recording: &Recording) -> Vec<Comparison> {
        recorded::judge_all(directory, recording, &directory.join("bounds.toml")).unwrap()
    }

    fn record(directory: &Path, recording: &Recording) -> Result<usize> {
        let bounds = directory.join("bounds.toml");
        let measured = BTreeMap::from([("revision".to_owned(), "abc".to_owned())]);
        Baselines::beside(&bounds)?.record(&bounds, recording, &judged(directory, recording), measured)
    }

    #[test]
    fn what_costs_more_than_the_baseline_allows_is_regressed_and_the_baseline_itself_passes() {
        let (directory, recording) = recorded(2.0, "6.1");
        let before = judged(directory.path(), &quick(&recording)).remove(0);
        assert_eq!(before.verdict, Verdict::Reported);
        assert!(before.bound.source.contains("have no baseline"), "{}", before.bound.source);
        assert_eq!(record(directory.path(), &recording).unwrap(), 1);
        let again = &judged(directory.path(), &quick(&recording))[0];
        assert_eq!((again.verdict, again.bound.gate), (Verdict::Pass, Some(Limit::AtMost(2.5))));
        assert!(again.bound.source.contains("recorded at abc on such a machine: here"), "{}", again.bound.source);
        let (_, slower) = recorded(3.0, "6.1");
        let next = &judged(directory.path(), &slower)[0];
        assert_eq!(
            (next.verdict, next.bound.gate),
            (Verdict::Reported, None),
            "the next baseline is not judged by the last"
        );
        let slower = &judged(directory.path(), &quick(&slower))[0];
        assert_eq!((slower.verdict, slower.holds), (Verdict::Regressed, false));
    }

    #[test]
    fn another_kind_of_machine_has_no_baseline_and_says_so_until_it_is_recorded_beside_the_first() {
        let (directory, recording) = recorded(2.0, "6.1");
        record(directory.path(), &recording).unwrap();
        let (_, other) = recorded(9.0, "6.2");
        let seen = &judged(directory.path(), &quick(&other))[0];
        assert_eq!((seen.verdict, seen.bound.gate), (Verdict::Reported, None));
        assert!(seen.bound.source.contains("have no baseline"), "{}", seen.bound.source);
        record(directory.path(), &other).unwrap();
        let gate = |recording: &Recording| judged(directory.path(), &quick(recording))[0].bound.gate.unwrap().ratio();
        assert!((gate(&other) - 9.0 * 1.25).abs() < 1e-9 && (gate(&recording) - 2.0 * 1.25).abs() < 1e-9);
    }

    #[test]
    fn a_damaged_file_is_refused_with_its_field() {
        let (directory, recording) = recorded(2.0, "6.1");
        record(directory.path(), &recording).unwrap();
        let path = directory.path().join("baselines.json");
        let good = std::fs::read_to_string(&path).unwrap();
        for (from, to, reason) in [
            ("baselines/v1", "baselines/v9", "`schema`: `meshproof.baselines/v9`"),
            ("\"ratio\": 2.0", "\"ratio\": -2.0", "`one p99_us`: -2"),
            ("\"pairs\": 10", "\"pairs\": \"10\"", "ratios.one.p99_us.pairs"),
            ("\"pairs\"", "\"pears\"", "unknown field `pears`"),
        ] {
            assert!(good.contains(from), "{from} in {good}");
            std::fs::write(&path, good.replacen(from, to, 1)).unwrap();
            let error = Baselines::beside(&directory.path().join("bounds.toml")).unwrap_err().to_string();
            assert!(error.contains("baselines.json") && error.contains(reason), "{error}");
        }
    }

    #[test]
    fn what_a_pull_request_measures_and_what_has_too_few_pairs_is_no_baseline() {
        let (directory, recording) = recorded(2.0, "6.1");
        let bounds = relative()
            .replace("[full]", "[full]\n[baseline]\nbudget = { min_pairs = 12, max_pairs = 12, seconds = 1000 }");
        std::fs::write(directory.path().join("bounds.toml"), bounds).unwrap();
        let few = record(directory.path(), &recording).unwrap_err().to_string();
        assert!(
            few.contains("in mode baseline, with 10 pairs") && few.contains("with 12: MESHPROOF_PERF=baseline"),
            "{few}"
        );
        std::fs::write(directory.path().join("bounds.toml"), relative()).unwrap();
        let other = record(directory.path(), &quick(&recording)).unwrap_err().to_string();
        assert!(other.contains("one p99_us was measured in mode quick"), "{other}");
        assert!(!directory.path().join("baselines.json").exists());
    }

    #[test]
    fn runs_of_nothing_that_a_bound_is_relative_to_are_no_baseline() {
        let (directory, recording) = recorded(2.0, "6.1");
        std::fs::write(directory.path().join("bounds.toml"), BOUNDS).unwrap();
        let error = record(directory.path(), &recording).unwrap_err().to_string();
        assert!(error.contains("nothing was recorded that a bound is relative to"), "{error}");
    }
}
