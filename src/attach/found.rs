//! What was found in a cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::record::{self, Label, TrustDomain};

/// A cluster with Istio, as far as it could be read.
#[derive(Debug, Clone)]
pub struct FoundCluster {
    /// The context that leads to the cluster.
    pub context: String,
    /// UID of the namespace kube-system, which tells clusters apart. `None` if it could not be read.
    pub uid: Option<String>,
    /// Version of Kubernetes.
    pub kubernetes: String,
    /// The cluster's entry in the record, still without probes.
    pub record: record::Cluster,
    /// Istio's `meshID`.
    pub mesh_id: String,
    /// Version that istiod reports.
    pub istio_version: String,
    /// Trust domain, aliases and roots.
    pub trust: TrustDomain,
    /// All control planes, also those that are not judged.
    pub control_planes: Vec<FoundControlPlane>,
    /// Other gateways than those in the record, as `NAMESPACE/NAME`.
    pub other_gateways: Vec<String>,
    /// The other clusters of the mesh, as istiod sees them.
    pub peers: Peers,
    /// Nodes, namespaces and restrictions.
    pub surroundings: Surroundings,
    /// What could not be read.
    pub unread: Vec<Unread>,
}

/// A control plane of Istio.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundControlPlane {
    /// Namespace.
    pub namespace: String,
    /// Revision. `None` for the default revision.
    pub revision: Option<String>,
    /// Tags that point to the revision.
    pub tags: Vec<String>,
    /// Labels of a namespace, each of which enables injection by this control plane.
    pub injection: Vec<Label>,
}

/// The other clusters of the mesh.
#[derive(Debug, Clone, Default)]
pub struct Peers {
    /// The clusters that have a remote secret. `None` if secrets may not be listed.
    pub secrets: Option<BTreeSet<String>>,
    /// The state of each cluster in istiod's registry. `None` if istiod could not be asked.
    pub seen: Option<BTreeMap<String, String>>,
}

/// Nodes, namespaces and restrictions of a cluster.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// Processor architectures of the nodes, and how many nodes have each.
    pub architectures: BTreeMap<String, usize>,
    /// Levels of Pod Security that namespaces enforce, and how many namespaces enforce each.
    pub pod_security: BTreeMap<String, usize>,
    /// Number of namespaces.
    pub namespaces: usize,
    /// Number of namespaces whose pods get a sidecar of the judged revision.
    pub injected: usize,
    /// Namespaces whose pods are in Istio's ambient mesh: nothing judges them.
    pub ambient: Vec<String>,
    /// Namespaces with a ResourceQuota.
    pub quotas: Vec<String>,
    /// Whether Istio's CNI agent runs on the nodes.
    pub cni: bool,
    /// Namespaces with the name of one of ours, which are not ours.
    pub taken: Vec<String>,
}

/// Something that the credentials do not allow to read, or that did not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// The request.
    pub what: String,
    /// The answer.
    pub reason: String,
    /// What is unknown because of that.
    pub so: String,
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = if self.reason == "403" { "not allowed (403)" } else { &self.reason };
        write!(f, "{}: {reason}; {}", self.what, self.so)
    }
}

/// Something that must be told, because it could not be found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The context.
    pub context: String,
    /// What is missing.
    pub what: String,
    /// The flag that tells it, or another remedy.
    pub remedy: String,
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.context, self.what, self.remedy)
    }
}

/// A mesh of one or more clusters.
#[derive(Debug, Clone)]
pub struct FoundMesh {
    /// The clusters, in the order of their contexts.
    pub clusters: Vec<FoundCluster>,
    /// What a reader must know.
    pub findings: Vec<Finding>,
}

/// Something that a reader must know about a mesh. It stops nobody from judging the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// The clusters are not of one mesh.
    MeshIds {
        /// The mesh of each cluster.
        ids: BTreeMap<String, String>,
    },
    /// The clusters have different trust domains, and the first one does not know another's by an alias.
    TrustDomains {
        /// The trust domain of each cluster.
        domains: BTreeMap<String, String>,
    },
    /// Two clusters have no root in common.
    Roots {
        /// A cluster.
        one: String,
        /// Another cluster.
        other: String,
    },
    /// An istiod does not see another cluster.
    Unseen {
        /// The istiod's cluster.
        cluster: String,
        /// The other cluster.
        peer: String,
        /// How istiod sees it.
        state: String,
    },
    /// Other networks cannot reach the cluster.
    NoEastWest {
        /// The cluster.
        cluster: String,
        /// The gateway without an address, or none.
        gateway: Option<String>,
    },
    /// Namespaces of the ambient mesh are not judged.
    Ambient {
        /// The cluster.
        cluster: String,
        /// The namespaces.
        namespaces: Vec<String>,
    },
    /// A namespace has the name of one of ours and is another's.
    Taken {
        /// The cluster.
        cluster: String,
        /// The namespace.
        namespace: String,
    },
    /// Nobody said which CA signs the workloads' certificates.
    NoIssuer {
        /// The cluster.
        cluster: String,
        /// Why.
        reason: String,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each = |of: &BTreeMap<String, String>| {
            of.iter().map(|(cluster, value)| format!("{value} in {cluster}")).collect::<Vec<_>>().join(", ")
        };
        match self {
            Self::MeshIds { ids } => write!(
                f,
                "the clusters are of different meshes ({}): calls between them are judged all the same",
                each(ids)
            ),
            Self::TrustDomains { domains } => write!(
                f,
                "the clusters have different trust domains ({}), and no alias joins them: identities are judged by the first",
                each(domains)
            ),
            Self::Roots { one, other } => write!(
                f,
                "{one} and {other} have no root certificate in common: mutual TLS between them is expected to fail"
            ),
            Self::Unseen { cluster, peer, state } => write!(
                f,
                "istiod of {cluster} does not see {peer} ({state}): calls from {cluster} to {peer} are expected to fail"
            ),
            Self::NoEastWest { cluster, gateway: Some(gateway) } => write!(
                f,
                "the east-west gateway {gateway} of {cluster} has no address (no load balancer, external IP or meshNetworks): name it with --eastwest {cluster}=HOST:PORT"
            ),
            Self::NoEastWest { cluster, gateway: None } => {
                write!(f, "{cluster} has no east-west gateway: calls to it from other networks are not judged")
            }
            Self::Ambient { cluster, namespaces } => write!(
                f,
                "not judged, because they are in Istio's ambient mesh: the namespaces {} of {cluster}",
                namespaces.join(", ")
            ),
            Self::Taken { cluster, namespace } => write!(
                f,
                "namespace {namespace} of {cluster} is somebody else's: choose other names with --namespace-prefix"
            ),
            Self::NoIssuer { cluster, reason } => write!(
                f,
                "it is unknown which CA signs the workloads of {cluster} ({reason}): certificates below an intermediate CA are judged only where the peer sends its chain"
            ),
        }
    }
}
