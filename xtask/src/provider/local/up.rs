//! Makes the clusters, from any earlier state.

use std::path::Path;

use anyhow::{Context, Result, bail};
use ipnet::Ipv4Net;

use super::addresses::{self, Halves};
use super::cluster::{Common, LocalCluster};
use super::engine::{Engine, LABEL};
use super::image::{self, NodeImage};
use super::leftovers;
use super::prerequisites::nix_is_root;
use crate::artifacts::{Artifacts, Store};
use crate::declaration::Declaration;
use crate::paths;
use crate::progress::{self, Progress};
use crate::versions::Versions;

/// Name of the container network.
const NETWORK: &str = "meshproof";

/// File in the testbed directory with the path of the checkout that owns the containers.
const OWNER: &str = "owner";

/// The provider during `up`.
pub(crate) struct Local<'a> {
    engine: Engine,
    declaration: &'a Declaration,
}

impl<'a> Local<'a> {
    /// Connects to the engine.
    ///
    /// # Errors
    /// Fails if no engine answers.
    pub(crate) async fn connect(declaration: &'a Declaration) -> Result<Self> {
        Ok(Self { engine: Engine::connect().await?, declaration })
    }

    /// Takes over an existing testbed: resumes paused containers, and cleans up after a killed engine.
    ///
    /// # Errors
    /// Fails if the containers belong to another checkout's testbed. Nothing is changed in that case.
    pub(crate) async fn take_over(&self, progress: &Progress, directory: &Path) -> Result<()> {
        if !directory.join(OWNER).exists() {
            let containers = self.engine.containers().await?;
            if !containers.is_empty() {
                bail!(
                    "containers of another checkout's testbed exist (label {LABEL}): {}; run `cargo xtask testbed \
                     down` there, or `cargo xtask testbed down --all` here",
                    containers.join(", ")
                );
            }
        }
        self.engine.resume_all().await?;
        if nix_is_root()
            && let Err(error) = leftovers::unplug(progress, &self.engine, NETWORK).await
        {
            // It passes by itself within two minutes.
            tracing::warn!("what a killed engine left stays: {error:#}");
        }
        Ok(())
    }

    /// The node image, loaded into the engine.
    ///
    /// # Errors
    /// Fails as [`NodeImage::ensure`] does.
    pub(crate) async fn image(
        &self,
        progress: &Progress,
        store: &Store,
        artifacts: &Artifacts,
        versions: &Versions,
    ) -> Result<NodeImage> {
        NodeImage::ensure(progress, &self.engine, store, artifacts, versions).await
    }

    /// Makes the network and returns the clusters. Each cluster can then be brought [up](LocalCluster::up).
    ///
    /// # Errors
    /// Fails if the network cannot be made, or a fixture cannot be filled in.
    pub(crate) async fn clusters(
        &self,
        progress: &Progress,
        image: &NodeImage,
        versions: &Versions,
        directory: &Path,
    ) -> Result<Vec<LocalCluster>> {
        let subnet = progress.step(None, "container network", self.network()).await?;
        let halves = Halves::of(subnet)?;
        let count = self.declaration.clusters.len();
        let addresses = (0..count).map(|number| halves.cluster(number)).collect::<Result<Vec<_>>>()?;
        let common = Common {
            engine: &self.engine,
            image: &image.reference,
            network: NETWORK,
            versions,
            declaration: self.declaration,
            addresses: &addresses,
        };
        let clusters = (0..count).map(|number| LocalCluster::new(&common, number)).collect::<Result<_>>()?;
        let owner = directory.join(OWNER);
        std::fs::write(&owner, paths::root().to_string_lossy().as_bytes())
            .with_context(|| format!("cannot write {}", owner.display()))?;
        Ok(clusters)
    }

    /// Removes node images that neither `image` nor a container needs.
    ///
    /// # Errors
    /// Fails if the images cannot be listed.
    pub(crate) async fn remove_other_images(&self, image: &NodeImage) -> Result<()> {
        let keep: Vec<&str> = image.below.iter().chain([&image.reference]).map(String::as_str).collect();
        self.engine.remove_other_images(image::REPOSITORY, &keep).await
    }

    /// The subnet of the container network. Makes the network if it does not exist.
    async fn network(&self) -> Result<Ipv4Net> {
        if let Some(subnet) = self.engine.network_subnet(NETWORK).await? {
            progress::mark_cached();
            return subnet.parse().with_context(|| format!("the engine's network {NETWORK} has the subnet `{subnet}`"));
        }
        let subnet = addresses::free(&self.declaration.networks)?;
        self.engine.create_network(NETWORK, subnet, Halves::of(subnet)?.engine).await?;
        Ok(subnet)
    }
}
