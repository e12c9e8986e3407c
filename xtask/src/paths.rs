//! Paths of the workspace, the user's cache and the testbed's directory.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::NamedTempFile;

/// Root of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a directory of the workspace")
}

/// Path of a file or directory below `fixtures/`.
pub(crate) fn fixture(relative: &str) -> PathBuf {
    root().join("fixtures").join(relative)
}

/// The artifact cache directory, shared by all checkouts: `$MESHPROOF_CACHE`, otherwise `$XDG_CACHE_HOME/meshproof`,
/// otherwise `~/.cache/meshproof`.
///
/// # Errors
/// Fails if none of `$MESHPROOF_CACHE`, `$XDG_CACHE_HOME` and `$HOME` is set.
pub(crate) fn cache() -> Result<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("MESHPROOF_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|cache| cache.join("meshproof")))
        .or_else(|| variable("HOME").map(|home| home.join(".cache/meshproof")))
        .context("no place for artifacts: set HOME, XDG_CACHE_HOME or MESHPROOF_CACHE")
}

/// The directory of the testbed's record, ledger, kubeconfig and secrets: `$MESHPROOF_TESTBED`, otherwise
/// `target/testbed`.
pub(crate) fn testbed() -> PathBuf {
    std::env::var_os("MESHPROOF_TESTBED")
        .filter(|value| !value.is_empty())
        .map_or_else(|| root().join("target/testbed"), PathBuf::from)
}

/// Writes `contents` atomically to a file that only this user can read. A reader sees either the old or the new file.
pub(crate) fn write_secret(path: &Path, contents: &str) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let directory = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(directory)?;
        let mut file = NamedTempFile::new_in(directory)?;
        file.write_all(contents.as_bytes())?;
        file.persist(path)?;
        Ok(())
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// Reads a text file. The error names the file.
pub(crate) fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_secret_that_is_replaced_is_this_users_alone_and_nothing_else_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secrets/key.pem");
        for contents in ["one", "two"] {
            write_secret(&path, contents).unwrap();
            assert_eq!(read(&path).unwrap(), contents);
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}
