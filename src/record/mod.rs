//! The record of a live testbed: `target/testbed/testbed.json`, schema `meshproof.testbed/v1`.
//!
//! `cargo xtask testbed up` writes it, whatever the provider; suites read it and nothing else, so that no suite
//! knows where a cluster came from.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

mod error;

pub use error::{Error, Result};

/// Schema identifier in every record; a reader refuses any other.
pub const SCHEMA: &str = "meshproof.testbed/v1";

/// File name of the record inside the testbed directory.
pub const FILE_NAME: &str = "testbed.json";

/// A live testbed: its mesh, its clusters and what can be done to them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// Who made the clusters: `local` or `attach`.
    pub provider: String,
    /// How the application is spread over them: `istio` or `global-namespace`.
    pub layout: String,
    /// The global namespace, in the layout that has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub global_namespace: Option<GlobalNamespace>,
    /// The mesh that spans the clusters.
    pub mesh: Mesh,
    /// The clusters, in the order in which they were named.
    pub clusters: Vec<Cluster>,
    /// Treatments this testbed can apply, by name. One that is not listed is reported as not declared.
    pub treatments: Vec<String>,
    /// Faults this testbed can inject, by name; see [`fault`].
    pub faults: Vec<String>,
}

/// Names of faults that a testbed may declare.
pub mod fault {
    /// The signing keys of the clusters' intermediates are in `secrets/`, so that a test can mint a certificate
    /// that is expired or of another trust domain and yet properly signed.
    pub const SIGN_AS_INTERMEDIATE: &str = "sign-as-intermediate";
    /// Whole clusters can be paused: `cargo xtask testbed quiesce`.
    pub const PAUSE_CLUSTER: &str = "pause-cluster";
}

/// Services of several clusters under one domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GlobalNamespace {
    /// Its name.
    pub name: String,
    /// Its services answer at `<service>.<domain>`.
    pub domain: String,
}

/// A service mesh spanning the clusters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mesh {
    /// Istio's `meshID`.
    pub id: String,
    /// Version that istiod reports of itself.
    pub version: String,
    /// SPIFFE trust domain, for example `cluster.local`.
    pub trust_domain: String,
    /// The root certificate that every workload chain must end in, PEM.
    pub root_cert: String,
}

/// One cluster of the testbed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// Name in the mesh (Istio's `clusterName`).
    pub name: String,
    /// Istio's network name.
    pub network: String,
    /// Kubeconfig file; relative to the record's directory unless absolute.
    pub kubeconfig: PathBuf,
    /// Context in that file.
    pub context: String,
    /// `host:port` at which this machine reaches the HTTP port of the ingress gateway.
    pub ingress: Option<String>,
    /// `host:port` at which the *other* clusters' workloads reach the east-west gateway (port 15443).
    pub eastwest: Option<String>,
    /// Certificate of the intermediate that signs this cluster's workload certificates, PEM.
    pub intermediate_cert: String,
}

impl Record {
    /// Reads and checks the record in `directory`.
    ///
    /// # Errors
    /// [`Error::NoTestbed`] where there is none, [`Error::Unusable`] where it is unreadable, of another schema, or
    /// names a cluster twice.
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
        let record: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if record.schema != SCHEMA {
            return Err(format!("its schema is `{}`, this version reads `{SCHEMA}`", record.schema));
        }
        for (index, cluster) in record.clusters.iter().enumerate() {
            if record.clusters[..index].iter().any(|other| other.name == cluster.name) {
                return Err(format!("cluster `{}` is named twice", cluster.name));
            }
        }
        if record.clusters.is_empty() {
            return Err("it names no cluster".into());
        }
        Ok(record)
    }

    /// Writes the record into `directory`, replacing an older one in a single step, so that a reader never sees
    /// half of it.
    ///
    /// # Errors
    /// [`Error::Unusable`] where the file cannot be written.
    pub fn write(&self, directory: &Path) -> Result<()> {
        let path = directory.join(FILE_NAME);
        let failed = |reason: String| Error::Unusable { path: path.clone(), reason };
        let text = serde_json::to_string_pretty(self).map_err(|error| failed(error.to_string()))?;
        let partial = path.with_extension("json.partial");
        std::fs::write(&partial, text + "\n").map_err(|error| failed(error.to_string()))?;
        std::fs::rename(&partial, &path).map_err(|error| failed(error.to_string()))
    }

    /// Removes the record from `directory`, so that suites find no testbed; one that is not there is no error.
    ///
    /// # Errors
    /// [`Error::Unusable`] where the file cannot be removed.
    pub fn remove(directory: &Path) -> Result<()> {
        let path = directory.join(FILE_NAME);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::Unusable { path, reason: error.to_string() })
            }
            _ => Ok(()),
        }
    }

    /// Whether the testbed declares the treatment `name`.
    pub fn declares_treatment(&self, name: &str) -> bool {
        self.treatments.iter().any(|treatment| treatment == name)
    }

    /// Whether the testbed declares the fault `name`.
    pub fn declares_fault(&self, name: &str) -> bool {
        self.faults.iter().any(|fault| fault == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            schema: SCHEMA.into(),
            provider: "local".into(),
            layout: "istio".into(),
            global_namespace: None,
            mesh: Mesh {
                id: "mesh1".into(),
                version: "1.31".into(),
                trust_domain: "cluster.local".into(),
                root_cert: "pem".into(),
            },
            clusters: vec![Cluster {
                name: "cluster1".into(),
                network: "network1".into(),
                kubeconfig: "kubeconfig".into(),
                context: "cluster1".into(),
                ingress: Some("127.0.0.1:1".into()),
                eastwest: None,
                intermediate_cert: "pem".into(),
            }],
            treatments: vec![],
            faults: vec![],
        }
    }

    #[test]
    fn a_written_record_reads_back_the_same() {
        let directory = tempfile::tempdir().unwrap();
        record().write(directory.path()).unwrap();
        assert_eq!(Record::read(directory.path()).unwrap(), record());
    }

    #[test]
    fn a_missing_record_names_the_command_that_makes_one() {
        let directory = tempfile::tempdir().unwrap();
        let error = Record::read(directory.path()).unwrap_err().to_string();
        assert!(error.contains("cargo xtask testbed up"), "{error}");
    }

    #[test]
    fn another_schema_an_unknown_field_and_a_doubled_cluster_are_refused() {
        let mut other = record();
        other.schema = "meshproof.testbed/v0".into();
        let text = serde_json::to_string(&other).unwrap();
        assert!(Record::parse(&text).unwrap_err().contains("meshproof.testbed/v0"));

        let text = serde_json::to_string(&record()).unwrap().replacen('{', "{\"extra\":1,", 1);
        assert!(Record::parse(&text).unwrap_err().contains("extra"));

        let mut doubled = record();
        doubled.clusters.push(doubled.clusters[0].clone());
        let text = serde_json::to_string(&doubled).unwrap();
        assert!(Record::parse(&text).unwrap_err().contains("cluster1"));
    }
}
