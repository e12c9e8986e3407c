//! Quiet while something is timed: clusters that are not under test are paused, and those parts of the control plane of the one that
//! is that can be spared; all go on afterwards.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use crate::error::{Error, Result};
use crate::scope::Scope;
use crate::testbed::record::{Record, fault};

/// Holds clusters still until it is dropped. A process of its own does, and ends it when this one does,
/// however that is.
#[derive(Debug)]
pub struct Quiet {
    keeper: Child,
}

impl Quiet {
    /// Has every cluster but `kept` paused, and of that one the scheduler, the controller manager and kube-proxy; `None` where the
    /// testbed does not declare that it can.
    ///
    /// # Errors
    /// [`Error::Quiesce`].
    pub fn but(scope: &Scope, kept: &str) -> Result<Option<Self>> {
        Self::begin(&scope.testbed.record, Some(kept))
    }

    /// Has every cluster paused; `None` where the testbed does not declare that it can.
    ///
    /// # Errors
    /// [`Error::Quiesce`].
    pub fn all(record: &Record) -> Result<Option<Self>> {
        Self::begin(record, None)
    }

    fn begin(record: &Record, kept: Option<&str>) -> Result<Option<Self>> {
        if !record.declares_fault(fault::PAUSE_CLUSTER) {
            return Ok(None);
        }
        let which = || kept.map_or("the clusters".into(), |kept| format!("all clusters but {kept}"));
        let failed = |reason: String| Error::Quiesce { which: which(), reason };
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.args(["xtask", "testbed", "quiesce"]);
        command.args(kept.iter().flat_map(|kept| ["--keep", kept]));
        command.current_dir(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| ".".into()));
        let keeper = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut keeper = keeper.map_err(|error| failed(error.to_string()))?;
        let mut said = String::new();
        if let Some(output) = keeper.stdout.take() {
            BufReader::new(output).read_line(&mut said).map_err(|error| failed(error.to_string()))?;
        }
        if said.trim() != "quiet" {
            let _ = keeper.kill();
            return Err(failed(format!("it said `{}` and not that it is quiet", said.trim())));
        }
        Ok(Some(Self { keeper }))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // The end of its input tells it to let the clusters go on.
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}
