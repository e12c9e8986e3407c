//! Paths of the workspace, the user's cache and the testbed's directory.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use meshproof_cli::Place;
pub(crate) use meshproof_cli::files::{read, write_secret};

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

/// Where the commands are that `meshproof` has too.
pub(crate) fn place() -> Place {
    Place { reports: root().join("target/meshproof"), ..Place::in_checkout(&testbed()) }
}

/// Removes a directory and all in it, if it is there.
///
/// # Errors
/// Fails if it is there afterwards.
pub(crate) fn remove(directory: &Path) -> Result<()> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}
