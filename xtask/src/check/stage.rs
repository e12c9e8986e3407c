//! The stages of `cargo xtask check`: what each needs and the command it runs.

use std::path::PathBuf;

use anyhow::Result;

use super::tool::{self, Tool};
use crate::versions::Versions;

/// A stage; CI runs them in the order of [`ALL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Stage {
    /// rustfmt over the workspace
    Format,
    /// clippy over all targets of the workspace
    Clippy,
    /// clippy over the performance suite, which is in no other target list
    ClippyPerf,
    /// cargo-deny: licences, sources, banned crates
    Dependencies,
    /// The tests that need no testbed and no quiet machine
    UnitTests,
    /// The unit tests of what suites keep beside them
    SuiteTests,
}

/// All stages, the quickest first.
pub(super) const ALL: [Stage; 6] =
    [Stage::Format, Stage::Clippy, Stage::ClippyPerf, Stage::Dependencies, Stage::UnitTests, Stage::SuiteTests];

const CLIPPY: [&str; 4] = ["clippy", "--quiet", "--locked", "--workspace"];

/// Test binaries that need neither a testbed nor a quiet machine.
const TESTS: [&str; 7] = ["layers", "shop", "bypass", "handshakes", "printing", "field", "commands"];

/// Suites with unit tests of their own, in modules named `tests`. A suite's other tests need a testbed.
const SUITES: [&str; 1] = ["boutique"];

/// Selects the tests of modules named `tests` in a suite of several files.
const IN_MODULE_TESTS: &str = "::tests::";

impl Stage {
    /// The stage as `--only` and the summary name it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Format => "format",
            Self::Clippy => "clippy",
            Self::ClippyPerf => "clippy-perf",
            Self::Dependencies => "dependencies",
            Self::UnitTests => "unit-tests",
            Self::SuiteTests => "suite-tests",
        }
    }

    /// What the stage looks at, for its heading.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Format => "format: rustfmt",
            Self::Clippy => "clippy: the workspace",
            Self::ClippyPerf => "clippy-perf: the performance suite",
            Self::Dependencies => "dependencies: cargo-deny",
            Self::UnitTests => "unit-tests: tests without a testbed",
            Self::SuiteTests => "suite-tests: unit tests of the suites",
        }
    }

    /// What has to be on this machine before the command can run.
    pub(super) fn tools(self) -> &'static [Tool] {
        match self {
            Self::Format => &[Tool::Rustfmt],
            // The workspace compiles BPF programs and BoringSSL.
            Self::Clippy | Self::ClippyPerf => &[Tool::Clippy, Tool::CLANG, Tool::CMAKE, Tool::CXX],
            Self::Dependencies => &[Tool::CargoDeny],
            Self::UnitTests | Self::SuiteTests => &[Tool::CLANG, Tool::CMAKE, Tool::CXX, Tool::IPTABLES, Tool::OPENSSL],
        }
    }

    /// The program and its arguments, to be run in the workspace's root.
    ///
    /// # Errors
    /// Where there is no cache directory.
    pub(super) fn command(self, versions: &Versions) -> Result<(PathBuf, Vec<&'static str>)> {
        let cargo = PathBuf::from("cargo");
        let deny = ["-D", "warnings"];
        Ok(match self {
            Self::Format => (cargo, vec!["fmt", "--all", "--check"]),
            Self::Clippy => (cargo, [&CLIPPY[..], &["--all-targets", "--"], &deny].concat()),
            Self::ClippyPerf => (cargo, [&CLIPPY[..3], &["--test", "perf", "--"], &deny].concat()),
            Self::Dependencies => {
                let check = ["--workspace", "--locked", "--log-level", "warn", "check", "bans", "licenses", "sources"];
                (tool::cargo_deny(versions)?, check.to_vec())
            }
            Self::UnitTests => {
                let mut arguments = vec!["test", "--quiet", "--locked", "--workspace"];
                arguments.extend(["--features", "meshproof-multibuffer-tls/testing", "--lib", "--bins"]);
                TESTS.iter().for_each(|test| arguments.extend(["--test", test]));
                (cargo, arguments)
            }
            Self::SuiteTests => {
                let mut arguments = vec!["test", "--quiet", "--locked"];
                SUITES.iter().for_each(|suite| arguments.extend(["--test", suite]));
                arguments.push(IN_MODULE_TESTS);
                (cargo, arguments)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths;

    #[test]
    fn a_stage_has_the_name_that_only_takes() {
        for stage in ALL {
            let value = clap::ValueEnum::to_possible_value(&stage).unwrap();
            assert_eq!(value.get_name(), stage.name());
        }
        assert_eq!(<Stage as clap::ValueEnum>::value_variants(), ALL);
    }

    /// Names of the test binaries of the package in `directory`.
    fn test_binaries(directory: &std::path::Path) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(directory.join("tests")) else { return Vec::new() };
        let paths = entries.map(|entry| entry.unwrap().path());
        let binaries = paths.filter(|path| {
            path.extension().is_some_and(|end| end == "rs") && path.is_file() || path.join("main.rs").is_file()
        });
        binaries.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn every_test_binary_of_a_workload_is_run_by_check_or_by_ci() {
        let ci = paths::read(&paths::root().join(".ci/run")).unwrap();
        let named: Vec<&str> = ci.split_whitespace().collect();
        let mut seen = 0;
        for workload in std::fs::read_dir(paths::fixture("workloads")).unwrap() {
            for binary in test_binaries(&workload.unwrap().path()) {
                seen += 1;
                let in_ci = named.windows(2).any(|pair| pair == ["--test", &binary]);
                assert!(in_ci || TESTS.contains(&binary.as_str()), "{binary} must be run by check or .ci/run");
            }
        }
        assert!(seen >= TESTS.len(), "{seen} test binaries found");
    }

    /// Whether a file of this directory, or of one in it, has a module of unit tests.
    fn has_unit_tests(directory: &std::path::Path) -> bool {
        let mut paths = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        paths.any(|path| match path.is_dir() {
            true => has_unit_tests(&path),
            false => paths::read(&path).unwrap().lines().any(|line| line.starts_with("mod tests")),
        })
    }

    #[test]
    fn the_unit_tests_of_every_suite_are_run_by_check_and_by_ci() {
        let ci = paths::read(&paths::root().join(".ci/run")).unwrap();
        let suites = std::fs::read_dir(paths::root().join("tests")).unwrap().map(|entry| entry.unwrap().path());
        let with: Vec<String> = suites
            .filter(|suite| suite.is_dir() && has_unit_tests(suite))
            .map(|suite| suite.file_name().unwrap().to_str().unwrap().to_owned())
            .collect();
        assert_eq!(with, SUITES);
        for suite in SUITES {
            let line = ci.lines().find(|line| line.ends_with(IN_MODULE_TESTS)).unwrap_or_default();
            assert!(
                line.contains(&format!("--test {suite} ")),
                ".ci/run does not run the unit tests of {suite}: {line}"
            );
        }
    }
}
