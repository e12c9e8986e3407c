//! The node image: a Debian root file system, Kubernetes' binaries, and a containerd store. The store has every image
//! of the clusters unpacked, so a starting node imports no image.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use testcontainers::core::Mount;

use super::engine::{Container, Engine, LABEL};
use crate::artifacts::archive::{self, Image, Layer, LayerFile};
use crate::artifacts::{Artifacts, Key, Store, images};
use crate::paths;
use crate::progress::Progress;
use crate::versions::Versions;

/// Repository of the node image in the engine.
pub(crate) const REPOSITORY: &str = "meshproof-node";

/// A node image: its layers, and the images below it.
pub(crate) struct NodeImage {
    /// Reference in the engine.
    pub(crate) reference: String,
    /// References of the images below. If only the workloads or the agents change, `up` makes the next image from one of
    /// them.
    pub(crate) below: Vec<String>,
    layers: Vec<Layer>,
}

/// The parts of the lowest image.
struct Base<'a> {
    rootfs: &'a Path,
    kubernetes: &'a Path,
}

impl NodeImage {
    /// The complete image of a node, loaded into the engine.
    ///
    /// # Errors
    /// Fails if a part of the image is missing, or the engine refuses the image.
    pub(crate) async fn ensure(
        progress: &Progress,
        engine: &Engine,
        store: &Store,
        artifacts: &Artifacts,
        versions: &Versions,
    ) -> Result<Self> {
        progress.step(None, "node image", Self::build(engine, store, artifacts, versions)).await
    }

    async fn build(engine: &Engine, store: &Store, artifacts: &Artifacts, versions: &Versions) -> Result<Self> {
        let Artifacts { node_rootfs, parts, agents, programs, .. } = artifacts;
        let base = Self::base(store, engine, Base { rootfs: node_rootfs, kubernetes: &parts.kubernetes }).await?;
        let key = Key::new("platform 3").text(&format!("{parts:?} {:?}", versions.istio));
        let platform =
            base.with_images(store, engine, "platform", key, |output| images::platform(parts, versions, output));
        let platform = platform.await?;
        let key = programs.all().iter().fold(Key::new("workloads 2"), |key, program| key.text(&program.tag));
        let workloads = platform.with_images(store, engine, "workloads", key, |output| {
            programs.all().into_iter().map(|program| images::workload(program, output)).collect()
        });
        let workloads = workloads.await?;
        if agents.is_empty() {
            workloads.load(engine, store).await?;
            return Ok(workloads);
        }
        // On top of all others: a testbed without agents uses the image below.
        let tags = format!("{agents:?} {:?} {:?}", versions.istio, versions.network_policies);
        let key = Key::new("agents 1").text(&tags);
        let complete = workloads
            .with_images(store, engine, "agents", key, |output| images::agents(parts, agents, versions, output));
        let complete = complete.await?;
        complete.load(engine, store).await?;
        Ok(complete)
    }

    /// The root file system, Kubernetes' binaries and the project's scripts, without container images.
    async fn base(store: &Store, engine: &Engine, base: Base<'_>) -> Result<Self> {
        let files = paths::fixture("clusters/node");
        let key = Key::new("node base 1")
            .text(&base.rootfs.to_string_lossy())
            .text(&base.kubernetes.to_string_lossy())
            .directory(&files)?
            .finish();
        let directory = store
            .get("node-base", &key, |output| async move {
                let empty = output.join("empty");
                std::fs::write(&empty, "")?;
                Layer::write(
                    output.join("layer.tar"),
                    &[
                        LayerFile::executable("/etc/meshproof/bake", files.join("bake.sh")),
                        LayerFile::readable("/etc/meshproof/containerd.toml", files.join("containerd.toml")),
                        LayerFile::executable("/etc/meshproof/init", files.join("init.sh")),
                        LayerFile::executable("/etc/meshproof/link-store", files.join("link-store.sh")),
                        LayerFile::readable("/etc/meshproof/resolv.conf", empty),
                        LayerFile::executable("/usr/local/bin/kubeadm", base.kubernetes.join("kubeadm")),
                        LayerFile::executable("/usr/local/bin/kubectl", base.kubernetes.join("kubectl")),
                        LayerFile::executable("/usr/local/bin/kubelet", base.kubernetes.join("kubelet")),
                    ],
                )
                .map(drop)
            })
            .await?;
        let layers = vec![Layer::of(base.rootfs.join("rootfs.tar"))?, Layer::of(directory.join("layer.tar"))?];
        let node = Self { reference: format!("{REPOSITORY}:base-{key}"), below: Vec::new(), layers };
        node.load(engine, store).await?;
        Ok(node)
    }

    /// Extends this image with more images in its containerd store. `images` writes their layers into the directory of
    /// its argument.
    async fn with_images(
        &self,
        store: &Store,
        engine: &Engine,
        name: &str,
        key: Key,
        images: impl FnOnce(&Path) -> Result<Vec<Image>>,
    ) -> Result<Self> {
        let key = key.text(&self.reference).finish();
        let directory = store
            .get(&format!("node-{name}"), &key, |output| async move {
                self.load(engine, store).await?;
                self.bake(engine, &output, images).await
            })
            .await?;
        let mut below = self.below.clone();
        below.push(self.reference.clone());
        let mut layers = self.layers.clone();
        layers.push(Layer::of(directory.join("store.tar"))?);
        Ok(Self { reference: format!("{REPOSITORY}:{name}-{key}"), below, layers })
    }

    async fn bake(
        &self,
        engine: &Engine,
        output: &Path,
        images: impl FnOnce(&Path) -> Result<Vec<Image>>,
    ) -> Result<()> {
        let scratch = tempfile::tempdir_in(output)?;
        let archives = scratch.path().join("images");
        std::fs::create_dir(&archives)?;
        archive::write(&archives.join("images.tar"), &images(scratch.path())?)?;
        let bind = |from: &Path, to: &str| Mount::bind_mount(from.to_string_lossy(), to);
        let container = Container {
            name: format!("meshproof-bake-{}", std::process::id()),
            image: self.reference.clone(),
            entrypoint: "/usr/bin/tini".into(),
            command: vec!["-g".into(), "--".into(), "/etc/meshproof/bake".into()],
            environment: Vec::new(),
            labels: vec![(LABEL.into(), "bake".into())],
            network: None,
            ports: Vec::new(),
            mounts: vec![bind(&archives, "/images"), bind(output, "/out"), Mount::volume_mount("", "/var")],
            ready_line: None,
            restart: false,
        };
        engine.remove(&container.name).await?;
        let ended = async {
            engine.start(&container).await?;
            engine.wait(&container.name).await
        };
        let ended = ended.await;
        engine.remove(&container.name).await?;
        if ended? != 0 || !output.join("store.tar").exists() {
            let log = std::fs::read_to_string(output.join("bake.log")).unwrap_or_default();
            bail!("baking images into the node image failed:\n{}", crate::command::tail(&log));
        }
        Ok(())
    }

    /// Loads this image into the engine if necessary.
    ///
    /// # Errors
    /// Fails if a layer is missing from the cache or the engine refuses the archive.
    async fn load(&self, engine: &Engine, store: &Store) -> Result<()> {
        if engine.has_image(&self.reference).await? {
            return Ok(());
        }
        let scratch = store.scratch(".load-")?;
        let path: PathBuf = scratch.path().join("node.tar");
        let image = Image {
            reference: self.reference.clone(),
            layers: self.layers.clone(),
            entrypoint: vec!["/usr/bin/tini".into(), "-g".into(), "--".into(), "/etc/meshproof/init".into()],
            user: String::new(),
        };
        let written = path.clone();
        tokio::task::spawn_blocking(move || archive::write(&written, &[image])).await??;
        engine.load(&path).await.with_context(|| format!("cannot load {}", self.reference))
    }
}
