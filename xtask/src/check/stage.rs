//! The stages of `cargo xtask check`: their tools and their commands.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::action;
use super::step::Step;
use super::tool::{self, Tool};
use crate::paths;
use crate::versions::Versions;

/// A stage; they run in the order of [`ALL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Stage {
    /// rustfmt over the workspace
    Format,
    /// actionlint over GitHub's workflows and the action
    Workflows,
    /// cargo-deny: licences, sources, banned crates
    Dependencies,
    /// clippy over all targets of the workspace
    Clippy,
    /// rustdoc over the workspace, without a warning
    Docs,
    /// The tests that need no testbed and no quiet machine
    UnitTests,
    /// The feature `judge`, which takes neither Kubernetes nor a crypto library
    JudgeAlone,
    /// Packages for crates.io, each built from what it holds
    Packages,
}

/// All stages, the fastest first.
pub(super) const ALL: [Stage; 8] = [
    Stage::Format,
    Stage::Workflows,
    Stage::Dependencies,
    Stage::Clippy,
    Stage::Docs,
    Stage::UnitTests,
    Stage::JudgeAlone,
    Stage::Packages,
];

/// Test binaries that need neither a testbed nor an idle machine.
const TESTS: [&str; 10] =
    ["action", "layers", "program", "recipes", "shop", "bypass", "handshakes", "printing", "field", "commands"];

/// Test binaries that are built by name only.
const BY_NAME: [&str; 5] = ["attach", "growth", "perf", "recovery", "sidecars"];

/// Programs with documentation.
const PROGRAMS: [&str; 5] = ["boutique", "load", "probe", "tcp-bypass", "xtask"];

/// The simulations of the judge take long. The stage of the judge runs them.
const SIMULATIONS: &str = "judge::simulate::";

/// Messages in the integrity test of the TCP bypass. `.ci/run` sends ten times as many.
const BYPASS_MESSAGES: &str = "1000000";

/// The crates that are published for other projects.
const PACKAGES: [&str; 4] = ["meshproof", "meshproof-load", "meshproof-probe", "meshproof-tcp-bypass"];

/// Arguments that select the judge alone.
const JUDGE: [&str; 6] = ["--package", "meshproof", "--locked", "--no-default-features", "--features", "judge"];

/// Crates that the judge must not depend on.
const NOT_OF_THE_JUDGE: [&str; 3] = ["kube", "k8s-openapi", "aws-lc-rs"];

impl Stage {
    /// The stage's name in `--only` and in the summary.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Format => "format",
            Self::Workflows => "workflows",
            Self::Dependencies => "dependencies",
            Self::Clippy => "clippy",
            Self::Docs => "docs",
            Self::UnitTests => "unit-tests",
            Self::JudgeAlone => "judge-alone",
            Self::Packages => "packages",
        }
    }

    /// The subject of the stage, for its heading.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Format => "format: rustfmt",
            Self::Workflows => "workflows: actionlint, also over the action and the example",
            Self::Dependencies => "dependencies: cargo-deny",
            Self::Clippy => "clippy: the workspace, and the tests that run by name only",
            Self::Docs => "docs: rustdoc without warnings",
            Self::UnitTests => "unit-tests: tests without a testbed",
            Self::JudgeAlone => "judge-alone: the judge without Kubernetes",
            Self::Packages => "packages: what crates.io would get, built",
        }
    }

    /// Tools that the commands need on this machine.
    pub(super) fn tools(self) -> &'static [Tool] {
        match self {
            Self::Format => &[Tool::Rustfmt],
            Self::Workflows => &[Tool::Actionlint],
            Self::Dependencies => &[Tool::CargoDeny],
            // The workspace compiles BPF programs and BoringSSL.
            Self::Clippy => &[Tool::Clippy, Tool::CLANG, Tool::CMAKE, Tool::CXX],
            Self::Docs => &[Tool::CLANG, Tool::CMAKE, Tool::CXX],
            Self::UnitTests => &[Tool::CLANG, Tool::CMAKE, Tool::CXX, Tool::IPTABLES, Tool::OPENSSL, Tool::REGISTRY],
            Self::JudgeAlone => &[],
            Self::Packages => &[Tool::CLANG, Tool::CMAKE],
        }
    }

    /// What must be done before the commands.
    ///
    /// # Errors
    /// Fails if a leftover cannot be removed.
    pub(super) fn prepare(self) -> Result<()> {
        match self {
            Self::Packages => forget_packages(&cargo_home()?, &packages()),
            Self::Workflows => action::write(),
            _ => Ok(()),
        }
    }

    /// The commands of the stage, to be run in the workspace's root.
    ///
    /// # Errors
    /// Fails if there is no cache directory.
    pub(super) fn steps(self, versions: &Versions) -> Result<Vec<Step>> {
        Ok(match self {
            Self::Format => vec![Step::cargo(&[&["fmt", "--all", "--check"]])],
            // Switch off shellcheck and pyflakes. actionlint runs both if installed, and the verdict must not depend on
            // the machine.
            Self::Workflows => {
                let off = ["-shellcheck=", "-pyflakes="];
                let action = action::path().display().to_string();
                let others = [&off[..], &action::EXAMPLES, &[action.as_str()]].concat();
                let lint = tool::actionlint(versions)?;
                vec![Step::program(lint.clone(), &off), Step::program(lint, &others)]
            }
            Self::Dependencies => {
                let check = ["--workspace", "--locked", "--log-level", "warn", "check", "bans", "licenses", "sources"];
                vec![Step::program(tool::cargo_deny(versions)?, &check)]
            }
            Self::Clippy => {
                let clippy: &[&str] = &["clippy", "--quiet", "--locked"];
                let deny: &[&str] = &["--", "-D", "warnings"];
                // `--all-targets` leaves out what is built by name only. Of the workspace too: with the features of one
                // package, cargo would check the dependencies again.
                let by_name: Vec<&str> = BY_NAME.iter().flat_map(|test| ["--test", test]).collect();
                vec![
                    Step::cargo(&[clippy, &["--workspace", "--all-targets"], deny]),
                    Step::cargo(&[clippy, &["--workspace"], &by_name, deny]),
                ]
            }
            Self::Docs => {
                // The example brings the features of tests along, with which clippy has checked the dependencies.
                let doc = ["doc", "--quiet", "--locked", "--workspace", "--no-deps", "--lib", "--example", "loopback"];
                let programs: Vec<&str> = PROGRAMS.iter().flat_map(|program| ["--bin", program]).collect();
                vec![Step::cargo(&[&doc, &programs]).with("RUSTDOCFLAGS", "-D warnings")]
            }
            Self::UnitTests => {
                let features = ["--features", "meshproof-multibuffer-tls/testing", "--lib", "--bins"];
                let tests: Vec<&str> = TESTS.iter().flat_map(|test| ["--test", test]).collect();
                let skip: &[&str] = &["--", "--skip", SIMULATIONS];
                let all = Step::cargo(&[&["test", "--quiet", "--locked", "--workspace"], &features, &tests, skip]);
                vec![all.with("MESHPROOF_BYPASS_MESSAGES", BYPASS_MESSAGES)]
            }
            Self::JudgeAlone => vec![
                Step::tree_without(&JUDGE, &NOT_OF_THE_JUDGE),
                Step::cargo(&[&["test", "--quiet"], &JUDGE, &["--lib"]]),
            ],
            Self::Packages => {
                let packages: Vec<&str> = PACKAGES.iter().flat_map(|package| ["--package", package]).collect();
                // The stage also checks uncommitted changes.
                let directory = self::packages().display().to_string();
                let package: &[&str] = &["package", "--quiet", "--locked", "--allow-dirty", "--target-dir", &directory];
                // Nobody debugs what is built here.
                vec![Step::cargo(&[package, &packages]).with("CARGO_PROFILE_DEV_DEBUG", "false")]
            }
        })
    }
}

/// The directory that packages are built in, apart from the workspace: [`forget_packages`] forgets what is compiled.
fn packages() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| paths::root().join("target"), PathBuf::from);
    target.join("packages")
}

/// Cargo's directory, with the sources of registries.
fn cargo_home() -> Result<PathBuf> {
    let named = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    named.or_else(|| Some(std::env::home_dir()?.join(".cargo"))).context("neither CARGO_HOME nor HOME is set")
}

/// Removes what an earlier `cargo package` unpacked and compiled. Cargo takes a package of the same version for the same
/// package, and would build the others with code of that time.
fn forget_packages(cargo_home: &Path, target: &Path) -> Result<()> {
    let version = concat!("-", env!("CARGO_PKG_VERSION"));
    for registry in entries(&cargo_home.join("registry/src"))? {
        for package in PACKAGES.map(|package| registry.join(format!("{package}{version}"))) {
            paths::remove(&package)?;
        }
    }
    for compiled in entries(&target.join("debug/.fingerprint"))? {
        let name = compiled.file_name().unwrap_or_default().to_string_lossy();
        if name.rsplit_once('-').is_some_and(|(package, _)| PACKAGES.contains(&package)) {
            paths::remove(&compiled)?;
        }
    }
    Ok(())
}

/// The entries of a directory. None if there is no such directory.
fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Ok(Vec::new()) };
    Ok(entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_has_the_name_that_only_takes() {
        for stage in ALL {
            let value = clap::ValueEnum::to_possible_value(&stage).unwrap();
            assert_eq!(value.get_name(), stage.name());
        }
        assert_eq!(<Stage as clap::ValueEnum>::value_variants(), ALL);
    }

    #[test]
    fn packages_of_an_earlier_run_are_forgotten_and_others_stay() {
        let home = tempfile::tempdir().unwrap();
        let registry = home.path().join("registry/src/-0123");
        let (ours, other) = (concat!("meshproof-probe-", env!("CARGO_PKG_VERSION")), "serde-1.0.0");
        for package in [ours, other] {
            std::fs::create_dir_all(registry.join(package).join("src")).unwrap();
        }
        let compiled = home.path().join("target/debug/.fingerprint");
        for directory in ["meshproof-probe-01", "serde-03"] {
            std::fs::create_dir_all(compiled.join(directory)).unwrap();
        }
        forget_packages(home.path(), &home.path().join("target")).unwrap();
        assert!(!registry.join(ours).exists() && registry.join(other).exists());
        assert!(!compiled.join("meshproof-probe-01").exists() && compiled.join("serde-03").exists());
        forget_packages(&home.path().join("none"), &home.path().join("none")).unwrap();
    }

    /// Names of the test binaries of the package in `directory`.
    fn test_binaries(directory: &Path) -> Vec<String> {
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

    /// Whether a file in this directory, or in a directory below, has a module of unit tests.
    fn has_unit_tests(directory: &Path) -> bool {
        let mut paths = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        paths.any(|path| match path.is_dir() {
            true => has_unit_tests(&path),
            false => paths::read(&path).unwrap().lines().any(|line| line.starts_with("mod tests")),
        })
    }

    #[test]
    fn no_unit_tests_are_where_check_does_not_run_them() {
        let within = |directory: &str| std::fs::read_dir(paths::root().join(directory)).unwrap();
        let suites = within("tests").chain(within("suites/tests")).map(|entry| entry.unwrap().path());
        let suites = suites.filter(|suite| suite.is_dir() && has_unit_tests(suite));
        let names = suites.map(|suite| suite.file_name().unwrap().to_str().unwrap().to_owned());
        let with: Vec<String> = names.filter(|name| !TESTS.contains(&name.as_str())).collect();
        assert!(with.is_empty(), "move the unit tests of {with:?} to the library of meshproof-suites");
    }

    /// The manifests of the workspace's members, with their directories.
    fn manifests() -> Vec<(PathBuf, toml::Table)> {
        let read = |directory: PathBuf| {
            let manifest: toml::Table = toml::from_str(&paths::read(&directory.join("Cargo.toml")).unwrap()).unwrap();
            (directory, manifest)
        };
        let root = read(paths::root().to_owned());
        let members = root.1["workspace"]["members"].as_array().unwrap().iter();
        let mut all: Vec<_> = members.map(|member| read(paths::root().join(member.as_str().unwrap()))).collect();
        all.push(root);
        all
    }

    /// Names of the `kind`s of targets, such as `test`, for which `says` holds.
    fn targets(kind: &str, says: impl Fn(&toml::Table) -> bool) -> Vec<String> {
        let of = |manifest: &toml::Table| manifest.get(kind).and_then(toml::Value::as_array).cloned();
        let all = manifests().into_iter().filter_map(|(_, manifest)| of(&manifest)).flatten();
        let tables = all.map(|target| target.as_table().unwrap().clone()).filter(|target| says(target));
        let mut names: Vec<String> = tables.map(|target| target["name"].as_str().unwrap().to_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_built_by_name_only_is_checked_by_name() {
        assert_eq!(targets("test", |test| test.get("test") == Some(&false.into())), BY_NAME);
    }

    #[test]
    fn every_program_is_documented_unless_its_manifest_says_that_it_has_no_documentation() {
        let mut programs = targets("bin", |bin| bin.get("doc") != Some(&false.into()));
        let is_bare =
            |manifest: &toml::Table, at: &Path| !manifest.contains_key("bin") && at.join("src/main.rs").exists();
        let bare = manifests().into_iter().filter(|(at, manifest)| is_bare(manifest, at));
        programs.extend(bare.map(|(_, manifest)| manifest["package"]["name"].as_str().unwrap().to_owned()));
        programs.sort();
        assert_eq!(programs, PROGRAMS);
    }

    #[test]
    fn the_crates_that_may_be_published_are_those_that_are_packaged() {
        let packages = manifests().into_iter().map(|(_, manifest)| manifest["package"].as_table().unwrap().clone());
        let open = packages.filter(|package| package.get("publish") != Some(&false.into()));
        let mut names: Vec<String> = open.map(|package| package["name"].as_str().unwrap().to_owned()).collect();
        names.sort();
        assert_eq!(names, PACKAGES);
    }

    #[test]
    fn ci_reports_every_suite_that_cargo_test_runs() {
        let root = paths::root();
        let of_cargo_test = manifests().into_iter().filter(|(at, _)| *at == root || *at == root.join("suites"));
        let tests = of_cargo_test.flat_map(|(_, manifest)| manifest["test"].as_array().unwrap().clone());
        let suites = tests.filter(|test| test.get("test") != Some(&false.into()));
        let names = suites.map(|test| test["name"].as_str().unwrap().to_owned());
        let mut suites: Vec<String> = names.filter(|name| !TESTS.contains(&name.as_str())).collect();
        suites.sort();
        let ci = paths::read(&paths::root().join(".ci/run")).unwrap();
        let listed = format!("suites=({})", suites.join(" "));
        assert!(ci.lines().any(|line| line == listed), "{listed} is not a line of .ci/run");
    }

    #[test]
    fn every_file_that_a_package_includes_exists() {
        let mut seen = 0;
        for (directory, manifest) in manifests() {
            let Some(include) = manifest["package"].get("include") else { continue };
            let patterns = include.as_array().unwrap().iter().map(|pattern| pattern.as_str().unwrap());
            for path in patterns.filter_map(|pattern| pattern.strip_prefix('/')) {
                seen += 1;
                assert!(directory.join(path).exists(), "{} includes {path}", directory.display());
            }
        }
        assert!(seen > 0, "no package includes a file by name");
    }
}
