//! Where the manifests of a side come from: a directory, a kustomization, or either at a revision of git.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::error::{Error, Result};
use super::manifests::Manifests;

/// Beginning of a source at a revision of git.
const GIT: &str = "git:";

/// Files that make a directory a kustomization.
const KUSTOMIZATIONS: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// Reads the manifests of `source`: a directory, or `git:REVISION:DIRECTORY`, from the root of the repository that the
/// current directory is in. A kustomization is built by `kustomize` or `kubectl`.
///
/// # Errors
/// [`Error::Source`]: there is no such directory or revision, or a program is missing. [`Error::Manifest`].
pub fn read(source: &str) -> Result<Manifests> {
    let place = Place::open(source)?;
    let directory = place.directory();
    if !directory.is_dir() {
        return Err(failed(source, place.missing()));
    }
    if KUSTOMIZATIONS.iter().any(|file| directory.join(file).is_file()) {
        return Manifests::parse(&built(source, &directory)?, &directory);
    }
    Manifests::read(&directory)
}

/// A directory, which may be a copy.
enum Place {
    Here(PathBuf),
    Copy { root: TempDir, below: PathBuf },
}

impl Place {
    fn open(source: &str) -> Result<Self> {
        let Some(rest) = source.strip_prefix(GIT) else { return Ok(Self::Here(source.into())) };
        let parts = rest.split_once(':').filter(|(revision, path)| !revision.is_empty() && !path.is_empty());
        let Some((revision, path)) = parts else {
            return Err(failed(source, "write git:REVISION:DIRECTORY, for example git:main:mesh/base".into()));
        };
        // A revision that begins with a dash would be an option.
        if revision.starts_with('-') {
            return Err(failed(source, format!("`{revision}` is no revision")));
        }
        let root = tempfile::tempdir().map_err(|error| failed(source, error.to_string()))?;
        // The whole tree: a kustomization may refer to a base beside its directory.
        let top = run(source, "git", &["rev-parse", "--show-toplevel"])?;
        let top = String::from_utf8_lossy(&top).trim().to_owned();
        let archive = run(source, "git", &["-C", &top, "archive", "--format=tar", revision])?;
        let unpacked = tar::Archive::new(archive.as_slice()).unpack(root.path());
        unpacked.map_err(|error| failed(source, format!("the tree of {revision} cannot be unpacked: {error}")))?;
        Ok(Self::Copy { root, below: path.trim_start_matches('/').into() })
    }

    /// What to say where there is no such directory. The error names the source.
    fn missing(&self) -> String {
        match self {
            Self::Here(_) => "it is no directory: give one with manifests or a kustomization".into(),
            Self::Copy { below, .. } => {
                format!("the revision has no directory {}: give it from the root of the repository", below.display())
            }
        }
    }

    fn directory(&self) -> PathBuf {
        match self {
            Self::Here(path) => path.clone(),
            Self::Copy { root, below } => root.path().join(below),
        }
    }
}

/// The manifests of a kustomization.
fn built(source: &str, directory: &Path) -> Result<String> {
    let path = directory.to_string_lossy();
    for (program, arguments) in [("kustomize", ["build", &path]), ("kubectl", ["kustomize", &path])] {
        if is_there(program) {
            let built = run(source, program, &arguments)?;
            return String::from_utf8(built).map_err(|error| failed(source, error.to_string()));
        }
    }
    Err(failed(
        source,
        "it is a kustomization, and neither `kustomize` nor `kubectl` is on the path: install one".into(),
    ))
}

fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

fn run(source: &str, program: &str, arguments: &[&str]) -> Result<Vec<u8>> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| failed(source, format!("`{program}` cannot be run: {error}")))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(failed(source, format!("`{program} {}` failed: {}", arguments.join(" "), said.trim())))
}

fn failed(source: &str, reason: String) -> Error {
    Error::Source { source_text: source.into(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: &str = "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}";

    #[test]
    fn a_directory_is_read_and_what_is_none_is_named() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("a.yaml"), MAP).unwrap();
        std::fs::write(directory.path().join("README.md"), "no manifest").unwrap();
        assert_eq!(read(directory.path().to_str().unwrap()).unwrap().len(), 1);
        let error = read("no/such/directory").unwrap_err();
        assert!(error.is_usage());
        let words = "no/such/directory: it is no directory: give one with manifests or a kustomization";
        assert_eq!(error.to_string(), words);
    }

    #[test]
    fn a_directory_of_a_revision_is_read_as_it_was() {
        // The tree of the commit holds this file's directory, without manifests.
        let manifests = read("git:HEAD:fixtures/clusters/node").unwrap();
        assert!(manifests.is_empty());
        for (wrong, said) in [
            ("git:HEAD", "git:REVISION:DIRECTORY"),
            ("git:--exec=x:a", "no revision"),
            ("git:no-such-revision:a", "no-such-revision"),
            ("git:HEAD:no/such", "git:HEAD:no/such: the revision has no directory no/such: give it from the root"),
        ] {
            let error = read(wrong).unwrap_err();
            assert!(error.is_usage() && error.to_string().contains(said), "{wrong}: {error}");
        }
    }
}
