//! Joins clusters to a mesh, and describes the mesh as a record.

use std::collections::BTreeMap;
use std::path::Path;

use super::error::{Error, Result};
use super::found::{Finding, FoundCluster, FoundMesh};
use super::probes::Names;
use crate::istio::Registered;
use crate::record::{self, Capabilities, Gateways, Mesh, ProbeDeployment, Record, TrustDomain, Write};

/// Name of this provider in a record.
pub const PROVIDER: &str = "attach";

/// What suites may do in a mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Read only.
    ReadOnly,
    /// Deploy probes, and create namespaces.
    Probes(ProbeDeployment),
}

impl FoundMesh {
    /// The mesh of these clusters.
    ///
    /// # Errors
    /// [`Error::SameCluster`], [`Error::SameName`].
    pub fn new(clusters: Vec<FoundCluster>) -> Result<Self> {
        for (at, one) in clusters.iter().enumerate() {
            for other in &clusters[at + 1..] {
                distinct(one, other)?;
            }
        }
        let findings = findings(&clusters);
        Ok(Self { clusters, findings })
    }

    /// The record of the mesh. `kubeconfig` has the contexts of all clusters, relative to the record's directory.
    pub fn record(&self, kubeconfig: &Path, names: &Names, access: &Access) -> Record {
        let writes = match access {
            Access::ReadOnly => Vec::new(),
            Access::Probes(_) => vec![Write::Namespaces],
        };
        let clusters = self.clusters.iter().map(|found| {
            let record::Cluster { name, domain, .. } = &found.record;
            let (probes, lease_namespace) = match access {
                Access::ReadOnly => (None, None),
                Access::Probes(deployment) => {
                    (Some(names.probes(name, domain, Some(deployment.clone()))), Some(names.outside.clone()))
                }
            };
            record::Cluster { kubeconfig: kubeconfig.to_owned(), probes, lease_namespace, ..found.record.clone() }
        });
        let first = self.clusters.first();
        Record {
            schema: record::SCHEMA.into(),
            provider: PROVIDER.into(),
            mesh: Mesh {
                id: first.map(|found| found.mesh_id.clone()).unwrap_or_default(),
                version: first.map(|found| found.istio_version.clone()).unwrap_or_default(),
                trust: self.trust(),
            },
            clusters: clusters.collect(),
            application: None,
            capabilities: Capabilities {
                writes,
                namespace_prefix: Some(names.prefix.clone()),
                ..Capabilities::default()
            },
        }
    }

    /// The first cluster's trust domain, and all aliases and roots.
    fn trust(&self) -> TrustDomain {
        let distinct = |of: fn(&TrustDomain) -> &Vec<String>| {
            let mut all: Vec<String> = Vec::new();
            let each = self.clusters.iter().flat_map(|found| of(&found.trust));
            each.for_each(|one| {
                if !all.contains(one) {
                    all.push(one.clone())
                }
            });
            all
        };
        let name = self.clusters.first().map(|found| found.trust.name.clone()).unwrap_or_default();
        TrustDomain { name, aliases: distinct(|trust| &trust.aliases), roots: distinct(|trust| &trust.roots) }
    }
}

fn distinct(one: &FoundCluster, other: &FoundCluster) -> Result<()> {
    let (first, second) = (one.context.clone(), other.context.clone());
    if let (Some(uid), true) = (&one.uid, one.uid == other.uid) {
        return Err(Error::SameCluster { one: first, other: second, uid: uid.clone() });
    }
    if one.record.name == other.record.name {
        return Err(Error::SameName { one: first, other: second, name: one.record.name.clone() });
    }
    Ok(())
}

fn findings(clusters: &[FoundCluster]) -> Vec<Finding> {
    let by_cluster = |of: fn(&FoundCluster) -> &String| -> BTreeMap<String, String> {
        clusters.iter().map(|found| (found.record.name.clone(), of(found).clone())).collect()
    };
    let differ = |of: fn(&FoundCluster) -> &String| clusters.windows(2).any(|pair| of(&pair[0]) != of(&pair[1]));
    let mut findings = Vec::new();
    if differ(|found| &found.mesh_id) {
        findings.push(Finding::MeshIds { ids: by_cluster(|found| &found.mesh_id) });
    }
    let aliased = |found: &FoundCluster| {
        let first = &clusters[0].trust;
        first.name == found.trust.name || first.aliases.contains(&found.trust.name)
    };
    if !clusters.iter().all(aliased) {
        findings.push(Finding::TrustDomains { domains: by_cluster(|found| &found.trust.name) });
    }
    let networks: std::collections::BTreeSet<&str> =
        clusters.iter().map(|found| found.record.network.as_str()).collect();
    for (at, found) in clusters.iter().enumerate() {
        for other in &clusters[at + 1..] {
            let shares = found.trust.roots.iter().any(|root| other.trust.roots.contains(root));
            if !shares {
                let (one, other) = (found.record.name.clone(), other.record.name.clone());
                findings.push(Finding::Roots { one, other });
            }
        }
        findings.extend(unseen(found, clusters));
        if networks.len() > 1 {
            findings.extend(no_eastwest(found, clusters));
        }
        findings.extend(of_namespaces(found));
    }
    findings
}

/// The other clusters that the istiod of `found` does not see.
fn unseen(found: &FoundCluster, clusters: &[FoundCluster]) -> Vec<Finding> {
    let Some(seen) = &found.peers.seen else { return Vec::new() };
    let others = clusters.iter().filter(|other| other.record.name != found.record.name);
    let unseen = others.filter_map(|other| {
        let state = seen.get(&other.record.name).map_or("it has no remote secret", String::as_str);
        (state != Registered::SYNCED).then(|| Finding::Unseen {
            cluster: found.record.name.clone(),
            peer: other.record.name.clone(),
            state: state.into(),
        })
    });
    unseen.collect()
}

/// That no other network reaches the cluster, neither by its own gateway nor by another of its network.
fn no_eastwest(found: &FoundCluster, clusters: &[FoundCluster]) -> Option<Finding> {
    let on_network = clusters.iter().filter(|other| other.record.network == found.record.network);
    if on_network.map(|other| other.record.eastwest_address()).any(|address| address.is_ok()) {
        return None;
    }
    let Gateways { eastwest, .. } = &found.record.gateways;
    let gateway = eastwest.as_ref().map(|gateway| format!("{}/{}", gateway.namespace, gateway.deployment));
    Some(Finding::NoEastWest { cluster: found.record.name.clone(), gateway })
}

fn of_namespaces(found: &FoundCluster) -> Vec<Finding> {
    let cluster = &found.record.name;
    let mut findings = Vec::new();
    let ambient = &found.surroundings.ambient;
    if !ambient.is_empty() {
        findings.push(Finding::Ambient { cluster: cluster.clone(), namespaces: ambient.clone() });
    }
    let taken = found.surroundings.taken.iter();
    findings.extend(taken.map(|name| Finding::Taken { cluster: cluster.clone(), namespace: name.clone() }));
    findings
}

#[cfg(test)]
pub(super) mod tests;
