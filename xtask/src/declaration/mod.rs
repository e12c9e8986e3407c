//! The declaration of a testbed: its clusters, its mesh and its application. `up` reads it from a file in
//! `fixtures/clusters/`, checks it before it changes anything, and keeps a copy with the testbed.

mod change;
mod check;
mod fault;
mod file;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ipnet::Ipv4Net;
use meshproof::record::Label;
use serde::Deserialize;

use crate::paths;
use fault::Fault;

pub(crate) use change::not_in_place;

/// File of the declaration's copy in the testbed's directory.
const COPY: &str = "declaration.toml";

/// Largest number of clusters.
pub(crate) const MOST_CLUSTERS: usize = 5;

/// Largest number of nodes of a cluster. Each node has an eighth of the cluster's pod subnet.
pub(crate) const MOST_NODES: usize = 8;

/// What `up` makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Declaration {
    /// Candidate subnets of the container network that joins all nodes.
    pub(crate) networks: Vec<Ipv4Net>,
    pub(crate) mesh: Mesh,
    pub(crate) istio: Istio,
    /// Whether `up` installs what suites need: probes, workloads for performance comparisons, and the evidence log.
    /// Otherwise the mesh is left as somebody else's: the first suite deploys its probes.
    pub(crate) prepared: bool,
    /// The application. `None`: the testbed has no application.
    pub(crate) application: Option<Application>,
    pub(crate) clusters: Vec<Cluster>,
    /// Namespaces for workloads, in every cluster alike.
    pub(crate) namespaces: Vec<Namespace>,
}

/// The mesh that spans the clusters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mesh {
    /// Istio's `meshID`.
    pub(crate) id: String,
    pub(crate) trust_domain: String,
    /// Istio's `trustDomainAliases`.
    pub(crate) aliases: Vec<String>,
    pub(crate) authority: Authority,
    /// Mode of the PeerAuthentication in Istio's namespace. `None`: there is none.
    pub(crate) policy: Option<Mode>,
}

/// How the clusters' certificate authorities (Istio's plug-in certificates) are related.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Authority {
    /// One root signs an intermediate for each cluster.
    SharedRoot,
    /// Each cluster has a root of its own. Every cluster trusts all roots.
    SeparateRoots,
    /// One root signs one intermediate, which signs an intermediate for each cluster.
    Chain,
}

/// Mode of a PeerAuthentication.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mode {
    Strict,
    Permissive,
}

/// How Istio is installed, in every cluster alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Istio {
    /// Revision of the control plane. `None`: the default revision.
    pub(crate) revision: Option<String>,
    /// Revision tags that point to the revision.
    pub(crate) tags: Vec<String>,
    pub(crate) injection: Injection,
    /// Whether proxies are native sidecars.
    pub(crate) native_sidecars: bool,
    /// Whether Istio's CNI plugin redirects the traffic of pods, in place of an init container.
    pub(crate) cni: bool,
}

/// The namespace label that enables injection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) enum Injection {
    #[serde(rename = "istio-injection")]
    IstioInjection,
    #[serde(rename = "istio.io/rev")]
    Revision,
}

/// The application: the boutique.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Application {
    pub(crate) layout: Layout,
}

/// How the application is spread over the clusters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Layout {
    /// By Kubernetes names, with placeholder services for what runs in the other cluster
    Istio,
    /// By the names of one declared global namespace, from which all else is derived
    GlobalNamespace,
}

/// One cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cluster {
    /// Name: of the cluster in the mesh, of its context, and of its control-plane node.
    pub(crate) name: String,
    /// Istio's network name. Pods of clusters of one network reach each other's addresses.
    pub(crate) network: String,
    /// Number of nodes. A cluster with one node runs its workloads on the control plane.
    pub(crate) nodes: usize,
    pub(crate) pods: Ipv4Net,
    pub(crate) services: Ipv4Net,
    pub(crate) ingress: Option<Gateway>,
    pub(crate) eastwest: Option<Gateway>,
    /// Whether NetworkPolicy is enforced.
    pub(crate) network_policies: bool,
}

/// A namespace for workloads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Namespace {
    pub(crate) name: String,
    /// Whether its pods get proxies.
    pub(crate) injected: bool,
    /// Level of Pod Security that it enforces. `None`: that of the API server, which admits every pod.
    pub(crate) pod_security: Option<PodSecurity>,
    /// Whether a ResourceQuota refuses containers without limits.
    pub(crate) quota: bool,
}

/// Level of Kubernetes' Pod Security Standards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum PodSecurity {
    Privileged,
    Baseline,
    Restricted,
}

/// The agents that run on every node of some cluster, beyond those of Kubernetes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NodeAgents {
    /// Istio's CNI agent.
    pub(crate) cni: bool,
    /// What enforces NetworkPolicy.
    pub(crate) network_policies: bool,
}

/// A gateway of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gateway {
    /// Name of the deployment and the service.
    pub(crate) name: String,
    pub(crate) namespace: String,
    /// Labels of the gateway's pods. A `Gateway` object selects the pods by these.
    pub(crate) labels: BTreeMap<String, String>,
}

impl Declaration {
    /// Path of the declaration that `up` uses if no other is named.
    pub(crate) fn default_path() -> PathBuf {
        paths::fixture("clusters/default.toml")
    }

    /// Reads and checks the declaration at `path`.
    ///
    /// # Errors
    /// Fails if the declaration is invalid. The error is one line with the file, the line, the fault and the remedy.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = paths::read(path)?;
        Self::parse(&text).map_err(|Fault { line, reason }| {
            anyhow::anyhow!("{}:{line}: {reason}; nothing was changed", path.display())
        })
    }

    /// The declaration of the testbed in `directory`. `None` if there is no testbed.
    ///
    /// # Errors
    /// Fails as [`Self::read`] does.
    pub(crate) fn of_testbed(directory: &Path) -> Result<Option<Self>> {
        let path = directory.join(COPY);
        if !path.exists() {
            return Ok(None);
        }
        Self::read(&path).map(Some).context("the copy of the testbed's declaration is unusable")
    }

    /// The declaration of the testbed in `directory`, otherwise the default one.
    ///
    /// # Errors
    /// Fails as [`Self::read`] does.
    pub(crate) fn in_use(directory: &Path) -> Result<Self> {
        Self::of_testbed(directory)?.map_or_else(|| Self::read(&Self::default_path()), Ok)
    }

    /// Keeps a copy of the declaration at `path` with the testbed in `directory`.
    ///
    /// # Errors
    /// Fails if the copy cannot be written.
    pub(crate) fn keep(path: &Path, directory: &Path) -> Result<()> {
        // Read first and replaced whole: `path` may be the copy itself, by any name.
        paths::write_secret(&directory.join(COPY), &paths::read(path)?)
    }

    /// Path of the copy with the testbed in `directory`.
    pub(crate) fn copy_in(directory: &Path) -> PathBuf {
        directory.join(COPY)
    }

    fn parse(text: &str) -> Result<Self, Fault> {
        check::declaration(file::parse(text)?).map_err(|unsound| unsound.in_text(text))
    }

    /// The names of the clusters.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.clusters.iter().map(|cluster| cluster.name.as_str()).collect()
    }

    /// The agents for which the nodes need images.
    pub(crate) fn node_agents(&self) -> NodeAgents {
        let network_policies = self.clusters.iter().any(|cluster| cluster.network_policies);
        NodeAgents { cni: self.istio.cni, network_policies }
    }
}

impl PodSecurity {
    /// Kubernetes' name of the level.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Privileged => "privileged",
            Self::Baseline => "baseline",
            Self::Restricted => "restricted",
        }
    }
}

impl Mode {
    /// Istio's name of the mode.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Strict => "STRICT",
            Self::Permissive => "PERMISSIVE",
        }
    }
}

impl Istio {
    /// The label of a namespace whose pods get proxies.
    pub(crate) fn injection_label(&self) -> Label {
        let (key, value) = match self.injection {
            Injection::IstioInjection => ("istio-injection", "enabled"),
            Injection::Revision => ("istio.io/rev", self.revision.as_deref().unwrap_or("default")),
        };
        Label { key: key.into(), value: value.into() }
    }

    /// Name of istiod's deployment and service.
    pub(crate) fn istiod(&self) -> String {
        self.revision.as_ref().map_or_else(|| "istiod".to_owned(), |revision| format!("istiod-{revision}"))
    }
}

impl Cluster {
    /// The declared gateways.
    pub(crate) fn gateways(&self) -> impl Iterator<Item = &Gateway> {
        self.ingress.iter().chain(&self.eastwest)
    }

    /// Address of the DNS service: the tenth of the service subnet, as kubeadm expects.
    pub(crate) fn dns_address(&self) -> String {
        self.services.hosts().nth(9).map(|address| address.to_string()).unwrap_or_default()
    }

    /// Address of the API server's service: the first of the service subnet, as Kubernetes assigns it.
    pub(crate) fn api_service(&self) -> String {
        self.services.hosts().next().map(|address| address.to_string()).unwrap_or_default()
    }

    /// The pod subnet of the node with this number, counted from 0.
    pub(crate) fn pods_of(&self, node: usize) -> Option<Ipv4Net> {
        self.pods.subnets(self.pods.prefix_len() + MOST_NODES.ilog2() as u8).ok()?.nth(node)
    }

    /// Name of the node with this number, counted from 0. The first node is the control plane.
    pub(crate) fn node(&self, number: usize) -> String {
        if number == 0 { self.name.clone() } else { format!("{}-worker{number}", self.name) }
    }

    /// The names of the nodes.
    pub(crate) fn node_names(&self) -> Vec<String> {
        (0..self.nodes).map(|number| self.node(number)).collect()
    }
}

#[cfg(test)]
mod tests;
