//! Networks and volumes of the engine.

use std::collections::HashMap;

use anyhow::{Context, Result};
use ipnet::Ipv4Net;
use testcontainers::bollard::models::{Ipam, IpamConfig, NetworkCreateRequest, VolumeCreateRequest};
use testcontainers::bollard::query_parameters::{
    ListNetworksOptionsBuilder, ListVolumesOptionsBuilder, RemoveVolumeOptionsBuilder,
};

use super::{Engine, LABEL, is_missing};
use crate::progress;

impl Engine {
    /// The subnet of the network `name`, if the network exists.
    pub(crate) async fn network_subnet(&self, name: &str) -> Result<Option<String>> {
        match self.docker.inspect_network(name, None).await {
            Ok(network) => {
                let configs = network.ipam.and_then(|ipam| ipam.config).unwrap_or_default();
                Ok(configs.into_iter().find_map(|config| config.subnet))
            }
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot inspect network {name}")),
        }
    }

    /// The interface of the network `name` on the engine's machine, if the network exists.
    pub(crate) async fn bridge(&self, name: &str) -> Result<Option<String>> {
        match self.docker.inspect_network(name, None).await {
            Ok(network) => Ok(network.id.map(|id| format!("br-{}", id.chars().take(12).collect::<String>()))),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot inspect network {name}")),
        }
    }

    /// Creates a bridge network with `subnet`. The engine assigns only addresses from `range`.
    pub(crate) async fn create_network(&self, name: &str, subnet: Ipv4Net, range: Ipv4Net) -> Result<()> {
        progress::count_command();
        let config =
            IpamConfig { subnet: Some(subnet.to_string()), ip_range: Some(range.to_string()), ..Default::default() };
        let request = NetworkCreateRequest {
            name: name.into(),
            labels: Some(HashMap::from([(LABEL.to_owned(), "true".to_owned())])),
            ipam: Some(Ipam { config: Some(vec![config]), ..Default::default() }),
            ..Default::default()
        };
        let created = self.docker.create_network(request).await;
        created.with_context(|| format!("cannot create container network {name} ({subnet})")).map(drop)
    }

    /// Removes the networks and volumes with the label [`LABEL`].
    pub(crate) async fn remove_networks_and_volumes(&self) -> Result<()> {
        let filters = HashMap::from([("label", vec![LABEL])]);
        let networks = ListNetworksOptionsBuilder::default().filters(&filters).build();
        for network in self.docker.list_networks(Some(networks)).await? {
            let name = network.name.unwrap_or_default();
            self.docker.remove_network(&name).await.with_context(|| format!("cannot remove network {name}"))?;
        }
        let volumes = ListVolumesOptionsBuilder::default().filters(&filters).build();
        for volume in self.docker.list_volumes(Some(volumes)).await?.volumes.unwrap_or_default() {
            self.remove_volume(&volume.name).await?;
        }
        Ok(())
    }

    /// Creates a labelled volume. The engine fills the volume from the image at the first mount.
    pub(crate) async fn create_volume(&self, name: &str) -> Result<()> {
        progress::count_command();
        let request = VolumeCreateRequest {
            name: Some(name.into()),
            labels: Some(HashMap::from([(LABEL.to_owned(), "true".to_owned())])),
            ..Default::default()
        };
        self.docker.create_volume(request).await.with_context(|| format!("cannot create volume {name}")).map(drop)
    }

    pub(crate) async fn remove_volume(&self, name: &str) -> Result<()> {
        let options = RemoveVolumeOptionsBuilder::default().force(true).build();
        match self.docker.remove_volume(name, Some(options)).await {
            Err(error) if !is_missing(&error) => Err(error).with_context(|| format!("cannot remove volume {name}")),
            _ => Ok(()),
        }
    }
}
