//! Quiet while something is timed: clusters that are not under test are paused, and of the one that is, what can be spared; all go on
//! afterwards.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::oneshot;

use crate::cluster::Input;
use crate::compare::{Error, Result};
use crate::record::{Record, fault};
use crate::scope::Scope;

/// Holds clusters still until it is dropped. A process of its own does, and ends it when this one does,
/// however that is.
#[derive(Debug)]
pub struct Quiet {
    keeper: Child,
    ends: Arc<Mutex<Ends>>,
    which: String,
}

/// Of the keeper.
#[derive(Debug)]
struct Ends {
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Ends {
    fn hear(&mut self) -> std::io::Result<String> {
        let mut said = String::new();
        self.output.read_line(&mut said)?;
        Ok(said.trim().to_owned())
    }

    /// As the keeper does when it is told so; when it began and ended.
    fn hold(&mut self, length: Duration) -> std::io::Result<Span> {
        let Some(input) = self.input.as_mut() else { return Err(std::io::ErrorKind::BrokenPipe.into()) };
        writeln!(input, "{}", length.as_secs_f64())?;
        let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let said = self.hear()?;
        let from = now();
        let processes = said.strip_prefix("held ").and_then(|count| count.parse::<u32>().ok());
        if processes.is_none_or(|processes| processes == 0) {
            return Err(std::io::Error::other(format!("it said `{said}` and not how many processes it holds")));
        }
        match self.hear()?.as_str() {
            "over" => Ok(Span { from, to: now() }),
            said => Err(std::io::Error::other(format!("it said `{said}` and not that it is over"))),
        }
    }
}

/// From when to when, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    /// Its beginning.
    pub from: f64,
    /// Its end.
    pub to: f64,
}

impl Span {
    /// The share of this that lies in `other`, from 0 to 1.
    #[must_use]
    pub fn within(self, other: Self) -> f64 {
        let common = self.to.min(other.to) - self.from.max(other.from);
        let share = common / (self.to - self.from);
        // Nothing has no share in anything.
        if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 }
    }
}

impl Quiet {
    /// Longest that a whole cluster is held at a time. A node that was not heard of for 40 s is taken for lost.
    pub const LONGEST: Duration = Duration::from_secs(15);

    /// Has every cluster but `kept` paused, and of that one the scheduler, the controller manager and kube-proxy; `None` where the
    /// testbed does not declare that it can.
    ///
    /// # Errors
    /// [`Error::Quiesce`].
    pub fn but(scope: &Scope, kept: &str) -> Result<Option<Self>> {
        Self::begin(&scope.testbed.record, Some(kept), &[])
    }

    /// Has every cluster but `kept` paused, and lets [`hold`](Self::hold) all of that one but the pods that these `namespaces` have
    /// now; `None` where the testbed does not declare that it can.
    ///
    /// # Errors
    /// [`Error::Quiesce`].
    pub fn sparing(scope: &Scope, kept: &str, namespaces: &[&str]) -> Result<Option<Self>> {
        Self::begin(&scope.testbed.record, Some(kept), namespaces)
    }

    /// Has every cluster paused; `None` where the testbed does not declare that it can.
    ///
    /// # Errors
    /// [`Error::Quiesce`].
    pub fn all(record: &Record) -> Result<Option<Self>> {
        Self::begin(record, None, &[])
    }

    /// Holds, for `length`, all of the kept cluster but what is [spared](Self::sparing): its API server as well, so nothing
    /// can be asked of the cluster until then, and commands in pods are heard of after it. The time in which it was so is returned.
    ///
    /// # Errors
    /// [`Error::Quiesce`], also for more than [`Self::LONGEST`], and where there was nothing to hold.
    pub async fn hold(&self, length: Duration) -> Result<Span> {
        let failed = |reason: String| Error::Quiesce { which: self.which.clone(), reason };
        if length > Self::LONGEST {
            return Err(failed(format!(
                "{length:?} is longer than the {:?} that a node may be silent for",
                Self::LONGEST
            )));
        }
        let ends = Arc::clone(&self.ends);
        let held = tokio::task::spawn_blocking(move || lock(&ends).hold(length)).await;
        held.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))
    }

    fn begin(record: &Record, kept: Option<&str>, spared: &[&str]) -> Result<Option<Self>> {
        let Some(declared) = record.capabilities.fault(fault::PAUSE_CLUSTER) else { return Ok(None) };
        let which = kept.map_or("the clusters".into(), |kept| format!("all clusters but {kept}"));
        let failed = |reason: String| Error::Quiesce { which: which.clone(), reason };
        let mut command = Command::new(&declared.program);
        command.args(&declared.arguments);
        command.args(kept.iter().flat_map(|kept| ["--keep", kept]));
        command.args(spared.iter().flat_map(|namespace| ["--spare", namespace]));
        let keeper = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut keeper = keeper.map_err(|error| failed(error.to_string()))?;
        let output = keeper.stdout.take().ok_or_else(|| failed("it has no output".into()))?;
        let mut ends = Ends { input: keeper.stdin.take(), output: BufReader::new(output) };
        let said = ends.hear().map_err(|error| failed(error.to_string()))?;
        if said != "quiet" {
            let _ = keeper.kill();
            return Err(failed(format!("it said `{said}` and not that it is quiet")));
        }
        Ok(Some(Self { keeper, ends: Arc::new(Mutex::new(ends)), which }))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // The end of its input tells it to let the clusters go on.
        drop(lock(&self.ends).input.take());
        let _ = self.keeper.wait();
    }
}

/// Has `quiet` hold the rest of the cluster while a generator makes load for `length`, from when it says on its standard error that it
/// begins: before, it has to be reached, and to be answered by DNS, and that is held as well. The generator has to keep what it
/// prints until its input ends, which is when all go on: what a command prints while the kubelet is held can be lost.
pub(super) async fn held<T>(
    quiet: Option<&Quiet>,
    length: Duration,
    generator: impl AsyncFnOnce(Input<'static>) -> Result<T>,
) -> Result<(T, Option<Span>)> {
    let holding = async || match quiet {
        Some(quiet) => quiet.hold(length).await.map(Some),
        None => Ok(None),
    };
    until_over(holding, generator).await
}

/// A generator, and `holding` once that has begun; the generator's input ends when `holding` has. What ends without having said that
/// it began is not held for.
async fn until_over<T, H>(
    holding: impl AsyncFnOnce() -> Result<Option<H>>,
    generator: impl AsyncFnOnce(Input<'static>) -> Result<T>,
) -> Result<(T, Option<H>)> {
    let (keep, over) = oneshot::channel();
    let (begun, told) = oneshot::channel();
    let holding = async move {
        let held = if told.await.is_ok() { holding().await } else { Ok(None) };
        drop(keep);
        held
    };
    futures::try_join!(generator(Input::Until { over, begun }), holding)
}

fn lock(ends: &Mutex<Ends>) -> std::sync::MutexGuard<'_, Ends> {
    ends.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use rstest::rstest;

    use super::*;

    #[tokio::test]
    async fn a_hold_begins_when_a_generator_says_so_and_its_input_ends_after_the_hold() {
        let (says, held) = (Cell::new(false), Cell::new(false));
        let holding = async || {
            assert!(says.get(), "it has not begun");
            // The other one is asked in between.
            tokio::task::yield_now().await;
            held.set(true);
            Ok(Some(()))
        };
        let generator = async |input| {
            let Input::Until { over, begun } = input else { return Ok(false) };
            tokio::task::yield_now().await;
            says.set(true);
            let _ = begun.send(());
            let _ = over.await;
            Ok(held.get())
        };
        assert_eq!(until_over(holding, generator).await.unwrap(), (true, Some(())));
    }

    #[tokio::test]
    async fn what_ends_without_having_begun_is_not_held_for() {
        let silent = async |input| {
            drop(input);
            Ok(())
        };
        let holding = async || -> Result<Option<()>> { panic!("nothing has begun") };
        assert_eq!(until_over(holding, silent).await.unwrap(), ((), None));
    }

    #[rstest]
    #[case::all((1.0, 4.0), 1.0)]
    #[case::its_first_quarter((0.0, 1.5), 0.25)]
    #[case::its_second_half((2.0, 9.0), 0.5)]
    #[case::nothing((4.0, 5.0), 0.0)]
    fn a_share_is_of_what_is_common(#[case] (from, to): (f64, f64), #[case] share: f64) {
        assert_eq!(Span { from: 1.0, to: 3.0 }.within(Span { from, to }), share);
        assert_eq!(Span { from: 1.0, to: 1.0 }.within(Span { from, to }), 0.0, "of nothing");
    }
}
