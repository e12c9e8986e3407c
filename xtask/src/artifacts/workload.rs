//! The project's own programs that run inside the clusters: `fixtures/workloads/*`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{Architecture, Key, REPOSITORY, Store};
use crate::command::run;
use crate::paths;

/// One of the project's own programs, and its image's tag.
pub(crate) struct Program {
    /// Name of the program and of its image.
    pub(crate) name: &'static str,
    pub(crate) binary: PathBuf,
    /// Hash of the binary's contents. A change of the inputs often leaves the binary unchanged.
    pub(crate) tag: String,
}

impl Program {
    /// The program `name`. The program's binary has the same name and is in `directory`.
    ///
    /// # Errors
    /// Fails if the binary cannot be read.
    pub(crate) fn read(name: &'static str, directory: &Path) -> Result<Self> {
        let binary = directory.join(name);
        let tag = Key::new(name).file(&binary)?.finish();
        Ok(Self { name, binary, tag })
    }

    /// Reference of the program's image.
    pub(crate) fn image(&self) -> String {
        format!("{REPOSITORY}/{}:{}", self.name, self.tag)
    }
}

/// All of the project's own programs that run as pods.
pub(crate) struct Programs {
    pub(crate) probe: Program,
    pub(crate) boutique: Program,
    pub(crate) load: Program,
    pub(crate) tcp_bypass: Program,
}

impl Programs {
    /// All programs, always in the same order.
    pub(crate) fn all(&self) -> [&Program; 4] {
        [&self.probe, &self.boutique, &self.load, &self.tcp_bypass]
    }
}

/// Builds the fully static binary `binary` of the workload `workload`, and returns the binary's directory. A static
/// binary needs no other file in its image.
///
/// # Errors
/// Fails if the workload does not compile.
pub(crate) async fn build(
    store: &Store,
    workload: &str,
    package: &str,
    binary: &str,
    architecture: Architecture,
) -> Result<PathBuf> {
    let what = Output { name: binary, package, selected: &["--bin", binary], flags: STATIC, architecture };
    output(store, sources(workload)?, what, "workload-target").await
}

/// Builds the fully static program `meshproof`, and returns its directory.
///
/// # Errors
/// Fails if the program does not compile.
pub(crate) async fn program(store: &Store, architecture: Architecture) -> Result<PathBuf> {
    let selected = &["--bin", "meshproof"];
    let what = Output { name: "meshproof", package: "meshproof-cli", selected, flags: STATIC, architecture };
    let own = ["src", "program", "suites"].map(|directory| paths::root().join(directory));
    // Parts of these are in the program.
    let fixtures = ["perf", "boutique", "mesh", "workloads/load", "workloads/probe", "workloads/tcp-bypass"];
    let sources = own.into_iter().chain(fixtures.map(paths::fixture));
    output(store, sources.collect(), what, "workload-target").await
}

/// Flags of a binary that needs no other file.
const STATIC: &str = "-C target-feature=+crt-static";

/// Builds the shared library `file` of the workload `workload`, and returns the library's directory. Another process
/// loads the library.
///
/// # Errors
/// Fails if the workload does not compile.
pub(crate) async fn library(store: &Store, workload: &str, package: &str, file: &str) -> Result<PathBuf> {
    let what = Output { name: file, package, selected: &["--lib"], flags: "", architecture: Architecture::Amd64 };
    output(store, sources(workload)?, what, "library-target").await
}

/// The output of a build, and the build's arguments.
struct Output<'a> {
    name: &'a str,
    package: &'a str,
    selected: &'a [&'a str],
    flags: &'a str,
    architecture: Architecture,
}

/// Builds `what` from `sources`. `target` is a target directory of its own: other flags in the workspace's target
/// directory would rebuild everything.
async fn output(store: &Store, sources: Vec<PathBuf>, what: Output<'_>, target: &str) -> Result<PathBuf> {
    let compiler = run("rustc").arg("--version").stdout().await.context("no Rust compiler")?;
    let triple = what.architecture.target();
    let mut key = Key::new("workload 3")
        .text(&compiler)
        .text(triple)
        .file(&paths::root().join("Cargo.toml"))?
        .file(&paths::root().join("Cargo.lock"))?;
    for directory in sources {
        key = key.directory(&directory)?;
    }
    let key = key.finish();
    store
        .get(what.name, &key, |output| async move {
            let target = paths::cache()?.join(target);
            let mut cargo = run(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
                .args(["build", "--release", "--locked", "--package", what.package, "--target", triple])
                .args(what.selected)
                .arg("--target-dir")
                .arg(&target)
                .current_dir(paths::root())
                .env("RUSTFLAGS", what.flags);
            for (name, value) in what.architecture.linker() {
                cargo = cargo.env(name, value);
            }
            cargo.ok().await?;
            std::fs::copy(target.join(triple).join("release").join(what.name), output.join(what.name))?;
            Ok(())
        })
        .await
}

/// The source directories of a workload: its own, and those of workloads that it depends on.
fn sources(workload: &str) -> Result<Vec<PathBuf>> {
    let workloads = paths::fixture("workloads");
    let manifest = workloads.join(workload).join("Cargo.toml");
    let parsed: toml::Table = paths::read(&manifest)?.parse().with_context(|| manifest.display().to_string())?;
    let dependencies = parsed.get("dependencies").and_then(toml::Value::as_table);
    let others =
        dependencies.into_iter().flat_map(toml::Table::keys).filter_map(|name| name.strip_prefix("meshproof-"));
    Ok(std::iter::once(workload).chain(others).map(|name| workloads.join(name)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_of_an_image_follows_the_contents_of_the_binary() {
        let directory = tempfile::tempdir().unwrap();
        let image = |contents: &str| {
            std::fs::write(directory.path().join("probe"), contents).unwrap();
            Program::read("probe", directory.path()).unwrap().image()
        };
        // Nodes hold the images under these tags. A changed rule makes every node anew.
        assert_eq!(image("one"), "meshproof.local/probe:8a732667a3e05d76");
        assert_ne!(image("two"), image("one"));
        assert_eq!(image("one"), image("one"));
    }

    #[test]
    fn a_workload_is_built_anew_when_one_that_it_depends_on_changes() {
        let names = |workload| {
            let names = sources(workload).unwrap().into_iter();
            names.map(|directory| directory.file_name().unwrap().to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names("boutique"), ["boutique", "probe"]);
        assert_eq!(names("probe"), ["probe"]);
    }
}
