//! Progress of a command. On a terminal, shows a line for each running step. Elsewhere, prints a line for each finished
//! step.

use std::cell::Cell;
use std::future::Future;
use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use tracing::Instrument;

/// Scope of steps that do not belong to a single cluster.
const ALL: &str = "testbed";

tokio::task_local! {
    static CURRENT: Cell<Counters>;
}

/// A finished step.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Step {
    /// Its name.
    pub name: String,
    /// The cluster that it was for. `None`: all.
    pub cluster: Option<String>,
    /// Start of the step, in seconds after the start of the command.
    pub start_s: f64,
    /// Its length, in seconds.
    pub seconds: f64,
    /// Number of programs run and objects written.
    pub commands: u32,
    /// Whether the result already existed.
    pub cached: bool,
}

#[derive(Clone, Copy, Default)]
struct Counters {
    commands: u32,
    /// Parts whose result already existed.
    found: u32,
    /// Parts that had to be made.
    made: u32,
}

/// Counts one command or API write for the running step.
pub fn count_command() {
    update(|counters| counters.commands += 1);
}

/// Records that the running step found its result, or part of the result.
pub fn mark_cached() {
    update(|counters| counters.found += 1);
}

/// Records that the running step had to make part of its result. The step does not count as cached then.
pub fn mark_made() {
    update(|counters| counters.made += 1);
}

fn update(change: impl FnOnce(&mut Counters)) {
    let _ = CURRENT.try_with(|cell| {
        let mut counters = cell.get();
        change(&mut counters);
        cell.set(counters);
    });
}

/// Shows and records steps.
#[derive(Debug)]
pub struct Progress {
    started: Instant,
    terminal: Option<MultiProgress>,
    steps: Mutex<Vec<Step>>,
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl Progress {
    /// Nothing is done yet. Draws on a terminal, and prints lines elsewhere and under `CI`.
    pub fn new() -> Self {
        let interactive = std::io::stderr().is_terminal() && std::env::var_os("CI").is_none();
        Self { started: Instant::now(), terminal: interactive.then(MultiProgress::new), steps: Mutex::default() }
    }

    /// Time since the command began.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// All finished steps, in the order in which they started.
    pub fn steps(&self) -> Vec<Step> {
        let mut steps = self.steps.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        steps.sort_by(|a, b| a.start_s.total_cmp(&b.start_s));
        steps
    }

    /// Prints a separate line.
    pub fn say(&self, line: impl AsRef<str>) {
        match &self.terminal {
            Some(terminal) => {
                let _ = terminal.println(line);
            }
            None => eprintln!("{}", line.as_ref()),
        }
    }

    /// Runs and records one step of the work for `cluster`, or for all clusters.
    ///
    /// # Errors
    /// Fails if `work` fails. The error starts with the step's name.
    pub async fn step<T>(&self, cluster: Option<&str>, name: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
        let scope = cluster.unwrap_or(ALL);
        let bar = self.terminal.as_ref().map(|terminal| {
            let style = ProgressStyle::with_template("{prefix:>10.bold} {spinner} {msg} {elapsed:.dim}")
                .expect("the template is a constant");
            let bar = terminal.add(ProgressBar::new_spinner().with_style(style));
            bar.set_prefix(scope.to_owned());
            bar.set_message(name.to_owned());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        let start = self.started.elapsed();
        let span = tracing::info_span!("step", of = scope, name);
        let (result, counters) = CURRENT
            .scope(Cell::default(), async {
                let result = work.await;
                (result, CURRENT.with(Cell::get))
            })
            .instrument(span)
            .await;
        let seconds = (self.started.elapsed() - start).as_secs_f64();
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
        let value = result.map_err(|error| {
            let is_named = |cluster: &&str| error.to_string().starts_with(&format!("{cluster}: "));
            let context = match cluster.filter(|cluster| !is_named(cluster)) {
                Some(cluster) => format!("step `{name}` of {cluster} failed"),
                None => format!("step `{name}` failed"),
            };
            error.context(context)
        })?;
        let cached = counters.found > 0 && counters.made == 0;
        let note = if cached { "  (already there)" } else { "" };
        self.say(format!("{scope:>10}  {name:<44} {seconds:6.1} s{note}"));
        self.steps.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(Step {
            name: name.to_owned(),
            cluster: cluster.map(str::to_owned),
            start_s: start.as_secs_f64(),
            seconds,
            commands: counters.commands,
            cached,
        });
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_step_is_recorded_with_its_commands_and_whether_it_was_cached() {
        let progress = Progress::new();
        progress
            .step(Some("cluster1"), "first", async {
                count_command();
                count_command();
                Ok(())
            })
            .await
            .unwrap();
        progress
            .step(None, "second", async {
                mark_cached();
                Ok(())
            })
            .await
            .unwrap();
        progress
            .step(None, "third", async {
                mark_cached();
                mark_made();
                Ok(())
            })
            .await
            .unwrap();
        let steps = progress.steps();
        assert_eq!((steps[2].commands, steps[2].cached), (0, false), "part of it was made");
        assert_eq!((steps[0].commands, steps[0].cached), (2, false));
        assert_eq!((steps[1].commands, steps[1].cached), (0, true));
    }

    #[tokio::test]
    async fn a_failed_step_is_named_with_its_cluster() {
        let progress = Progress::new();
        let failed: Result<()> = progress.step(Some("cluster2"), "kubeadm", async { anyhow::bail!("boom") }).await;
        assert_eq!(format!("{:#}", failed.unwrap_err()), "step `kubeadm` of cluster2 failed: boom");
        let named: Result<()> =
            progress.step(Some("cluster2"), "read", async { anyhow::bail!("cluster2: boom") }).await;
        assert_eq!(
            format!("{:#}", named.unwrap_err()),
            "step `read` failed: cluster2: boom",
            "the cluster stands once"
        );
        assert!(progress.steps().is_empty());
    }
}
