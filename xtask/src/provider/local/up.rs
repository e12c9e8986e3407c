//! Makes the clusters, from any earlier state.

use std::path::Path;

use anyhow::{Context, Result, bail};
use ipnet::Ipv4Net;

use super::addresses::{self, Halves};
use super::definition::Definition;
use super::engine::{Engine, LABEL};
use super::image::{self, NodeImage};
use super::node::Node;
use crate::artifacts::{Artifacts, Store};
use crate::paths;
use crate::progress::{self, Progress};
use crate::versions::Versions;

/// Name of the container network.
const NETWORK: &str = "meshproof";

/// File in the testbed directory with the path of the checkout that owns the containers.
const OWNER: &str = "owner";

/// The provider during `up`.
pub(crate) struct Local {
    engine: Engine,
    definition: Definition,
}

impl Local {
    /// Reads the declaration and connects to the engine.
    ///
    /// # Errors
    /// Fails if the declaration is malformed or no engine answers.
    pub(crate) async fn connect() -> Result<Self> {
        let definition = Definition::read()?;
        Ok(Self { engine: Engine::connect().await?, definition })
    }

    /// Names of the clusters.
    pub(crate) fn clusters(&self) -> Vec<&str> {
        self.definition.names()
    }

    /// Takes over an existing testbed: resumes paused containers.
    ///
    /// # Errors
    /// Fails if the containers belong to another checkout's testbed. Nothing is changed in that case.
    pub(crate) async fn take_over(&self, directory: &Path) -> Result<()> {
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
        self.engine.resume_all().await
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

    /// Makes the network and returns the nodes. Each node can then be brought [up](Node::up).
    ///
    /// # Errors
    /// Fails if the network cannot be made, or a fixture cannot be filled in.
    pub(crate) async fn nodes(
        &self,
        progress: &Progress,
        image: &NodeImage,
        versions: &Versions,
        directory: &Path,
    ) -> Result<Vec<Node>> {
        let subnet = progress.step(None, "container network", self.network()).await?;
        let halves = Halves::of(subnet)?;
        let nodes = self.definition.cluster.iter().enumerate().map(|(number, cluster)| {
            Node::new(&self.engine, cluster.clone(), halves.node(number)?, &image.reference, NETWORK, versions)
        });
        let nodes = nodes.collect::<Result<_>>()?;
        let owner = directory.join(OWNER);
        std::fs::write(&owner, paths::root().to_string_lossy().as_bytes())
            .with_context(|| format!("cannot write {}", owner.display()))?;
        Ok(nodes)
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
            return addresses::parse(&subnet);
        }
        let subnet = addresses::free(&self.definition.networks)?;
        self.engine.create_network(NETWORK, subnet, Halves::of(subnet)?.engine).await?;
        Ok(subnet)
    }
}
