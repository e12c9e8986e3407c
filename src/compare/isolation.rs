//! Isolation of a measurement: clusters that are not under test are paused. In the cluster under test, pods that do not
//! take part are frozen.

mod protocol;

use std::io::BufReader;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::oneshot;

use crate::cluster::Input;
use crate::compare::{Error, Result};
use crate::record::{Record, fault};
use crate::scope::MeshLock;

pub use protocol::{Event, Extent, Freeze, LONGEST_FREEZE, receive, send};

/// Keeps clusters paused until drop. A separate command pauses them, and resumes them when this process ends, even by a
/// crash.
#[derive(Debug)]
pub struct Isolation {
    process: Child,
    pipes: Arc<Mutex<Pipes>>,
    extent: Extent,
}

/// The command's standard input and output.
#[derive(Debug)]
struct Pipes {
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Pipes {
    fn next(&mut self) -> std::io::Result<Event> {
        receive(&mut self.output)?.ok_or_else(|| std::io::Error::other("the command ended"))
    }

    /// Requests a freeze. Returns its start and end.
    fn freeze(&mut self, length: Duration) -> std::io::Result<Span> {
        let input = self.input.as_mut().ok_or(std::io::ErrorKind::BrokenPipe)?;
        send(&Freeze { seconds: length.as_secs_f64() }, input)?;
        let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let event = self.next()?;
        let from = now();
        match event {
            Event::Frozen { processes } if processes > 0 => {}
            other => return Err(std::io::Error::other(format!("nothing was frozen: the command said {other:?}"))),
        }
        match self.next()? {
            Event::Thawed => Ok(Span { from, to: now() }),
            other => Err(std::io::Error::other(format!("the freeze did not end: the command said {other:?}"))),
        }
    }
}

/// A period of time, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    /// Start.
    pub from: f64,
    /// End.
    pub to: f64,
}

impl Span {
    /// The share of this span that lies in `other`, from 0 to 1.
    #[must_use]
    pub fn within(self, other: Self) -> f64 {
        let common = self.to.min(other.to) - self.from.max(other.from);
        let share = common / (self.to - self.from);
        // An empty span has the share 0.
        if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 }
    }
}

impl Isolation {
    /// Pauses `extent`, for whoever has the mesh alone. `None` if the record does not declare the fault
    /// [`PAUSE_CLUSTER`](fault::PAUSE_CLUSTER).
    ///
    /// # Errors
    /// [`Error::Isolation`]. [`Shares`](crate::scope::Error::Shares): others share the mesh.
    pub fn begin(record: &Record, extent: Extent, lock: &MeshLock) -> Result<Option<Self>> {
        lock.permits("pausing clusters")?;
        let Some(mut command) = command(record) else { return Ok(None) };
        let mut begin = || -> std::io::Result<(Child, Pipes)> {
            let mut process = command.args(extent.arguments()).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
            let output = process.stdout.take().ok_or(std::io::ErrorKind::BrokenPipe)?;
            let mut pipes = Pipes { input: process.stdin.take(), output: BufReader::new(output) };
            let reason = match pipes.next() {
                Ok(Event::Paused) => return Ok((process, pipes)),
                Ok(other) => format!("the command said {other:?}, and not that it has paused them"),
                Err(error) => error.to_string(),
            };
            // The end of the command's input resumes everything.
            drop(pipes);
            let _ = process.wait();
            Err(std::io::Error::other(reason))
        };
        let (process, pipes) = begin().map_err(|error| failed(&extent, &error))?;
        Ok(Some(Self { process, pipes: Arc::new(Mutex::new(pipes)), extent }))
    }

    /// Freezes, for `length`, everything that [`Extent::AllButNamespaces`] does not spare. During a freeze the cluster
    /// answers no request, and the output of commands in pods is delayed until its end. Returns the time of the freeze.
    ///
    /// # Errors
    /// [`Error::Isolation`], also if `length` exceeds [`LONGEST_FREEZE`] or there is nothing to freeze.
    pub async fn freeze(&self, length: Duration) -> Result<Span> {
        if length > LONGEST_FREEZE {
            let reason = format!("{length:?} is longer than the {LONGEST_FREEZE:?} that a node may be silent for");
            return Err(failed(&self.extent, &std::io::Error::other(reason)));
        }
        let pipes = Arc::clone(&self.pipes);
        let frozen = tokio::task::spawn_blocking(move || lock(&pipes).freeze(length)).await;
        frozen.map_err(std::io::Error::other).flatten().map_err(|error| failed(&self.extent, &error))
    }
}

impl Drop for Isolation {
    fn drop(&mut self) {
        // The end of the command's input resumes the clusters.
        drop(lock(&self.pipes).input.take());
        let _ = self.process.wait();
    }
}

/// The command that pauses clusters, if the record declares one.
fn command(record: &Record) -> Option<Command> {
    let declared = record.capabilities.fault(fault::PAUSE_CLUSTER)?;
    let mut command = Command::new(&declared.program);
    command.args(&declared.arguments);
    Some(command)
}

fn failed(extent: &Extent, error: &std::io::Error) -> Error {
    let which = match extent {
        Extent::AllClusters => "the clusters".into(),
        Extent::OtherClusters { except } | Extent::AllButNamespaces { except, .. } => {
            format!("all clusters but {except}")
        }
    };
    Error::Isolation { which, reason: error.to_string() }
}

/// Runs `generator`, and freezes the rest of the cluster for `length` once the generator prints its start line. Before
/// the start line, the generator needs DNS and the API server. The generator must hold its output back until its input
/// ends, at the end of the freeze: output printed while the kubelet is frozen can be lost.
pub(super) async fn frozen<T>(
    isolation: Option<&Isolation>,
    length: Duration,
    generator: impl AsyncFnOnce(Input<'static>) -> Result<T>,
) -> Result<(T, Option<Span>)> {
    let freeze = async || match isolation {
        Some(isolation) => isolation.freeze(length).await.map(Some),
        None => Ok(None),
    };
    with_input_until(freeze, generator).await
}

/// Runs `generator`, then `freeze` once the generator has begun. The generator's input ends when `freeze` ends. Skips
/// `freeze` if the generator ends before it has begun.
async fn with_input_until<T, F>(
    freeze: impl AsyncFnOnce() -> Result<Option<F>>,
    generator: impl AsyncFnOnce(Input<'static>) -> Result<T>,
) -> Result<(T, Option<F>)> {
    let (keep_open, over) = oneshot::channel();
    let (begun, has_begun) = oneshot::channel();
    let freeze = async move {
        let frozen = if has_begun.await.is_ok() { freeze().await } else { Ok(None) };
        drop(keep_open);
        frozen
    };
    futures::try_join!(generator(Input::Until { over, begun }), freeze)
}

fn lock(pipes: &Mutex<Pipes>) -> std::sync::MutexGuard<'_, Pipes> {
    pipes.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
