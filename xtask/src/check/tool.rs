//! The tools of `cargo xtask check`, and their installation.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::artifacts::{Store, go};
use crate::command::run;
use crate::paths;
use crate::versions::Versions;

/// A tool that a stage runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tool {
    Rustfmt,
    Clippy,
    CargoDeny,
    Actionlint,
    /// A system program that only the system's package manager installs.
    System {
        program: &'static str,
        package: &'static str,
    },
}

impl Tool {
    pub(super) const CLANG: Self = Self::System { program: "clang", package: "clang" };
    pub(super) const CMAKE: Self = Self::System { program: "cmake", package: "cmake" };
    pub(super) const CXX: Self = Self::System { program: "g++", package: "g++" };
    pub(super) const IPTABLES: Self = Self::System { program: "iptables", package: "iptables" };
    pub(super) const OPENSSL: Self = Self::System { program: "openssl", package: "openssl" };
    pub(super) const REGISTRY: Self = Self::System { program: "docker-registry", package: "docker-registry" };

    /// Installs the tool if it is missing and its installation does not need root.
    ///
    /// # Errors
    /// Fails if the tool is missing and cannot be installed. The error has the tool's name and the installation
    /// command.
    pub(super) async fn ensure(self, versions: &Versions) -> Result<()> {
        match self {
            Self::Rustfmt => component("rustfmt", "fmt").await,
            Self::Clippy => component("clippy", "clippy").await,
            Self::CargoDeny => {
                let version = versions.tools.cargo_deny.as_str();
                if run(cargo_deny(versions)?).arg("--version").succeeds().await {
                    return Ok(());
                }
                let root = root("cargo-deny", version)?.display().to_string();
                let install =
                    ["cargo", "install", "--quiet", "--locked", "--version", version, "--root", &root, "cargo-deny"];
                installed("cargo-deny", &install).await
            }
            Self::Actionlint => {
                let program = actionlint(versions)?;
                if run(&program).arg("--version").succeeds().await {
                    return Ok(());
                }
                install_actionlint(&program, versions).await
            }
            // Search the path only. No argument works for all: `openssl`, for example, has no `--version`.
            Self::System { program, .. } if crate::command::on_path(program) => Ok(()),
            Self::System { program, package } => {
                bail!("{program} is missing; install it: `apt-get install {package}`")
            }
        }
    }
}

/// The pinned cargo-deny in the cache.
///
/// # Errors
/// Fails if there is no cache directory.
pub(super) fn cargo_deny(versions: &Versions) -> Result<PathBuf> {
    Ok(root("cargo-deny", &versions.tools.cargo_deny)?.join("bin/cargo-deny"))
}

/// The pinned actionlint in the cache.
///
/// # Errors
/// Fails if there is no cache directory.
pub(super) fn actionlint(versions: &Versions) -> Result<PathBuf> {
    Ok(root("actionlint", &versions.tools.actionlint)?.join("actionlint"))
}

/// Builds actionlint with the Go toolchain of the testbed's components.
async fn install_actionlint(program: &Path, versions: &Versions) -> Result<()> {
    println!("installing actionlint");
    let go =
        go::bootstrap(&Store::open()?, versions).await.context("actionlint is missing, and so is Go to build it")?;
    let module = format!("github.com/rhysd/actionlint/cmd/actionlint@v{}", versions.tools.actionlint);
    let install = run(go)
        .args(["install", &module])
        .env("GOBIN", program.parent().context("a program has a directory")?)
        .env("GOTOOLCHAIN", format!("go{}", versions.go.version))
        .env("GOFLAGS", "")
        .env("CGO_ENABLED", "0");
    install.ok().await.context("actionlint is missing and could not be installed")
}

/// The directory for one version of a tool. Each version has its own, so an older checkout keeps its version.
fn root(tool: &str, version: &str) -> Result<PathBuf> {
    Ok(paths::cache()?.join("tools").join(format!("{tool}-{version}")))
}

/// Installs a component of the Rust toolchain if necessary. `subcommand` is cargo's name for the component.
async fn component(name: &str, subcommand: &str) -> Result<()> {
    if run("cargo").args([subcommand, "--version"]).succeeds().await {
        return Ok(());
    }
    installed(name, &["rustup", "component", "add", name]).await
}

/// Runs the installation command of `tool`.
async fn installed(tool: &str, command: &[&str]) -> Result<()> {
    let (program, arguments) = command.split_first().context("an install command begins with a program")?;
    println!("installing {tool}");
    let done = run(program).args(arguments).current_dir(paths::root()).ok().await;
    done.with_context(|| format!("{tool} is missing and could not be installed; install it: `{}`", command.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_missing_program_of_the_system_is_named_with_the_command_that_installs_it() {
        let versions = Versions::read().unwrap();
        let tool = Tool::System { program: "no-such-program", package: "such-a-package" };
        let error = tool.ensure(&versions).await.unwrap_err().to_string();
        assert!(
            error.contains("no-such-program is missing") && error.contains("apt-get install such-a-package"),
            "{error}"
        );
        assert!(Tool::System { program: "sh", package: "dash" }.ensure(&versions).await.is_ok());
    }

    #[tokio::test]
    async fn a_failed_installation_names_the_tool_and_the_command() {
        let error = format!("{:#}", installed("thing", &["sh", "-c", "echo no room >&2; exit 1"]).await.unwrap_err());
        for part in ["thing is missing", "`sh -c echo no room >&2; exit 1`", "no room"] {
            assert!(error.contains(part), "no `{part}` in: {error}");
        }
    }
}
