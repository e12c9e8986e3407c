//! The names of those who hold the lock. One file for each, locked by its holder: the file of a killed holder is not.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use k8s_openapi::jiff::Timestamp;

use super::sharing::Sharing;

/// Directory of the names, in the testbed's directory.
pub(super) const DIRECTORY: &str = "mesh.holders";

/// A named holder, until drop.
#[derive(Debug)]
pub(super) struct Holder {
    path: PathBuf,
    _file: File,
}

impl Holder {
    /// Names this process as a holder.
    pub(super) fn sign(directory: &Path, who: &str, sharing: Sharing) -> io::Result<Self> {
        static HOLDS: AtomicU64 = AtomicU64::new(0);
        let directory = directory.join(DIRECTORY);
        fs::create_dir_all(&directory)?;
        let process = std::process::id();
        let path = directory.join(format!("{process}-{}", HOLDS.fetch_add(1, Ordering::Relaxed)));
        let mut file = File::create(&path)?;
        file.lock()?;
        let since = Timestamp::now().strftime("%H:%M:%S UTC");
        write!(file, "{who} (process {process}, {sharing}, since {since})")?;
        Ok(Self { path, _file: file })
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// A holder, as others see it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Named {
    /// Test, process, and since when.
    pub(super) words: String,
    /// Whether it is a test of this process.
    pub(super) own: bool,
}

/// All holders. Removes the names that killed holders left.
pub(super) fn all(directory: &Path) -> Vec<Named> {
    let listed = fs::read_dir(directory.join(DIRECTORY));
    let mut named: Vec<Named> =
        listed.into_iter().flatten().flatten().filter_map(|entry| read(&entry.path())).collect();
    named.sort();
    named
}

fn read(path: &Path) -> Option<Named> {
    let file = File::open(path).ok()?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(_)) => return None,
        Ok(()) => {
            let _ = fs::remove_file(path);
            return None;
        }
    }
    let process = path.file_name()?.to_str()?.split('-').next()?.to_owned();
    Some(Named { words: io::read_to_string(file).ok()?, own: process == std::process::id().to_string() })
}
