//! What a provider says of a node: a machine, or what stands for one, that a cluster runs on.

use serde::Serialize;

/// What a node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    Running,
    Paused,
    Stopped,
    Missing,
    /// The provider could not tell.
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

    /// Whether nothing on the node can answer.
    pub(crate) fn is_down(self) -> bool {
        matches!(self, Self::Paused | Self::Stopped | Self::Missing)
    }
}

/// What a node does, and what is wrong with that.
#[derive(Debug)]
pub(crate) struct NodeState {
    pub(crate) state: State,
    /// More about a state other than running, for example the exit code.
    pub(crate) detail: Option<String>,
    /// What is wrong, in one line, with what to do about it.
    pub(crate) problem: Option<String>,
}

/// What a node uses.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    /// Memory in MiB, less the page cache that can be dropped at once.
    pub(crate) memory_mib: Option<u64>,
    /// Use of the processors over most of a second; 100 is one of them.
    pub(crate) cpu_percent: Option<f64>,
}

/// What is held still on the nodes of a cluster that goes on.
pub(crate) enum Hold {
    /// Scheduler, controller manager and kube-proxy, from the beginning.
    ControlPlane,
    /// The kubelet and all pods but those with these UIDs, each time when asked for.
    AllBut(Vec<String>),
}
