//! Reads the mesh configuration of a control plane, as far as it may be read.

use k8s_openapi::api::core::v1::ConfigMap;

use super::control_planes::ControlPlane;
use super::error::Result;
use super::reader::Reader;
use crate::istio::MeshConfig;

/// The configuration of a control plane. Empty if it may not be read.
///
/// # Errors
/// [`Error::Cluster`](super::Error::Cluster).
pub(super) async fn read(reader: &Reader, plane: &ControlPlane) -> Result<MeshConfig> {
    let name = MeshConfig::config_map(plane.revision().as_deref());
    let so = "trust domain aliases and meshNetworks are unknown";
    let found: Option<Option<ConfigMap>> = reader.get(&plane.namespace(), &name, so).await?;
    let Some(found) = found else { return Ok(MeshConfig::default()) };
    let data = found.and_then(|found| found.data).unwrap_or_default();
    if data.is_empty() {
        reader.note(format!("ConfigMap {}/{name}", plane.namespace()), "it is not there", so);
    }
    MeshConfig::parse(&data).or_else(|reason| {
        reader.note(format!("ConfigMap {}/{name}", plane.namespace()), reason, so);
        Ok(MeshConfig::default())
    })
}
