//! What may be done to a mesh.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What may be done to a mesh. What is not listed is reported as not declared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capabilities {
    /// Names of the treatments that can be applied to an arm of a comparison; see [`treatment`].
    #[serde(default)]
    pub treatments: Vec<String>,
    /// Names of the faults that the provider can inject, each with the command that does so; see [`fault`].
    #[serde(default)]
    pub faults: BTreeMap<String, Command>,
    /// What suites may write.
    #[serde(default)]
    pub writes: Vec<Write>,
}

impl Capabilities {
    /// Whether the treatment `name` can be applied.
    pub fn has_treatment(&self, name: &str) -> bool {
        self.treatments.iter().any(|treatment| treatment == name)
    }

    /// The command that injects the fault `name`, where there is one.
    pub fn fault(&self, name: &str) -> Option<&Command> {
        self.faults.get(name)
    }

    /// Whether suites may write this.
    pub fn may_write(&self, write: Write) -> bool {
        self.writes.contains(&write)
    }
}

/// A command of the provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// The program: a path, or a name to be found on `PATH`.
    pub program: PathBuf,
    /// Its first arguments; a suite appends its own.
    pub arguments: Vec<String>,
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.program.display())?;
        self.arguments.iter().try_for_each(|argument| write!(f, " {argument}"))
    }
}

/// A kind of change that suites may make. Every change is put back when the test ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Write {
    /// Create namespaces of their own, and anything in those.
    Namespaces,
    /// Place objects, such as policies, into namespaces that are not their own.
    Objects,
    /// Change the replicas of deployments that are not their own.
    Replicas,
    /// Change labels of nodes.
    NodeLabels,
}

impl fmt::Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Namespaces => "creating namespaces",
            Self::Objects => "placing objects into existing namespaces",
            Self::Replicas => "changing replicas of existing deployments",
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
    /// The TCP bypass: sockets of one node are joined by eBPF.
    pub const TCP_BYPASS: &str = "tcp-bypass";
    /// Multi-buffer TLS by a module in stock Envoy.
    pub const MULTIBUFFER_TLS: &str = "multibuffer-tls";
    /// Multi-buffer TLS by Istio's `privateKeyProvider` (`cryptomb`), in an Envoy with contrib extensions. A mesh has this or
    /// [`MULTIBUFFER_TLS`], not both.
    pub const PRIVATE_KEY_PROVIDER: &str = "private-key-provider";
}
