//! The bounds of this suite, which are part of the program. A copy is beside the runs, to judge them again.

use std::path::{Path, PathBuf};

use meshproof::Error;

/// A file of bounds.
pub(super) struct File {
    name: &'static str,
    text: &'static str,
}

/// The bounds of the comparisons on one node.
pub(super) const SUITE: File = File { name: "bounds.toml", text: include_str!("../../../fixtures/perf/bounds.toml") };

/// The bounds of the comparisons whose pods are placed as the seed's.
pub(super) const PLACEMENTS: File =
    File { name: "placements.toml", text: include_str!("../../../fixtures/perf/placements.toml") };

/// What machines measured, for the bounds that are relative to it.
const BASELINES: &str = include_str!("../../../fixtures/perf/baselines.json");

impl File {
    /// Writes the bounds, and the baselines beside them, into `bounds` of `directory`. Returns the path of the bounds.
    pub(super) fn write(&self, directory: &Path) -> Result<PathBuf, Error> {
        let directory = directory.join("bounds");
        let path = directory.join(self.name);
        std::fs::create_dir_all(&directory)
            .and_then(|()| std::fs::write(&path, self.text))
            .and_then(|()| std::fs::write(directory.join("baselines.json"), BASELINES))
            .map_err(|error| Error::suite(format!("cannot write {}: {error}", path.display())))?;
        Ok(path)
    }
}
