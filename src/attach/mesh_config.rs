//! The part of Istio's mesh configuration that a record has.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use serde::Deserialize;

use super::control_planes::ControlPlane;
use super::error::Result;
use super::reader::Reader;
use crate::record::HostPort;

/// Istio's `MeshConfig`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct MeshConfig {
    pub(super) trust_domain: Option<String>,
    pub(super) trust_domain_aliases: Vec<String>,
    pub(super) default_config: ProxyConfig,
    pub(super) ca_certificates: Vec<CertificateData>,
    /// The gateways of networks, from the key beside the mesh configuration.
    #[serde(skip)]
    pub(super) networks: BTreeMap<String, Network>,
}

/// Istio's `ProxyConfig`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ProxyConfig {
    pub(super) mesh_id: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct CertificateData {
    pem: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct MeshNetworks {
    networks: BTreeMap<String, Network>,
}

/// A network in `meshNetworks`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Network {
    gateways: Vec<NetworkGateway>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct NetworkGateway {
    address: Option<String>,
    port: u16,
}

impl MeshConfig {
    /// The configuration of a control plane. Empty if it may not be read.
    ///
    /// # Errors
    /// [`Error::Cluster`](super::Error::Cluster).
    pub(super) async fn read(reader: &Reader, plane: &ControlPlane) -> Result<Self> {
        let name = plane.revision().map_or_else(|| "istio".into(), |revision| format!("istio-{revision}"));
        let so = "trust domain aliases and meshNetworks are unknown";
        let found: Option<Option<ConfigMap>> = reader.get(&plane.namespace(), &name, so).await?;
        let Some(found) = found else { return Ok(Self::default()) };
        let data = found.and_then(|found| found.data).unwrap_or_default();
        if data.is_empty() {
            reader.note(format!("ConfigMap {}/{name}", plane.namespace()), "it is not there", so);
        }
        Self::parse(&data).or_else(|reason| {
            reader.note(format!("ConfigMap {}/{name}", plane.namespace()), reason, so);
            Ok(Self::default())
        })
    }

    fn parse(data: &BTreeMap<String, String>) -> std::result::Result<Self, String> {
        let text = |key: &str| data.get(key).map(String::as_str).filter(|text| !text.trim().is_empty());
        let mut config: Self = match text("mesh") {
            Some(mesh) => serde_saphyr::from_str(mesh).map_err(|error| format!("`mesh` is unreadable: {error}"))?,
            None => Self::default(),
        };
        let networks = text("meshNetworks").map(serde_saphyr::from_str::<MeshNetworks>).transpose();
        let networks = networks.map_err(|error| format!("`meshNetworks` is unreadable: {error}"))?;
        config.networks = networks.unwrap_or_default().networks;
        Ok(config)
    }

    /// Roots that the mesh trusts beside its own, in PEM.
    pub(super) fn roots(&self) -> impl Iterator<Item = &str> {
        self.ca_certificates.iter().filter_map(|data| data.pem.as_deref())
    }

    /// The address by which the mesh reaches a network.
    pub(super) fn address_of(&self, network: &str) -> Option<HostPort> {
        let gateways = &self.networks.get(network)?.gateways;
        gateways.iter().find_map(|gateway| Some(HostPort::new(gateway.address.clone()?, gateway.port)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_is_read_with_its_unknown_fields_and_its_networks() {
        let mesh = "defaultConfig:\n  meshId: corp\n  drainDuration: 2s\ntrustDomain: corp.example\n\
                    trustDomainAliases: [old.example]\nenablePrometheusMerge: true\ncaCertificates:\n- pem: ROOT\n";
        let networks = "networks:\n  vpc-west:\n    endpoints:\n    - fromRegistry: west\n    gateways:\n    \
                        - address: 192.0.2.7\n      port: 31443\n";
        let data = [("mesh", mesh), ("meshNetworks", networks)].map(|(key, text)| (key.to_owned(), text.to_owned()));
        let config = MeshConfig::parse(&data.into()).unwrap();
        assert_eq!(config.trust_domain.as_deref(), Some("corp.example"));
        assert_eq!(config.trust_domain_aliases, ["old.example"]);
        assert_eq!(config.default_config.mesh_id.as_deref(), Some("corp"));
        assert_eq!(config.roots().collect::<Vec<_>>(), ["ROOT"]);
        assert_eq!(config.address_of("vpc-west"), Some(HostPort::new("192.0.2.7", 31443)));
        assert_eq!(config.address_of("vpc-east"), None);
    }

    #[test]
    fn an_empty_configuration_leaves_everything_open() {
        let empty = [("mesh".to_owned(), String::new()), ("meshNetworks".to_owned(), "networks: {}".to_owned())];
        let config = MeshConfig::parse(&empty.into()).unwrap();
        assert!(config.trust_domain.is_none() && config.networks.is_empty());
    }
}
