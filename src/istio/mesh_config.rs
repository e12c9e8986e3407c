//! The part of a control plane's mesh configuration that is read.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use serde::Deserialize;

use super::{Error, Result};
use crate::cluster::Cluster;
use crate::policy::authorization::{AuthorizerKind, Normalization, Over};
use crate::record::HostPort;

/// Istio's `MeshConfig`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct MeshConfig {
    pub(crate) trust_domain: Option<String>,
    pub(crate) trust_domain_aliases: Vec<String>,
    pub(crate) default_config: ProxyConfig,
    ca_certificates: Vec<CertificateData>,
    path_normalization: PathNormalization,
    extension_providers: Vec<ExtensionProvider>,
    /// The gateways of networks, from the key beside the mesh configuration.
    #[serde(skip)]
    networks: BTreeMap<String, Network>,
}

/// Istio's `ProxyConfig`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ProxyConfig {
    pub(crate) mesh_id: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct CertificateData {
    pem: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct PathNormalization {
    normalization: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ExtensionProvider {
    name: String,
    envoy_ext_authz_http: Option<ExternalAuthorization>,
    envoy_ext_authz_grpc: Option<ExternalAuthorization>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExternalAuthorization {
    service: String,
    port: u16,
    #[serde(default)]
    fail_open: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct MeshNetworks {
    networks: BTreeMap<String, Network>,
}

/// A network in `meshNetworks`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Network {
    gateways: Vec<NetworkGateway>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct NetworkGateway {
    address: Option<String>,
    port: u16,
}

impl MeshConfig {
    /// Name of the ConfigMap of a revision. `None` is the default revision.
    pub(crate) fn config_map(revision: Option<&str>) -> String {
        revision.map_or_else(|| "istio".into(), |revision| format!("istio-{revision}"))
    }

    /// Reads the data of the ConfigMap.
    ///
    /// # Errors
    /// The unreadable key, and why.
    pub(crate) fn parse(data: &BTreeMap<String, String>) -> std::result::Result<Self, String> {
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
    pub(crate) fn roots(&self) -> impl Iterator<Item = &str> {
        self.ca_certificates.iter().filter_map(|data| data.pem.as_deref())
    }

    /// The address by which the mesh reaches a network.
    pub(crate) fn address_of(&self, network: &str) -> Option<HostPort> {
        let gateways = &self.networks.get(network)?.gateways;
        gateways.iter().find_map(|gateway| Some(HostPort::new(gateway.address.clone()?, gateway.port)))
    }

    fn authorization(self) -> std::result::Result<AuthorizationConfig, String> {
        let normalization = self.path_normalization.normalization.map(|name| name.parse()).transpose()?;
        let authorizer = |provider: ExtensionProvider| {
            let over = if provider.envoy_ext_authz_http.is_some() { Over::Http } else { Over::Grpc };
            let declared = provider.envoy_ext_authz_http.or(provider.envoy_ext_authz_grpc)?;
            let ExternalAuthorization { service, port, fail_open } = declared;
            let kind = AuthorizerKind { over, fails_open: fail_open };
            Some(Authorizer { provider: provider.name, address: AuthorizerAddress { service, port }, kind })
        };
        let authorizers = self.extension_providers.into_iter().filter_map(authorizer).collect();
        Ok(AuthorizationConfig { normalization: normalization.unwrap_or_default(), authorizers })
    }
}

/// Where an external authorizer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorizerAddress {
    /// Host name of its service.
    pub service: String,
    /// Port.
    pub port: u16,
}

/// What authorization depends on in a mesh configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorizationConfig {
    /// How proxies normalise paths.
    pub normalization: Normalization,
    /// The external authorizers, as providers of CUSTOM policies.
    pub authorizers: Vec<Authorizer>,
}

/// An external authorizer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorizer {
    /// Name of the extension provider.
    pub provider: String,
    /// Where it is.
    pub address: AuthorizerAddress,
    /// How it is asked.
    pub kind: AuthorizerKind,
}

/// Reads the mesh configuration of a cluster's control plane.
///
/// # Errors
/// [`Error::Cluster`]: the configuration cannot be read. [`Error::MeshConfig`]: it is unreadable.
pub async fn authorization_config(cluster: &Cluster) -> Result<AuthorizationConfig> {
    let istio = &cluster.record().istio;
    let name = MeshConfig::config_map(istio.revision.as_deref());
    let found = cluster.api::<ConfigMap>(&istio.namespace).get(&name).await;
    let found = found.map_err(cluster.failed(format!("read ConfigMap {}/{name}", istio.namespace)))?;
    let config = MeshConfig::parse(&found.data.unwrap_or_default()).and_then(MeshConfig::authorization);
    config.map_err(|reason| Error::MeshConfig { cluster: cluster.name().into(), name, reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data<const N: usize>(keys: [(&str, &str); N]) -> BTreeMap<String, String> {
        keys.map(|(key, text)| (key.to_owned(), text.to_owned())).into()
    }

    #[test]
    fn the_configuration_is_read_with_its_unknown_fields_and_its_networks() {
        let mesh = "defaultConfig:\n  meshId: corp\n  drainDuration: 2s\ntrustDomain: corp.example\n\
                    trustDomainAliases: [old.example]\nenablePrometheusMerge: true\ncaCertificates:\n- pem: ROOT\n";
        let networks = "networks:\n  vpc-west:\n    endpoints:\n    - fromRegistry: west\n    gateways:\n    \
                        - address: 192.0.2.7\n      port: 31443\n";
        let config = MeshConfig::parse(&data([("mesh", mesh), ("meshNetworks", networks)])).unwrap();
        assert_eq!(config.trust_domain.as_deref(), Some("corp.example"));
        assert_eq!(config.trust_domain_aliases, ["old.example"]);
        assert_eq!(config.default_config.mesh_id.as_deref(), Some("corp"));
        assert_eq!(config.roots().collect::<Vec<_>>(), ["ROOT"]);
        assert_eq!(config.address_of("vpc-west"), Some(HostPort::new("192.0.2.7", 31443)));
        assert_eq!(config.address_of("vpc-east"), None);
    }

    #[test]
    fn an_empty_configuration_leaves_everything_open() {
        let config = MeshConfig::parse(&data([("mesh", ""), ("meshNetworks", "networks: {}")])).unwrap();
        assert!(config.trust_domain.is_none() && config.networks.is_empty());
    }

    fn parse(mesh: &str) -> std::result::Result<AuthorizationConfig, String> {
        MeshConfig::parse(&data([("mesh", mesh)])).and_then(MeshConfig::authorization)
    }

    #[test]
    fn normalization_and_authorizers_are_read_and_defaults_are_istios() {
        let text = "pathNormalization:\n  normalization: MERGE_SLASHES\nextensionProviders:\n- name: log\n  \
                    envoyFileAccessLog: {path: /dev/stdout}\n- name: ask\n  envoyExtAuthzHttp: {service: a.b, port: 80}\n- name: open\n  \
                    envoyExtAuthzGrpc: {service: a.b, port: 80, failOpen: true, timeout: 5s}\n";
        let config = parse(text).unwrap();
        assert_eq!(config.normalization, Normalization::MergeSlashes);
        let address = AuthorizerAddress { service: "a.b".into(), port: 80 };
        let authorizer = |provider: &str, over, fails_open| Authorizer {
            provider: provider.into(),
            address: address.clone(),
            kind: AuthorizerKind { over, fails_open },
        };
        assert_eq!(config.authorizers, [authorizer("ask", Over::Http, false), authorizer("open", Over::Grpc, true)]);
        assert_eq!(parse("trustDomain: x\n").unwrap().normalization, Normalization::Base);
        assert_eq!(parse("").unwrap().authorizers, []);
        assert!(parse("pathNormalization: {normalization: ODD}").unwrap_err().contains("ODD"));
    }
}
