//! Where things are: the workspace, the user's cache, the testbed's own directory.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Root of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a directory of the workspace")
}

/// A file or directory below `fixtures/`.
pub(crate) fn fixture(relative: &str) -> PathBuf {
    root().join("fixtures").join(relative)
}

/// The directory that artifacts are kept in, shared by all checkouts: `$MESHPROOF_CACHE`, else
/// `$XDG_CACHE_HOME/meshproof`, else `~/.cache/meshproof`.
///
/// # Errors
/// Where none of the three variables is set.
pub(crate) fn cache() -> Result<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("MESHPROOF_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|cache| cache.join("meshproof")))
        .or_else(|| variable("HOME").map(|home| home.join(".cache/meshproof")))
        .context("no place for artifacts: set HOME, XDG_CACHE_HOME or MESHPROOF_CACHE")
}

/// The directory of the testbed's record, ledger, kubeconfig and secrets: `$MESHPROOF_TESTBED`, else
/// `target/testbed`.
pub(crate) fn testbed() -> PathBuf {
    std::env::var_os("MESHPROOF_TESTBED")
        .filter(|value| !value.is_empty())
        .map_or_else(|| root().join("target/testbed"), PathBuf::from)
}

/// Writes `contents` so that only this user can read it, in one step.
pub(crate) fn write_secret(path: &Path, contents: &str) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;

    let partial = path.with_extension("partial");
    let write = || -> std::io::Result<()> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let _ = std::fs::remove_file(&partial);
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
        file.write_all(contents.as_bytes())?;
        std::fs::rename(&partial, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// Reads a text file, naming it where that fails.
pub(crate) fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}
