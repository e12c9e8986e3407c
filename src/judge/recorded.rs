//! Judging recorded runs again, without a cluster. The same runs and the same bounds give the same verdict.

use std::path::{Path, PathBuf};

use super::baseline::Baselines;
use super::bounds::Bounds;
use super::trial::Mode;
use super::{Comparison, Decision, Error, Judge, Recording, Result, Run};

/// Reads all runs below `directory`: a directory of runs, or a directory that contains `runs`.
///
/// # Errors
/// [`Error::Recording`]: there are no runs. [`Error::Run`]: a run is damaged.
pub fn read(directory: &Path) -> Result<Recording> {
    let failed = |reason: String| Error::Recording { directory: directory.into(), reason };
    let runs = directory.join("runs");
    let mut files = Vec::new();
    collect(if runs.is_dir() { &runs } else { directory }, &mut files).map_err(|error| failed(error.to_string()))?;
    files.sort();
    let mut recording = Recording::new();
    for file in files {
        let run = Run::read(&file)?;
        recording.entry(run.comparison.clone()).or_default().push(run);
    }
    if recording.is_empty() {
        return Err(failed("there are no recorded runs here (NNN-control.json, NNN-treatment.json)".into()));
    }
    for runs in recording.values_mut() {
        runs.sort_by_key(|run| (run.order, run.attempt));
    }
    Ok(recording)
}

/// Removes older runs of a comparison below `runs`, so that they are not mixed with the runs of a new comparison.
///
/// # Errors
/// [`Error::Recording`].
pub fn clear(runs: &Path, comparison: &str) -> Result<()> {
    let directory = runs.join(comparison);
    if !directory.is_dir() {
        return Ok(());
    }
    let remove = || -> std::io::Result<()> {
        let mut files = Vec::new();
        collect(&directory, &mut files)?;
        // A subdirectory may belong to another comparison.
        let own = files.iter().filter(|file| file.parent() == Some(&directory));
        own.into_iter().try_for_each(std::fs::remove_file)
    };
    remove().map_err(|error| Error::Recording { directory: directory.clone(), reason: error.to_string() })
}

/// Files with names of runs. A report has another name.
fn collect(directory: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() {
            collect(&path, files)?;
        } else if name.ends_with("-control.json") || name.ends_with("-treatment.json") {
            files.push(path);
        }
    }
    Ok(())
}

/// Judges the runs of one comparison.
///
/// # Errors
/// [`Error::Refused`]: a run proves nothing. [`Error::NothingCompared`]: there is no pair.
pub fn judge(runs: &[Run], judge: &mut Judge) -> Result<Vec<Comparison>> {
    for (index, run) in runs.iter().enumerate() {
        judge.push(run.clone())?;
        if let Decision::Done(comparisons) = judge.decide() {
            let left = runs.len() - index - 1;
            let note = format!("{left} more runs are recorded: by these bounds they were not needed");
            let notes = (left > 0).then_some(note);
            return judge.compared(comparisons).map(|comparisons| with_notes(comparisons, notes.as_slice()));
        }
    }
    judge.compared(judge.conclude("the recording ends before the budget"))
}

fn with_notes(mut comparisons: Vec<Comparison>, notes: &[String]) -> Vec<Comparison> {
    comparisons.iter_mut().for_each(|comparison| comparison.notes.extend_from_slice(notes));
    comparisons
}

/// The result of one recorded comparison.
#[derive(Debug)]
pub struct Judged {
    /// The comparison.
    pub id: String,
    /// Whether a gate of the comparison is relative to a baseline.
    pub has_baseline: bool,
    /// The comparison's metrics, or why judging failed.
    pub outcome: Result<Vec<Comparison>>,
}

/// Judges each recorded comparison by the bounds in the file `bounds` and the baselines beside the file, in the order
/// of the file. An error of one comparison does not stop the others.
///
/// # Errors
/// [`Error::Recording`]: a recorded comparison has no bounds. The errors of [`Bounds::load`] and [`Baselines::beside`].
pub fn judge_each(directory: &Path, recording: &Recording, bounds: &Path) -> Result<Vec<Judged>> {
    let [quick, full, baseline] =
        [Bounds::load(bounds, Mode::Quick)?, Bounds::load(bounds, Mode::Full)?, Bounds::load(bounds, Mode::Baseline)?];
    let baselines = Baselines::beside(bounds)?;
    let mut judged = Vec::new();
    for (id, runs) in recording {
        let bounds_of_mode = match runs.first().map(Run::mode).unwrap_or_default() {
            Mode::Quick => &quick,
            Mode::Full => &full,
            Mode::Baseline => &baseline,
        };
        let trial = bounds_of_mode.trial(id).ok_or_else(|| Error::Recording {
            directory: directory.into(),
            reason: format!("runs of `{id}` are recorded, for which {} has no bounds", bounds.display()),
        })?;
        let has_baseline = trial.metrics.iter().any(|metric| metric.gate_of_baseline.is_some());
        let host = runs.first().map(|run| run.host.clone()).unwrap_or_default();
        let outcome = judge(runs, &mut Judge::new(&baselines.apply(trial, &host)));
        judged.push(Judged { id: id.clone(), has_baseline, outcome });
    }
    // Keep the order of the bounds file.
    let place = |id: &str| quick.trials().iter().position(|trial| trial.id == id);
    judged.sort_by_key(|judged| place(&judged.id));
    Ok(judged)
}

/// Like [`judge_each`], but fails if any comparison cannot be judged.
///
/// # Errors
/// The errors of [`judge_each`], and the first error of a comparison.
pub fn judge_all(directory: &Path, recording: &Recording, bounds: &Path) -> Result<Vec<Comparison>> {
    let judged = judge_each(directory, recording, bounds)?;
    let comparisons: Vec<Vec<Comparison>> = judged.into_iter().map(|one| one.outcome).collect::<Result<_>>()?;
    Ok(comparisons.into_iter().flatten().collect())
}
