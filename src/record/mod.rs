//! The record of a mesh: `target/testbed/testbed.json`, schema `meshproof.testbed/v2`.
//!
//! A provider writes the record. Suites know the mesh only from the record. The record can describe any Istio mesh: any
//! number of clusters, with or without gateways, several roots, issuers of any depth.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

mod capabilities;
mod cluster;
mod day;
mod deployment;
mod error;
mod host_port;
mod name;
mod requirement;

pub use capabilities::{Capabilities, Command, Write, fault, treatment};
pub use cluster::{
    AccessLog, AddressFamily, Bench, BenchDeployment, Cluster, ControlPlane, Gateway, GatewayKind, Gateways, Issuer,
    Istio, Label, Probe, ProbeDeployment, ProbePorts, Probes, Proxy, Signer,
};
pub use day::{days, is_over};
pub use error::{Error, Result};
pub use host_port::HostPort;
pub use name::{digest, legal};
pub use requirement::{BENCH, Requirement};

/// Schema identifier in every record. Records with another identifier are refused.
pub const SCHEMA: &str = "meshproof.testbed/v2";

/// File name of the record inside the testbed directory.
pub const FILE_NAME: &str = "testbed.json";

/// A live mesh: its clusters, the pods for suites, and the permitted changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// The provider that wrote the record: `local` or `attach`.
    pub provider: String,
    /// The mesh that spans the clusters.
    pub mesh: Mesh,
    /// The clusters, in the provider's order.
    pub clusters: Vec<Cluster>,
    /// The application in the mesh, if suites know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application: Option<Application>,
    /// The permitted changes to the mesh.
    pub capabilities: Capabilities,
}

/// A service mesh that spans the clusters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mesh {
    /// Istio's `meshID`.
    pub id: String,
    /// Version reported by istiod.
    pub version: String,
    /// Trust domain and roots of workload identities.
    pub trust: TrustDomain,
}

/// The mesh's SPIFFE trust domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustDomain {
    /// Name of the trust domain, for example `cluster.local`.
    pub name: String,
    /// Istio's `trustDomainAliases`: equivalent names of the trust domain.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Root certificates, PEM, one per entry. A workload's chain must end in one of them.
    pub roots: Vec<String>,
}

/// An application whose workloads are known to suites.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Application {
    /// Name, for example `boutique`.
    pub name: String,
    /// Distribution over the clusters: `istio` or `global-namespace`.
    pub layout: String,
    /// Namespace of the workloads, the same in every cluster.
    pub namespace: String,
    /// The global namespace, if the layout has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub global_namespace: Option<GlobalNamespace>,
    /// The cluster of each workload.
    pub places: BTreeMap<String, String>,
}

/// Services of several clusters under one domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GlobalNamespace {
    /// Name.
    pub name: String,
    /// Domain of the services: `<service>.<domain>`.
    pub domain: String,
}

impl Record {
    /// Reads and checks the record in `directory`.
    ///
    /// # Errors
    /// [`Error::NoTestbed`]: there is no record. [`Error::Unusable`]: the record is unreadable, has another schema, or
    /// contradicts itself.
    pub fn read(directory: &Path) -> Result<Self> {
        let path = directory.join(FILE_NAME);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(Error::NoTestbed { path }),
            Err(error) => return Err(Error::Unusable { path, reason: error.to_string() }),
        };
        Self::parse(&text).map_err(|reason| Error::Unusable { path, reason })
    }

    fn parse(text: &str) -> std::result::Result<Self, String> {
        /// Fields of a record in any schema version.
        #[derive(Deserialize)]
        struct Header {
            schema: String,
        }
        let Header { schema } = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if schema != SCHEMA {
            return Err(format!("its schema is `{schema}`, this version reads `{SCHEMA}`"));
        }
        let record: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        record.contradiction().map_or(Ok(record), Err)
    }

    /// The first contradiction in the record, as text.
    fn contradiction(&self) -> Option<String> {
        let mut names: Vec<&str> = self.clusters.iter().map(|cluster| cluster.name.as_str()).collect();
        names.sort_unstable();
        if names.is_empty() {
            return Some("it names no cluster".into());
        }
        if let Some(doubled) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Some(format!("cluster `{}` is named twice", doubled[0]));
        }
        if self.mesh.trust.roots.is_empty() {
            return Some("it names no root certificate".into());
        }
        if let Some(unusable) = deployment::contradiction(&self.clusters) {
            return Some(unusable);
        }
        let mut places = self.application.iter().flat_map(|application| &application.places);
        let (workload, cluster) = places.find(|(_, cluster)| names.binary_search(&cluster.as_str()).is_err())?;
        Some(format!("workload `{workload}` is in cluster `{cluster}`, which the record does not have"))
    }

    /// Writes the record into `directory`, and atomically replaces an older record: a reader never sees a partial
    /// record.
    ///
    /// # Errors
    /// [`Error::Unusable`]: the file cannot be written.
    pub fn write(&self, directory: &Path) -> Result<()> {
        let path = directory.join(FILE_NAME);
        let failed = |reason: String| Error::Unusable { path: path.clone(), reason };
        let text = serde_json::to_string_pretty(self).map_err(|error| failed(error.to_string()))?;
        let mut partial = tempfile::NamedTempFile::new_in(directory).map_err(|error| failed(error.to_string()))?;
        std::io::Write::write_all(&mut partial, (text + "\n").as_bytes()).map_err(|error| failed(error.to_string()))?;
        partial.persist(&path).map_err(|error| failed(error.to_string()))?;
        Ok(())
    }

    /// Removes the record from `directory`, so that suites find no testbed. A missing record is not an error.
    ///
    /// # Errors
    /// [`Error::Unusable`]: the file cannot be removed.
    pub fn remove(directory: &Path) -> Result<()> {
        let path = directory.join(FILE_NAME);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::Unusable { path, reason: error.to_string() })
            }
            _ => Ok(()),
        }
    }

    /// Distribution of the application over the clusters, if there is an application.
    pub fn layout(&self) -> Option<&str> {
        self.application.as_ref().map(|application| application.layout.as_str())
    }

    /// Checks that the record offers everything that a suite requires.
    ///
    /// # Errors
    /// [`Error::NotDeclared`], with all that is missing, and where.
    pub fn requires(&self, requirements: impl IntoIterator<Item = Requirement>) -> Result<()> {
        let missing: Vec<String> =
            requirements.into_iter().filter_map(|requirement| requirement.missing(self)).collect();
        if missing.is_empty() { Ok(()) } else { Err(Error::not_declared(missing.join("; "))) }
    }
}

#[cfg(test)]
pub(crate) mod tests;
