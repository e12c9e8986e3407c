//! Clean-up after killed tests, by the next test process before its first test.

use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use futures::future::try_join_all;
use tokio::sync::Mutex;

use super::error::Result;
use super::sweep::sweep_after;
use crate::cluster::Testbed;
use crate::record::Capabilities;

/// Lock file in the testbed's directory. Every process with a running test holds a shared lock on the file.
const FILE: &str = "tests.lock";

/// The locks of this process, by the testbed's directory. The kernel releases the locks when the process ends.
static PRESENT: Mutex<Option<HashMap<PathBuf, Option<File>>>> = Mutex::const_new(None);

/// Sweeps the clusters of the testbed, once per process, if no other process on this machine has a running test. The
/// [Leases](super::lease::Leases) keep tests on other machines out.
///
/// # Errors
/// The errors of [`sweep`](super::sweep()).
pub(super) async fn put_right(testbed: &Testbed) -> Result<()> {
    let mut present = PRESENT.lock().await;
    let present = present.get_or_insert_default();
    if present.contains_key(&testbed.directory) {
        return Ok(());
    }
    // Without a writable directory, other processes cannot be detected.
    let Some(file) = open(&testbed.directory) else {
        present.insert(testbed.directory.clone(), None);
        return Ok(());
    };
    if is_alone(&file) {
        let Capabilities { writes, namespace_prefix, .. } = &testbed.record.capabilities;
        let sweeping = testbed.clusters.iter().map(|cluster| {
            let client = cluster.client();
            async move { sweep_after(&client, cluster.name(), writes, namespace_prefix.as_deref()).await }
        });
        for what in try_join_all(sweeping).await?.into_iter().flatten() {
            tracing::warn!(what, "put right what a killed test had left");
        }
    }
    // Downgrade the exclusive lock: other processes may now start tests, and none may sweep.
    let shared = file.lock_shared().is_ok().then_some(file);
    present.insert(testbed.directory.clone(), shared);
    Ok(())
}

/// Whether no process on this machine has a running test on the testbed in `directory`.
pub(super) fn nobody_tests(directory: &Path) -> bool {
    let file = OpenOptions::new().write(true).open(directory.join(FILE));
    file.is_ok_and(|file| is_alone(&file))
}

fn open(directory: &Path) -> Option<File> {
    OpenOptions::new().create(true).truncate(false).write(true).open(directory.join(FILE)).ok()
}

/// Whether no other process holds the lock. If so, takes the exclusive lock.
fn is_alone(file: &File) -> bool {
    match file.try_lock() {
        Ok(()) => true,
        Err(TryLockError::WouldBlock | TryLockError::Error(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_alone_until_another_is_there_and_again_when_that_has_ended() {
        let directory = tempfile::tempdir().unwrap();
        let (one, other) = (open(directory.path()).unwrap(), open(directory.path()).unwrap());
        other.lock_shared().unwrap();
        assert!(!is_alone(&one), "the other one has a running test");
        drop(other);
        assert!(is_alone(&one));
    }
}
