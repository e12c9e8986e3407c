//! Our own programs that run inside the clusters: `fixtures/workloads/*`.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::{Key, Store};
use crate::command::run;
use crate::paths;

/// Static, so that an image needs nothing else; glibc rather than musl for its allocator.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds the binary `binary` of the workload `workload`, fully static, and returns the directory that holds it.
///
/// # Errors
/// Where it does not compile.
pub(crate) async fn build(store: &Store, workload: &str, package: &str, binary: &str) -> Result<PathBuf> {
    let what = Output { name: binary, selected: &["--bin", binary], flags: "-C target-feature=+crt-static" };
    // A target directory apart: other flags in the workspace's own would build everything again.
    output(store, workload, package, what, "workload-target").await
}

/// Builds the shared library `file` of the workload `workload`, which another process loads, and returns the directory that
/// holds it.
///
/// # Errors
/// Where it does not compile.
pub(crate) async fn library(store: &Store, workload: &str, package: &str, file: &str) -> Result<PathBuf> {
    output(store, workload, package, Output { name: file, selected: &["--lib"], flags: "" }, "library-target").await
}

/// What a build makes, and how.
struct Output<'a> {
    name: &'a str,
    selected: &'a [&'a str],
    flags: &'a str,
}

async fn output(store: &Store, workload: &str, package: &str, what: Output<'_>, target: &str) -> Result<PathBuf> {
    let compiler = run("rustc").arg("--version").stdout().await.context("no Rust compiler")?;
    let key = Key::new("workload 1")
        .text(&compiler)
        .file(&paths::root().join("Cargo.toml"))?
        .file(&paths::root().join("Cargo.lock"))?
        .directory(&paths::fixture("workloads").join(workload))?
        .finish();
    store
        .get(what.name, &key, |output| async move {
            let target = paths::cache()?.join(target);
            run(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
                .args(["build", "--release", "--locked", "--package", package, "--target", TARGET])
                .args(what.selected)
                .arg("--target-dir")
                .arg(&target)
                .current_dir(paths::root())
                .env("RUSTFLAGS", what.flags)
                .ok()
                .await?;
            std::fs::copy(target.join(TARGET).join("release").join(what.name), output.join(what.name))?;
            Ok(())
        })
        .await
}
