//! What a provider reports about a node: a machine that a cluster runs on, or a container in its place.

use serde::Serialize;

/// State of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    Running,
    Paused,
    Stopped,
    Missing,
    /// The provider could not determine the state.
    Unknown,
}

impl State {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
            Self::Missing => "missing",
            Self::Unknown => "unknown",
        }
    }

    /// Whether no process on the node can answer.
    pub(crate) fn is_down(self) -> bool {
        matches!(self, Self::Paused | Self::Stopped | Self::Missing)
    }
}

/// State of a node, and any problem with the state.
#[derive(Debug)]
pub(crate) struct NodeState {
    pub(crate) state: State,
    /// Details of a state other than running, for example the exit code.
    pub(crate) detail: Option<String>,
    /// The problem, in one line, with a remedy.
    pub(crate) problem: Option<String>,
}

/// Resource usage of a node.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    /// Memory in MiB, without the page cache that can be dropped at once.
    pub(crate) memory_mib: Option<u64>,
    /// CPU usage over most of a second. 100 is one processor.
    pub(crate) cpu_percent: Option<f64>,
}

/// The processes to freeze on the nodes of a running cluster.
pub(crate) enum Hold {
    /// Scheduler, controller manager and kube-proxy, from the start.
    ControlPlane,
    /// The kubelet and all pods except those with these UIDs, on each request.
    AllBut(Vec<String>),
}
