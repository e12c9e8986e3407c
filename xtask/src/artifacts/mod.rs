//! Artifacts: binaries, root file systems and images that are built once and kept. Each artifact is in the user's cache
//! directory under the hash of its inputs, so a fresh clone does not build it again.

mod all;
mod architecture;
pub(crate) mod archive;
pub(crate) mod debian;
pub(crate) mod go;
pub(crate) mod images;
pub(crate) mod layout;
mod uses;
pub(crate) mod wheel;
pub(crate) mod workload;

pub(crate) use all::{Artifacts, all};
pub(crate) use architecture::Architecture;
pub(crate) use uses::Kept;

use std::collections::BTreeSet;
use std::fs::File;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::{paths, progress};

/// Repository of every image of the testbed. The name deliberately does not resolve: a pull of an image that is missing
/// on the node must fail.
pub(crate) const REPOSITORY: &str = "meshproof.local";

/// How long an unused artifact is kept, because other branches may need it.
const KEPT: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// Hash of all inputs of an artifact.
pub(crate) struct Key(Sha256);

impl Key {
    /// Starts with the recipe's name. Change the name if the recipe changes but its inputs do not.
    pub(crate) fn new(recipe: &str) -> Self {
        Self(Sha256::new()).text(recipe)
    }

    pub(crate) fn text(mut self, text: &str) -> Self {
        self.0.update((text.len() as u64).to_le_bytes());
        self.0.update(text);
        self
    }

    pub(crate) fn file(self, path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut key = self.text(&path.file_name().unwrap_or_default().to_string_lossy());
        key.0.update((bytes.len() as u64).to_le_bytes());
        key.0.update(bytes);
        Ok(key)
    }

    /// Adds all files below `directory`, sorted by name.
    pub(crate) fn directory(mut self, directory: &Path) -> Result<Self> {
        let entries = std::fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
        let mut entries: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        entries.sort();
        for entry in entries {
            let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
            self = if entry.is_dir() { self.text(&name).directory(&entry)? } else { self.file(&entry)? };
        }
        Ok(self)
    }

    /// The hash in hexadecimal, shortened to 16 digits, enough to distinguish the artifacts of one cache.
    pub(crate) fn finish(self) -> String {
        self.0.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The cache directory.
pub(crate) struct Store {
    directory: PathBuf,
    built: AtomicBool,
    /// Names of the artifacts that this run has used.
    used: Mutex<BTreeSet<String>>,
}

impl Store {
    pub(crate) fn open() -> Result<Self> {
        let directory = paths::cache()?.join("artifacts");
        std::fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        Ok(Self { directory, built: AtomicBool::new(false), used: Mutex::default() })
    }

    /// Path of the artifact, even if the artifact is not built yet.
    pub(crate) fn path(&self, name: &str, key: &str) -> PathBuf {
        let name = format!("{name}-{key}");
        self.used.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone());
        self.directory.join(name)
    }

    /// A directory beside the artifacts for large temporary files. Removed when dropped.
    pub(crate) fn scratch(&self, prefix: &str) -> Result<tempfile::TempDir> {
        let made = tempfile::Builder::new().prefix(prefix).tempdir_in(&self.directory);
        made.with_context(|| format!("cannot make a directory in {}", self.directory.display()))
    }

    /// Whether any artifact was built since the store was opened.
    pub(crate) fn has_built(&self) -> bool {
        self.built.load(Ordering::Relaxed)
    }

    /// Returns the artifact's directory. If the directory does not exist, `build` fills it. A later run does not use
    /// the output of a failed or killed build. Two runs that need the same artifact wait for each other.
    pub(crate) async fn get<F: Future<Output = Result<()>>>(
        &self,
        name: &str,
        key: &str,
        build: impl FnOnce(PathBuf) -> F,
    ) -> Result<PathBuf> {
        let finished = self.path(name, key);
        if finished.exists() {
            progress::mark_cached();
            // Record the time of the last use. `sweep` finds stale artifacts by this time.
            let _ = File::open(&finished).and_then(|file| file.set_modified(SystemTime::now()));
            return Ok(finished);
        }
        let lock = self.directory.join(format!(".{name}-{key}.lock"));
        let file = File::create(&lock).with_context(|| format!("cannot create {}", lock.display()))?;
        let file = tokio::task::spawn_blocking(move || file.lock().map(|()| file)).await??;
        if !finished.exists() {
            let partial = self.directory.join(format!(".{name}-{key}.partial"));
            if partial.exists() {
                std::fs::remove_dir_all(&partial)
                    .with_context(|| format!("cannot remove what an interrupted build left: {}", partial.display()))?;
            }
            std::fs::create_dir(&partial).with_context(|| format!("cannot create {}", partial.display()))?;
            if let Err(error) = build(partial.clone()).await {
                // A failed build may leave gigabytes. The error has the relevant output.
                let _ = std::fs::remove_dir_all(&partial);
                return Err(error);
            }
            std::fs::rename(&partial, &finished)
                .with_context(|| format!("cannot move {} into place", finished.display()))?;
            self.built.store(true, Ordering::Relaxed);
            progress::mark_made();
        }
        let _ = std::fs::remove_file(&lock);
        drop(file);
        Ok(finished)
    }
}

impl Store {
    /// Records what the run of this checkout has used, and removes artifacts that no run has used for [`KEPT`].
    pub(crate) fn sweep(&self, checkout: &Path) -> Result<()> {
        self.remember(checkout)?;
        let oldest = SystemTime::now() - KEPT;
        for entry in std::fs::read_dir(&self.directory)? {
            let entry = entry?;
            if entry.file_name() != uses::DIRECTORY && entry.metadata()?.modified()? < oldest {
                let path = entry.path();
                let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
                removed.with_context(|| format!("cannot remove the stale artifact {}", path.display()))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_artifacts_that_nothing_has_used_for_long_are_swept() {
        let directory = tempfile::tempdir().unwrap();
        for (name, age) in [("used-1", Duration::ZERO), ("stale-1", KEPT * 2)] {
            let path = directory.path().join(name);
            std::fs::create_dir(&path).unwrap();
            File::open(&path).unwrap().set_modified(SystemTime::now() - age).unwrap();
        }
        store(directory.path()).sweep(directory.path()).unwrap();
        assert!(directory.path().join("used-1").exists());
        assert!(!directory.path().join("stale-1").exists());
    }

    pub(super) fn store(directory: &Path) -> Store {
        Store { directory: directory.to_owned(), built: AtomicBool::new(false), used: Mutex::default() }
    }

    #[tokio::test]
    async fn an_artifact_is_built_once_and_an_interrupted_build_is_begun_again() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path());
        let interrupted = store.get("a", "1", |path| async move {
            std::fs::write(path.join("half"), "").unwrap();
            anyhow::bail!("killed")
        });
        assert!(interrupted.await.is_err());
        assert!(!store.path("a", "1").exists());

        let built = store.get("a", "1", |path| async move {
            assert!(!path.join("half").exists(), "leftovers of the interrupted build");
            Ok(std::fs::write(path.join("whole"), "")?)
        });
        assert!(built.await.unwrap().join("whole").exists());
        assert!(store.has_built());
        store.get("a", "1", |_| async { panic!("built twice") }).await.unwrap();
    }

    #[test]
    fn a_key_changes_with_a_name_a_content_and_a_place() {
        let directory = tempfile::tempdir().unwrap();
        let key = || Key::new("x").directory(directory.path()).unwrap().finish();
        std::fs::write(directory.path().join("a"), "1").unwrap();
        let first = key();
        std::fs::write(directory.path().join("a"), "2").unwrap();
        let second = key();
        std::fs::rename(directory.path().join("a"), directory.path().join("b")).unwrap();
        let third = key();
        assert!(first != second && second != third && first != third);
        assert_eq!(third, key());
        assert_ne!(Key::new("ab").text("c").finish(), Key::new("a").text("bc").finish());
    }
}
