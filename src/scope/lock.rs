//! The lock of a mesh on this machine: a test that changes what others rely on has the mesh alone, all others share it.

mod holders;
mod patience;
mod sharing;

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, interval_at};

use super::error::{Error, Result};
use holders::Holder;
use patience::Patience;
pub(super) use sharing::Sharing;

/// Lock file in the testbed's directory. Shared, or held by one.
const FILE: &str = "mesh.lock";

/// Time between looks at who holds the lock.
const LOOK: Duration = Duration::from_secs(4);

/// A hold on the mesh, against all processes of this machine that judge it by the same record. Ends on drop. The kernel
/// ends the hold of a process that is killed.
///
/// Whoever needs the mesh alone waits until nobody shares it, also for those who came later: for as long as suites that
/// share the mesh follow each other without a gap. A test that waits keeps nobody out, so a test may run others.
#[derive(Debug)]
pub struct MeshLock {
    sharing: Sharing,
    // Dropped in this order: whoever has the lock next must not find this holder's name.
    _holder: Option<Holder>,
    _file: Option<File>,
}

impl MeshLock {
    /// The lock file, in the testbed's directory.
    pub const FILE: &str = FILE;

    /// Directory with the names of holders, in the testbed's directory.
    pub const HOLDERS: &str = holders::DIRECTORY;

    /// Waits until nobody has the mesh of the testbed in `directory` alone, and shares it. `who` tells others whom they
    /// wait for.
    ///
    /// # Errors
    /// [`Error::Busy`]: the same holders have had the mesh for more than 20 minutes. [`Error::Lock`]: the lock file
    /// cannot be used.
    pub async fn shared(directory: &Path, who: &str) -> Result<Self> {
        Self::take(directory, Sharing::Shared, who).await
    }

    /// Waits until nobody else has the mesh of the testbed in `directory`, and takes it alone. `who` tells others whom
    /// they wait for.
    ///
    /// # Errors
    /// The errors of [`Self::shared`].
    pub async fn alone(directory: &Path, who: &str) -> Result<Self> {
        Self::take(directory, Sharing::Alone, who).await
    }

    pub(super) async fn take(directory: &Path, sharing: Sharing, who: &str) -> Result<Self> {
        let failed = |source| Error::Lock { path: directory.join(FILE), source };
        let Some(file) = open(directory).map_err(failed)? else { return Ok(Self::without_file(sharing)) };
        let (send, mut taken) = oneshot::channel();
        // Not a blocking task of the runtime, whose end would wait for the lock.
        let waiting = std::thread::Builder::new().name("mesh lock".into());
        waiting.spawn(move || send.send(wait(file, sharing))).map_err(failed)?;
        let mut patience = Patience::new(who);
        let mut looks = interval_at(Instant::now() + LOOK, LOOK);
        let file = loop {
            tokio::select! {
                biased;
                file = &mut taken => break file.map_err(io::Error::other).flatten().map_err(failed)?,
                _ = looks.tick() => patience.look(holders::all(directory))?,
            }
        };
        // Only a name: the lock holds without it.
        let holder = Holder::sign(directory, who, sharing).ok();
        Ok(Self { sharing, _holder: holder, _file: Some(file) })
    }

    /// Without protection against other processes.
    pub(super) fn without_file(sharing: Sharing) -> Self {
        Self { sharing, _holder: None, _file: None }
    }

    /// As if the mesh were held alone, for unit tests that have no testbed.
    #[cfg(test)]
    pub(crate) fn unchecked() -> Self {
        Self::without_file(Sharing::Alone)
    }

    /// Checks that nobody else uses the mesh. `change` names what would disturb others.
    ///
    /// # Errors
    /// [`Error::Shares`].
    pub fn permits(&self, change: impl Into<String>) -> Result<()> {
        match self.sharing {
            Sharing::Alone => Ok(()),
            Sharing::Shared => Err(Error::Shares { change: change.into() }),
        }
    }
}

/// The lock file, opened anew: two holds of one process exclude each other too. `None` in a directory that this process
/// may not write, such as a mounted secret: no other test of this machine uses that.
fn open(directory: &Path) -> io::Result<Option<File>> {
    match OpenOptions::new().create(true).truncate(false).write(true).open(directory.join(FILE)) {
        Ok(file) => Ok(Some(file)),
        Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Waits for the lock.
fn wait(file: File, sharing: Sharing) -> io::Result<File> {
    match sharing {
        Sharing::Shared => file.lock_shared()?,
        Sharing::Alone => file.lock()?,
    }
    Ok(file)
}

#[cfg(test)]
mod tests;
