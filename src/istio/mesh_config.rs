//! What authorization depends on in a control plane's mesh configuration.

use k8s_openapi::api::core::v1::ConfigMap;
use serde::Deserialize;

use super::{Error, Result};
use crate::cluster::Cluster;
use crate::policy::authorization::Normalization;

/// The part of Istio's `MeshConfig` that is read.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct MeshConfig {
    path_normalization: PathNormalization,
    extension_providers: Vec<ExtensionProvider>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PathNormalization {
    normalization: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ExtensionProvider {
    name: String,
    envoy_ext_authz_http: Option<AuthorizerAddress>,
    envoy_ext_authz_grpc: Option<AuthorizerAddress>,
}

/// Where an external authorizer is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
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
}

/// Reads the mesh configuration of a cluster's control plane.
///
/// # Errors
/// [`Error::Cluster`]: the configuration cannot be read. [`Error::MeshConfig`]: it is unreadable.
pub async fn authorization_config(cluster: &Cluster) -> Result<AuthorizationConfig> {
    let istio = &cluster.record().istio;
    let name = istio.revision.as_ref().map_or_else(|| "istio".into(), |revision| format!("istio-{revision}"));
    let found = cluster.api::<ConfigMap>(&istio.namespace).get(&name).await;
    let found = found.map_err(cluster.failed(format!("read ConfigMap {}/{name}", istio.namespace)))?;
    let text = found.data.unwrap_or_default().remove("mesh").unwrap_or_default();
    parse(&text).map_err(|reason| Error::MeshConfig { cluster: cluster.name().into(), name, reason })
}

fn parse(text: &str) -> std::result::Result<AuthorizationConfig, String> {
    let config: MeshConfig = match text.trim() {
        "" => MeshConfig::default(),
        text => serde_saphyr::from_str(text).map_err(|error| error.to_string())?,
    };
    let normalization = config.path_normalization.normalization.map(|name| name.parse()).transpose()?;
    let authorizer = |provider: ExtensionProvider| {
        let address = provider.envoy_ext_authz_http.or(provider.envoy_ext_authz_grpc)?;
        Some(Authorizer { provider: provider.name, address })
    };
    let authorizers = config.extension_providers.into_iter().filter_map(authorizer).collect();
    Ok(AuthorizationConfig { normalization: normalization.unwrap_or_default(), authorizers })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalization_and_authorizers_are_read_and_defaults_are_istios() {
        let text = "pathNormalization:\n  normalization: MERGE_SLASHES\nextensionProviders:\n- name: log\n  \
                    envoyFileAccessLog: {path: /dev/stdout}\n- name: ask\n  envoyExtAuthzHttp: {service: a.b, port: 80}\n";
        let config = parse(text).unwrap();
        assert_eq!(config.normalization, Normalization::MergeSlashes);
        let address = AuthorizerAddress { service: "a.b".into(), port: 80 };
        assert_eq!(config.authorizers, [Authorizer { provider: "ask".into(), address }]);
        assert_eq!(parse("trustDomain: x\n").unwrap().normalization, Normalization::Base);
        assert_eq!(parse("").unwrap().authorizers, []);
        assert!(parse("pathNormalization: {normalization: ODD}").unwrap_err().contains("ODD"));
    }
}
