//! One node: a container that runs a kubelet, configured by kubeadm.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use meshproof::{Seen, eventually};
use testcontainers::core::Mount;

use super::engine::{Container, Engine, LABEL};
use crate::artifacts::Key;
use crate::progress;

/// Label with the hash of all inputs of a node. If the hash differs, `up` makes the node anew.
const SPECIFICATION: &str = "meshproof.dev/specification";

/// Marker file in a node, which exists once kubeadm has finished.
const INITIALISED: &str = "/var/lib/meshproof-initialised";

/// Time limit for the engine to finish requests of a killed `up`.
const REMOVAL_BOUND: Duration = Duration::from_secs(60);

/// A node of the local provider.
pub(crate) struct Node {
    /// Name in Kubernetes.
    pub(crate) name: String,
    pub(crate) cluster: String,
    pub(crate) engine: Engine,
    pub(crate) image: String,
    /// The container network.
    pub(crate) network: String,
    /// Input of the node's `init.sh`.
    pub(crate) environment: Vec<(&'static str, String)>,
    /// Ports to publish on the host's loopback interface.
    pub(crate) ports: Vec<u16>,
    /// kubeadm's configuration.
    pub(crate) kubeadm: String,
    /// Whether this run has made the container.
    pub(crate) made: AtomicBool,
}

/// Whether a node's container was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Fresh,
    Kept,
}

impl Node {
    /// Name of the container and of its volume.
    pub(crate) fn container(&self) -> String {
        container_of(&self.name)
    }

    /// Starts the node's container. Replaces a container that is half made or of another specification.
    ///
    /// # Errors
    /// Fails if the engine refuses.
    pub(crate) async fn ensure_container(&self) -> Result<State> {
        if self.made.load(Ordering::Relaxed) {
            return Ok(State::Fresh);
        }
        let name = self.container();
        let specification = self.specification();
        if let Some(details) = self.engine.inspect(&name).await? {
            let labels = details.config.and_then(|config| config.labels).unwrap_or_default();
            if labels.get(SPECIFICATION) == Some(&specification) {
                self.engine.start_again(&name).await?;
                if self.engine.exec(&name, &["test", "-f", INITIALISED]).await.is_ok() {
                    progress::mark_cached();
                    return Ok(State::Kept);
                }
            }
        }
        self.make_container(specification).await?;
        Ok(State::Fresh)
    }

    /// Replaces the node's container by a new one.
    ///
    /// # Errors
    /// Fails if the engine refuses.
    pub(crate) async fn make_anew(&self) -> Result<()> {
        self.make_container(self.specification()).await
    }

    async fn make_container(&self, specification: String) -> Result<()> {
        self.remove().await?;
        let name = self.container();
        self.engine.create_volume(&name).await?;
        let container = Container {
            image: self.image.clone(),
            entrypoint: "/usr/bin/tini".into(),
            command: vec!["-g".into(), "--".into(), "/etc/meshproof/init".into()],
            environment: self.environment.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect(),
            labels: vec![(LABEL.into(), self.cluster.clone()), (SPECIFICATION.into(), specification)],
            network: Some(self.network.clone()),
            ports: self.ports.clone(),
            mounts: vec![Mount::volume_mount(&name, "/var")],
            ready_line: Some("node: ready for kubeadm"),
            restart: true,
            name,
        };
        self.engine.start(&container).await?;
        self.made.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Runs `kubeadm init` or `kubeadm join` with the node's configuration and these arguments.
    ///
    /// # Errors
    /// Fails if kubeadm does. The error has the end of its output.
    pub(crate) async fn kubeadm(&self, command: &str, arguments: &[&str]) -> Result<()> {
        self.write("/etc/meshproof/kubeadm.yaml", &self.kubeadm).await?;
        let name = self.container();
        // kubeadm's checks look for systemd, swap and the kernel's configuration, none of which a container has.
        let mut line =
            vec!["kubeadm", command, "--config=/etc/meshproof/kubeadm.yaml", "--ignore-preflight-errors=all"];
        line.extend(arguments);
        self.engine.exec(&name, &line).await?;
        self.engine.exec(&name, &["touch", INITIALISED]).await.map(drop)
    }

    /// Writes a file that only root can read into the node.
    ///
    /// # Errors
    /// Fails if the node does not run.
    pub(crate) async fn write(&self, path: &str, contents: &str) -> Result<()> {
        let script = "umask 077 && printf %s \"$1\" > \"$2\"";
        self.engine.exec(&self.container(), &["sh", "-c", script, "sh", contents, path]).await.map(drop)
    }

    /// Removes the container and its volume.
    ///
    /// # Errors
    /// Fails if the engine does not remove them in time.
    pub(crate) async fn remove(&self) -> Result<()> {
        remove(&self.engine, &self.container()).await
    }

    fn specification(&self) -> String {
        specification(&self.image, &self.kubeadm, &self.environment)
    }
}

/// Removes a node's container and its volume.
///
/// # Errors
/// Fails if the engine does not remove them in time.
pub(crate) async fn remove(engine: &Engine, container: &str) -> Result<()> {
    // A killed `up` may have requested a container that the engine is still making. The container's name is not
    // known yet, but its volume is already in use.
    let gone = eventually("the old node to be gone", REMOVAL_BOUND, async || -> Result<Seen<()>> {
        engine.remove(container).await?;
        engine.remove_volume(container).await?;
        Ok(Seen::Yes(()))
    });
    Ok(gone.await?)
}

/// Hash of all inputs of a node.
fn specification(image: &str, kubeadm: &str, environment: &[(&'static str, String)]) -> String {
    let key = Key::new("node 2").text(image).text(kubeadm);
    environment.iter().fold(key, |key, (name, value)| key.text(name).text(value)).finish()
}

/// Name of the container of the node `name`.
pub(crate) fn container_of(name: &str) -> String {
    format!("meshproof-{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_input_of_a_node_is_part_of_its_specification() {
        let environment = |address: &str| vec![("NODE_ADDRESS", address.to_owned())];
        let first = specification("image:1", "kubeadm", &environment("10.0.0.1"));
        // If this hash changes, the next `up` makes every node of every testbed anew.
        assert_eq!(first, "72071efca5766962");
        for other in [
            specification("image:2", "kubeadm", &environment("10.0.0.1")),
            specification("image:1", "other", &environment("10.0.0.1")),
            specification("image:1", "kubeadm", &environment("10.0.0.2")),
        ] {
            assert_ne!(first, other);
        }
    }
}
