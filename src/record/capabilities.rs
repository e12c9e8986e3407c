//! The permitted changes to a mesh.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The permitted changes to a mesh. Anything else is reported as not declared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capabilities {
    /// Names of treatments that can be applied to an arm of a comparison. See [`treatment`].
    #[serde(default)]
    pub treatments: Vec<String>,
    /// Names of faults that the provider can inject, each with its command. See [`fault`].
    #[serde(default)]
    pub faults: BTreeMap<String, Command>,
    /// Kinds of changes that suites may make.
    #[serde(default)]
    pub writes: Vec<Write>,
    /// Beginning of the names of the namespaces that suites create. `None`: `meshproof`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_prefix: Option<String>,
}

impl Capabilities {
    /// Whether the treatment `name` can be applied.
    pub fn has_treatment(&self, name: &str) -> bool {
        self.treatments.iter().any(|treatment| treatment == name)
    }

    /// The command that injects the fault `name`, if there is one.
    pub fn fault(&self, name: &str) -> Option<&Command> {
        self.faults.get(name)
    }

    /// Whether suites may make this kind of change.
    pub fn may_write(&self, write: Write) -> bool {
        self.writes.contains(&write)
    }
}

/// A command of the provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// The program: a path, or a name on `PATH`.
    pub program: PathBuf,
    /// First arguments. A suite appends further arguments.
    pub arguments: Vec<String>,
}

/// A kind of change that suites may make. The end of a test reverts every change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Write {
    /// Create namespaces, and any object in these namespaces.
    Namespaces,
    /// Place objects, such as policies, into other namespaces.
    Objects,
    /// Change the replicas of existing deployments.
    Replicas,
    /// Change the nodes of existing deployments.
    Placements,
    /// Change labels of nodes.
    NodeLabels,
}

impl fmt::Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Namespaces => "creating namespaces",
            Self::Objects => "placing objects into existing namespaces",
            Self::Replicas => "changing replicas of existing deployments",
            Self::Placements => "changing the nodes of existing deployments",
            Self::NodeLabels => "changing labels of nodes",
        })
    }
}

/// Names of faults that a provider may declare.
pub mod fault {
    /// Whole clusters can be paused.
    pub const PAUSE_CLUSTER: &str = "pause-cluster";
}

/// Names of treatments that a provider may declare.
pub mod treatment {
    /// The TCP bypass: eBPF connects sockets on the same node directly.
    pub const TCP_BYPASS: &str = "tcp-bypass";
    /// Multi-buffer TLS by a module in stock Envoy.
    pub const MULTIBUFFER_TLS: &str = "multibuffer-tls";
    /// Multi-buffer TLS by Istio's `privateKeyProvider` (`cryptomb`), in an Envoy with contrib extensions. A mesh has
    /// either this or [`MULTIBUFFER_TLS`], not both.
    pub const PRIVATE_KEY_PROVIDER: &str = "private-key-provider";
}
