//! Where commands find the record and put reports, and how their messages name each other.

use std::path::{Path, PathBuf};

use meshproof::cluster::{ATTACHED, DIRECTORY_VARIABLE, testbed_directory};

/// How messages name other commands.
#[derive(Debug, Clone, Copy)]
pub struct Words {
    /// The command that leaves a mesh.
    pub detach: &'static str,
    /// The command that judges a mesh.
    pub test: &'static str,
}

/// Where a command runs.
#[derive(Debug, Clone)]
pub struct Place {
    /// Directory of the record.
    pub testbed: PathBuf,
    /// Directory of the reports, one directory for each suite.
    pub reports: PathBuf,
    /// How messages name other commands.
    pub words: Words,
}

impl Place {
    /// A checkout of this repository whose testbed is in `testbed`.
    pub fn in_checkout(testbed: &Path) -> Self {
        let words =
            Words { detach: "cargo xtask testbed detach", test: "MESHPROOF_NOT_DECLARED=allow cargo test --test mtls" };
        Self { testbed: testbed.into(), reports: "target/meshproof".into(), words }
    }

    /// The current directory, for a command that uses the nearest record.
    pub fn here() -> Self {
        let words = Words { detach: "meshproof detach", test: "meshproof test mtls" };
        Self { testbed: testbed_directory(), reports: "meshproof".into(), words }
    }

    /// The current directory, for the command that writes the record.
    pub fn to_attach() -> Self {
        let named = std::env::var_os(DIRECTORY_VARIABLE).filter(|directory| !directory.is_empty());
        Self { testbed: named.map_or_else(|| ATTACHED.into(), PathBuf::from), ..Self::here() }
    }
}
