//! Writes container images without an engine. A layer is a tar file. An image is a list of layers and a configuration.
//! The archive has the format of `docker save`, which both the engine and containerd read.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use super::Architecture;

/// A layer: an uncompressed tar file and its digest.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    path: PathBuf,
    digest: String,
}

/// A file of a layer.
pub(crate) struct LayerFile {
    /// Absolute path of the file in the image.
    at: String,
    /// File on this machine.
    source: PathBuf,
    mode: u32,
}

impl LayerFile {
    /// A file at `at` in the image that every user can read.
    pub(crate) fn readable(at: impl Into<String>, source: impl Into<PathBuf>) -> Self {
        Self { at: at.into(), source: source.into(), mode: 0o644 }
    }

    /// A program at `at` in the image that every user can run.
    pub(crate) fn executable(at: impl Into<String>, source: impl Into<PathBuf>) -> Self {
        Self { at: at.into(), source: source.into(), mode: 0o755 }
    }
}

impl Layer {
    /// The uncompressed tar file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Uses the tar file at `path` as a layer. Stores the layer's digest beside the file, because hashing a gigabyte
    /// takes seconds.
    pub(crate) fn of(path: PathBuf) -> Result<Self> {
        let noted = path.with_extension("tar.sha256");
        if let Ok(digest) = std::fs::read_to_string(&noted) {
            return Ok(Self { path, digest });
        }
        let mut file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        loop {
            let count = file.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            hash.update(&buffer[..count]);
        }
        let digest: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let mut file = NamedTempFile::new_in(path.parent().unwrap_or(Path::new(".")))?;
        file.write_all(digest.as_bytes())?;
        file.persist(&noted).with_context(|| format!("cannot write {}", noted.display()))?;
        Ok(Self { path, digest })
    }

    /// Writes a layer that consists of single files. The same input produces the same bytes.
    pub(crate) fn write(path: PathBuf, files: &[LayerFile]) -> Result<Self> {
        let output = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        let mut builder = tar::Builder::new(BufWriter::new(output));
        for LayerFile { at, source, mode } in files {
            let mut file = File::open(source).with_context(|| format!("cannot open {}", source.display()))?;
            let mut header = tar::Header::new_gnu();
            header.set_size(file.metadata()?.len());
            header.set_mode(*mode);
            header.set_mtime(0);
            builder.append_data(&mut header, at.trim_start_matches('/'), &mut file)?;
        }
        builder.into_inner()?.flush()?;
        Self::of(path)
    }
}

/// An image to be written.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    /// Repository and tag.
    pub(crate) reference: String,
    pub(crate) layers: Vec<Layer>,
    pub(crate) entrypoint: Vec<String>,
    /// Numeric user and group. `""` for root.
    pub(crate) user: String,
}

impl Image {
    /// The image's configuration for machines of an architecture, JSON.
    pub(super) fn configuration(&self, architecture: Architecture) -> String {
        let digests: Vec<String> = self.layers.iter().map(|layer| format!("sha256:{}", layer.digest)).collect();
        json!({
            "architecture": architecture.name(),
            "os": "linux",
            "config": {
                "Entrypoint": self.entrypoint,
                "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
                "User": self.user,
                "WorkingDir": "/",
            },
            "rootfs": {"type": "layers", "diff_ids": digests},
        })
        .to_string()
    }
}

/// Writes `images` into one archive at `path`. A layer that several images share is written once.
///
/// # Errors
/// Fails if a layer cannot be read or the archive cannot be written.
pub(crate) fn write(path: &Path, images: &[Image]) -> Result<()> {
    let output = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    let mut builder = tar::Builder::new(BufWriter::with_capacity(1 << 20, output));
    let mut written = std::collections::BTreeSet::new();
    let mut manifest = Vec::new();
    let append = |builder: &mut tar::Builder<_>, name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, bytes)
    };
    for image in images {
        for layer in &image.layers {
            if written.insert(&layer.digest) {
                let mut file = File::open(&layer.path).with_context(|| format!("no layer {}", layer.path.display()))?;
                let mut header = tar::Header::new_gnu();
                header.set_size(file.metadata()?.len());
                header.set_mode(0o644);
                builder.append_data(&mut header, format!("{}.tar", layer.digest), &mut file)?;
            }
        }
        let configuration = image.configuration(Architecture::Amd64);
        let digest: String =
            Sha256::digest(configuration.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        let name = format!("{digest}.json");
        append(&mut builder, &name, configuration.as_bytes())?;
        manifest.push(json!({
            "Config": name,
            "RepoTags": [image.reference],
            "Layers": image.layers.iter().map(|layer| format!("{}.tar", layer.digest)).collect::<Vec<_>>(),
        }));
    }
    append(&mut builder, "manifest.json", serde_json::to_string(&manifest)?.as_bytes())?;
    builder.into_inner()?.flush().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_layer_is_written_once_and_every_image_is_listed() {
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("binary");
        std::fs::write(&source, "contents").unwrap();
        let files = [LayerFile::executable("/usr/bin/x", &source)];
        let layer = Layer::write(directory.path().join("layer.tar"), &files).unwrap();
        let again = Layer::write(directory.path().join("again.tar"), &files).unwrap();
        assert_eq!(layer.digest, again.digest, "a layer's bytes depend on something other than its input");

        let image = |name: &str| Image {
            reference: format!("meshproof.local/{name}:1"),
            layers: vec![layer.clone()],
            entrypoint: vec!["/usr/bin/x".into()],
            user: String::new(),
        };
        let path = directory.path().join("images.tar");
        write(&path, &[image("a"), image("b")]).unwrap();
        let mut archive = tar::Archive::new(File::open(path).unwrap());
        let names: Vec<String> =
            archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect();
        assert_eq!(names.iter().filter(|name| **name == format!("{}.tar", layer.digest)).count(), 1, "{names:?}");
        assert_eq!(names.iter().filter(|name| name.ends_with(".json")).count(), 3, "{names:?}");
    }
}
