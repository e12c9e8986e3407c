//! An image for several architectures as an OCI image layout: a directory of blobs, which registries and engines take.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::Architecture;
use super::archive::Image;

/// Media types of the OCI image specification.
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// An image of one architecture.
#[derive(Debug, Clone)]
pub(crate) struct Variant {
    pub(crate) architecture: Architecture,
    pub(crate) image: Image,
}

/// A blob, as OCI's descriptor names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    pub(crate) media_type: String,
    /// `sha256:` and the digest in hexadecimal.
    pub(crate) digest: String,
    /// Bytes.
    pub(crate) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    annotations: Option<serde_json::Value>,
}

/// The platform of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

/// What a layout holds, in an order in which a registry takes it: a blob before whatever names it.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    /// Layers and configurations.
    pub(crate) blobs: Vec<Descriptor>,
    /// One manifest per architecture.
    pub(crate) manifests: Vec<Descriptor>,
    /// The index of the manifests.
    pub(crate) index: Descriptor,
}

/// Writes `variants` as one image with the name `tag` into `directory`. The same input produces the same bytes.
///
/// # Errors
/// Fails if a layer cannot be read or the layout cannot be written.
pub(crate) fn write(directory: &Path, tag: &str, variants: &[Variant]) -> Result<Layout> {
    let blobs = Blobs { directory };
    std::fs::create_dir_all(directory.join("blobs/sha256"))
        .with_context(|| format!("cannot create {}", directory.display()))?;
    let (mut parts, mut manifests) = (Vec::new(), Vec::new());
    for Variant { architecture, image } in variants {
        let mut layers = Vec::new();
        for layer in &image.layers {
            layers.push(blobs.put(LAYER, &compressed(layer.path())?)?);
        }
        let config = blobs.put(CONFIG, image.configuration(*architecture).as_bytes())?;
        let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers });
        let manifest = blobs.put(MANIFEST, manifest.to_string().as_bytes())?;
        let platform = Platform { architecture: architecture.name().into(), os: "linux".into() };
        manifests.push(Descriptor { platform: Some(platform), ..manifest });
        parts.extend(layers.into_iter().chain([config]));
    }
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
    let index = blobs.put(INDEX, index.to_string().as_bytes())?;
    let named = Descriptor { annotations: Some(json!({ "org.opencontainers.image.ref.name": tag })), ..index.clone() };
    blobs.file("index.json", &json!({ "schemaVersion": 2, "manifests": [named] }))?;
    blobs.file("oci-layout", &json!({ "imageLayoutVersion": "1.0.0" }))?;
    Ok(Layout { blobs: parts, manifests, index })
}

/// The bytes of a blob in the layout in `directory`.
///
/// # Errors
/// Fails if the blob cannot be read.
pub(crate) fn read(directory: &Path, blob: &Descriptor) -> Result<Vec<u8>> {
    let path = directory.join("blobs").join(blob.digest.replace(':', "/"));
    std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// The files of a layout.
struct Blobs<'a> {
    directory: &'a Path,
}

impl Blobs<'_> {
    fn put(&self, media_type: &str, bytes: &[u8]) -> Result<Descriptor> {
        let hexadecimal: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let path = self.directory.join("blobs/sha256").join(&hexadecimal);
        std::fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Descriptor {
            media_type: media_type.into(),
            digest: format!("sha256:{hexadecimal}"),
            size: bytes.len() as u64,
            platform: None,
            annotations: None,
        })
    }

    fn file(&self, name: &str, contents: &serde_json::Value) -> Result<()> {
        let path = self.directory.join(name);
        std::fs::write(&path, contents.to_string()).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// The file, compressed. The header has no time, so the bytes depend on the contents alone.
fn compressed(path: &Path) -> Result<Vec<u8>> {
    let contents = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut encoder = GzBuilder::new().mtime(0).write(Vec::new(), Compression::default());
    encoder.write_all(&contents)?;
    Ok(encoder.finish()?)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Read;

    use super::super::archive::{Layer, LayerFile};
    use super::*;

    /// An image with one file for each architecture.
    pub(crate) fn variants(directory: &Path) -> Vec<Variant> {
        let variant = |architecture: Architecture| {
            let program = directory.join(architecture.name());
            std::fs::write(&program, format!("a program for {}", architecture.name())).unwrap();
            let layer = directory.join(format!("{}.tar", architecture.name()));
            let layer = Layer::write(layer, &[LayerFile::executable("/probe", program)]).unwrap();
            let (entrypoint, user) = (vec!["/probe".into()], "65532:65532".into());
            Variant { architecture, image: Image { reference: String::new(), layers: vec![layer], entrypoint, user } }
        };
        Architecture::ALL.map(variant).into()
    }

    #[test]
    fn a_layout_leads_from_its_index_to_each_architectures_program() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("layout");
        let written = write(&path, "1.2", &variants(directory.path())).unwrap();
        let json = |bytes: Vec<u8>| serde_json::from_slice::<serde_json::Value>(&bytes).unwrap();
        let top = json(std::fs::read(path.join("index.json")).unwrap());
        assert_eq!(top["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"], "1.2");
        assert_eq!(top["manifests"][0]["digest"], written.index.digest);
        let index = json(read(&path, &written.index).unwrap());
        for (manifest, architecture) in index["manifests"].as_array().unwrap().iter().zip(Architecture::ALL) {
            assert_eq!(manifest["platform"], json!({ "architecture": architecture.name(), "os": "linux" }));
            let manifest = json(read(&path, &serde_json::from_value(manifest.clone()).unwrap()).unwrap());
            let config = json(read(&path, &serde_json::from_value(manifest["config"].clone()).unwrap()).unwrap());
            assert_eq!(config["architecture"], architecture.name());
            assert_eq!(config["config"]["User"], "65532:65532");
            let layer = read(&path, &serde_json::from_value(manifest["layers"][0].clone()).unwrap()).unwrap();
            let mut tar = Vec::new();
            flate2::read::GzDecoder::new(layer.as_slice()).read_to_end(&mut tar).unwrap();
            let digest: String = Sha256::digest(&tar).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{digest}"));
            let mut archive = tar::Archive::new(tar.as_slice());
            let mut program = archive.entries().unwrap().next().unwrap().unwrap();
            let mut contents = String::new();
            program.read_to_string(&mut contents).unwrap();
            assert_eq!(contents, format!("a program for {}", architecture.name()));
        }
        let again = write(&directory.path().join("again"), "1.2", &variants(directory.path())).unwrap();
        assert_eq!(again.index, written.index, "the same input must produce the same bytes");
    }
}
