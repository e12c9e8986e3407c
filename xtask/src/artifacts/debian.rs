//! Builds root file systems from Debian packages.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::{Key, Store};
use crate::command::run;

/// Files that no node and no pod reads.
const LEFT_OUT: [&str; 5] =
    ["/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*", "/usr/share/lintian/*"];

/// Builds a root file system of `suite` with `packages`. The returned directory has the file system (`rootfs.tar`) and
/// the list of the installed versions (`packages.txt`).
///
/// # Errors
/// Fails if mmdebstrap is missing or the package archive cannot be reached.
pub(crate) async fn rootfs(store: &Store, suite: &str, name: &str, packages: &[String]) -> Result<PathBuf> {
    let key = Key::new("rootfs 1").text(suite).text(&packages.join(" ")).finish();
    store
        .get(name, &key, |output| async move {
            let list = output.join("packages.txt");
            let hook = format!(
                "dpkg-query --admindir=\"$1/var/lib/dpkg\" --show > '{}' && rm -rf \"$1\"/var/cache/apt/* \"$1\"/var/lib/apt/lists/*",
                list.display()
            );
            let mut command = run("mmdebstrap").arg("--variant=minbase");
            command = command.arg(format!("--include={}", packages.join(",")));
            for path in LEFT_OUT {
                command = command.arg(format!("--dpkgopt=path-exclude={path}"));
            }
            command
                .arg(format!("--customize-hook={hook}"))
                .arg(suite)
                .arg(output.join("rootfs.tar"))
                .ok()
                .await
                .context("cannot assemble a Debian root file system: is the package archive reachable?")
        })
        .await
}

/// Debian's Go package, unpacked but not installed. Debian's Go can fetch the pinned Go by its checksum.
///
/// # Errors
/// Fails as [`rootfs`] does.
pub(crate) async fn go(store: &Store, suite: &str) -> Result<PathBuf> {
    const PACKAGE: &str = "golang-1.24-go";
    let key = Key::new("go bootstrap 1").text(suite).text(PACKAGE).finish();
    let directory = store.get("go-bootstrap", &key, |output| async move {
        let include = format!("--include={PACKAGE}");
        let unpacked = run("mmdebstrap").args(["--variant=extract", &include, "--format=directory", suite]);
        unpacked
            .arg(output.join("root"))
            .ok()
            .await
            .context("cannot fetch Debian's Go: is the package archive reachable?")
    });
    Ok(directory.await?.join("root/usr/lib/go-1.24/bin/go"))
}
