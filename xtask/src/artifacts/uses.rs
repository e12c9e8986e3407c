//! Which checkout uses which artifact, so that the others can be removed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::{Key, Store};

/// Directory in the cache with one file for each checkout.
pub(super) const DIRECTORY: &str = ".uses";

/// The artifacts that the sources of a checkout name.
#[derive(Debug, Serialize, Deserialize)]
struct Uses {
    checkout: PathBuf,
    artifacts: BTreeSet<String>,
}

/// An artifact in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Name of the directory, with its key.
    pub(crate) name: String,
    /// Size in bytes.
    pub(crate) bytes: u64,
    /// The checkouts whose sources name it.
    pub(crate) used_by: Vec<PathBuf>,
}

impl Store {
    /// Records what the run of this checkout has used, in place of what it used before.
    pub(crate) fn remember(&self, checkout: &Path) -> Result<()> {
        let artifacts = self.used.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let uses = Uses { checkout: checkout.to_owned(), artifacts };
        let directory = self.directory.join(DIRECTORY);
        std::fs::create_dir_all(&directory)?;
        let path = directory.join(Key::new("uses").text(&checkout.to_string_lossy()).finish());
        let written = tempfile::NamedTempFile::new_in(&directory).and_then(|file| {
            serde_json::to_writer(&file, &uses)?;
            file.persist(&path).map_err(|error| error.error)
        });
        written.map(drop).with_context(|| format!("cannot write {}", path.display()))
    }

    /// All artifacts, the largest first, and who uses each.
    pub(crate) fn kept(&self) -> Result<Vec<Kept>> {
        let mut users: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
        for uses in self.uses()? {
            for artifact in uses.artifacts {
                users.entry(artifact).or_default().push(uses.checkout.clone());
            }
        }
        let mut kept = Vec::new();
        for path in entries(&self.directory)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            // Locks, and what is being built.
            if !name.starts_with('.') {
                let used_by = users.remove(&name).unwrap_or_default();
                kept.push(Kept { name, bytes: size(&path)?, used_by });
            }
        }
        kept.sort_by(|one, other| (other.bytes, &one.name).cmp(&(one.bytes, &other.name)));
        Ok(kept)
    }

    /// Removes the artifacts that no checkout uses, and returns them. With `dry_run`, only returns them.
    ///
    /// # Errors
    /// Fails if it is not known what `checkout` uses.
    pub(crate) fn prune(&self, checkout: &Path, dry_run: bool) -> Result<Vec<Kept>> {
        ensure!(
            self.uses()?.iter().any(|uses| uses.checkout == checkout),
            "it is not known what the sources in {} need: run `cargo xtask testbed up` once",
            checkout.display()
        );
        let unused: Vec<Kept> = self.kept()?.into_iter().filter(|one| one.used_by.is_empty()).collect();
        for one in unused.iter().filter(|_| !dry_run) {
            let path = self.directory.join(&one.name);
            std::fs::remove_dir_all(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
        Ok(unused)
    }

    /// What is recorded of checkouts that still exist.
    fn uses(&self) -> Result<Vec<Uses>> {
        let mut all = Vec::new();
        for path in entries(&self.directory.join(DIRECTORY))? {
            let text = crate::paths::read(&path)?;
            let uses: Uses =
                serde_json::from_str(&text).with_context(|| format!("{} cannot be read: remove it", path.display()))?;
            if uses.checkout.join("Cargo.toml").is_file() {
                all.push(uses);
            }
        }
        Ok(all)
    }
}

/// The entries of a directory. None if there is no such directory.
fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    match std::fs::read_dir(directory) {
        Ok(entries) => Ok(entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", directory.display())),
    }
}

/// Size of a file or a directory, in bytes. Links are not followed.
fn size(path: &Path) -> Result<u64> {
    let metadata = std::fs::symlink_metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    if !metadata.is_dir() {
        return Ok(metadata.len());
    }
    entries(path)?.iter().map(|entry| size(entry)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A checkout in `place`, and the artifacts that its run uses.
    async fn used(place: &Path, checkout: &str, artifacts: &[(&str, &str)]) -> PathBuf {
        let checkout = place.join(checkout);
        std::fs::create_dir_all(&checkout).unwrap();
        std::fs::write(checkout.join("Cargo.toml"), "").unwrap();
        let store = super::super::tests::store(&place.join("cache"));
        for (name, key) in artifacts {
            let built = store.get(name, key, |path| async move { Ok(std::fs::write(path.join("file"), [0; 1_000])?) });
            built.await.unwrap();
        }
        store.remember(&checkout).unwrap();
        checkout
    }

    fn names(kept: &[Kept]) -> Vec<&str> {
        kept.iter().map(|one| one.name.as_str()).collect()
    }

    #[tokio::test]
    async fn only_what_no_checkout_uses_is_removed() {
        let place = tempfile::tempdir().unwrap();
        std::fs::create_dir(place.path().join("cache")).unwrap();
        let one = used(place.path(), "one", &[("probe", "1"), ("istio", "1")]).await;
        used(place.path(), "two", &[("probe", "2"), ("istio", "1")]).await;
        // The sources change.
        used(place.path(), "one", &[("probe", "3"), ("istio", "1")]).await;
        let store = super::super::tests::store(&place.path().join("cache"));
        let istio = store.kept().unwrap().into_iter().find(|kept| kept.name == "istio-1").unwrap();
        assert_eq!((istio.bytes, istio.used_by.len()), (1_000, 2));
        assert_eq!(names(&store.prune(&one, true).unwrap()), ["probe-1"]);
        assert_eq!(store.kept().unwrap().len(), 4, "a dry run removes nothing");
        assert_eq!(names(&store.prune(&one, false).unwrap()), ["probe-1"]);
        assert_eq!(names(&store.kept().unwrap()), ["istio-1", "probe-2", "probe-3"]);
        // A checkout that is gone uses nothing.
        std::fs::remove_dir_all(place.path().join("two")).unwrap();
        assert_eq!(names(&store.prune(&one, false).unwrap()), ["probe-2"]);
    }

    #[tokio::test]
    async fn nothing_is_removed_before_it_is_known_what_is_needed() {
        let place = tempfile::tempdir().unwrap();
        std::fs::create_dir(place.path().join("cache")).unwrap();
        used(place.path(), "one", &[("probe", "1")]).await;
        let store = super::super::tests::store(&place.path().join("cache"));
        let error = store.prune(&place.path().join("other"), false).unwrap_err().to_string();
        assert!(error.contains("run `cargo xtask testbed up` once"), "{error}");
        assert_eq!(store.kept().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn what_is_being_built_is_neither_listed_nor_removed() {
        let place = tempfile::tempdir().unwrap();
        std::fs::create_dir(place.path().join("cache")).unwrap();
        let one = used(place.path(), "one", &[]).await;
        for hidden in [".probe-1.partial", ".probe-1.lock"] {
            std::fs::create_dir(place.path().join("cache").join(hidden)).unwrap();
        }
        let store = super::super::tests::store(&place.path().join("cache"));
        assert!(store.prune(&one, false).unwrap().is_empty());
        assert!(place.path().join("cache/.probe-1.partial").exists());
    }
}
