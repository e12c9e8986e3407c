//! Quiet while something is timed: clusters that are not under test are paused, and so are, while a run lasts, those parts of the
//! control plane of the one that is that can be spared; all of it goes on afterwards.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::scope::Scope;
use crate::testbed::record::fault;

/// The longest run that a control plane is held for: what is away for longer is missed.
const LONGEST_RUN: Duration = Duration::from_secs(15);

/// Holds every other cluster still until it is dropped. A process of its own does, and ends it when this one does,
/// however that is.
#[derive(Debug)]
pub struct Quiet {
    kept: String,
    keeper: Child,
    pipes: Mutex<Option<Pipes>>,
}

#[derive(Debug)]
struct Pipes {
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// What is held still for a run, until it is ended.
#[derive(Debug)]
pub struct Hold<'a> {
    quiet: &'a Quiet,
    /// Whether the answer has been read.
    ended: bool,
}

impl Quiet {
    /// Has every cluster but `kept` paused; `None` where the testbed does not declare that it can.
    ///
    /// # Errors
    /// [`Error::Quiesce`].
    pub fn but(scope: &Scope, kept: &str) -> Result<Option<Self>> {
        if !scope.testbed.record.declares_fault(fault::PAUSE_CLUSTER) {
            return Ok(None);
        }
        let failed = |reason: String| Error::Quiesce { kept: kept.into(), reason };
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.args(["xtask", "testbed", "quiesce", "--keep", kept]);
        command.current_dir(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| ".".into()));
        let keeper = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut keeper = keeper.map_err(|error| failed(error.to_string()))?;
        let pipes = keeper.stdin.take().zip(keeper.stdout.take());
        let pipes = pipes.map(|(input, output)| Pipes { input, output: BufReader::new(output) });
        let mut quiet = Self { kept: kept.into(), keeper, pipes: Mutex::new(pipes) };
        let said = quiet.answer()?;
        if said != "quiet" {
            let _ = quiet.keeper.kill();
            return Err(failed(format!("it said `{said}` and not that it is quiet")));
        }
        Ok(Some(quiet))
    }

    /// Has the scheduler, the controller manager and kube-proxy held still for a run of this `length` that is about to be asked
    /// for. They go on by themselves when it should have ended. `None` for runs so long that they would be missed.
    ///
    /// # Errors
    /// [`Error::Quiesce`].
    pub fn hold(&self, length: Duration) -> Result<Option<Hold<'_>>> {
        if length > LONGEST_RUN {
            return Ok(None);
        }
        self.with(|pipes| writeln!(pipes.input, "hold {}", length.as_secs_f64()))?;
        Ok(Some(Hold { quiet: self, ended: false }))
    }

    /// The keeper's next line.
    fn answer(&self) -> Result<String> {
        let mut said = String::new();
        self.with(|pipes| pipes.output.read_line(&mut said))?;
        Ok(said.trim().to_owned())
    }

    fn with<T>(&self, work: impl FnOnce(&mut Pipes) -> std::io::Result<T>) -> Result<T> {
        let failed = |reason: String| Error::Quiesce { kept: self.kept.clone(), reason };
        let mut pipes = self.pipes.lock().unwrap_or_else(PoisonError::into_inner);
        let pipes = pipes.as_mut().ok_or_else(|| failed("its process has no pipes".into()))?;
        work(pipes).map_err(|error| failed(error.to_string()))
    }
}

impl Hold<'_> {
    /// Waits until everything goes on. Returns how many processes were held still.
    ///
    /// # Errors
    /// [`Error::Quiesce`] with what the keeper said.
    pub fn end(mut self) -> Result<u32> {
        self.ended = true;
        let said = self.quiet.answer()?;
        let held = said.strip_prefix("held ").and_then(|number| number.parse().ok());
        held.ok_or_else(|| Error::Quiesce { kept: self.quiet.kept.clone(), reason: said })
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        if !self.ended {
            // The answer to this one is not to be taken for the next one's.
            let _ = self.quiet.answer();
        }
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // The end of its input tells it to let the clusters go on.
        drop(self.pipes.lock().unwrap_or_else(PoisonError::into_inner).take());
        let _ = self.keeper.wait();
    }
}
