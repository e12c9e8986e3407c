//! The namespaces of a bench.

use super::error::Result;
use crate::cluster::Cluster;
use crate::record::BENCH;

/// A namespace of the [bench](crate::record::Bench) of a cluster. Each namespace has an identical twin without the TCP bypass,
/// so that both arms exist at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// With proxies.
    Meshed,
    /// The twin of [`Side::Meshed`].
    MeshedTwin,
    /// Without proxies.
    Naked,
    /// The twin of [`Side::Naked`].
    NakedTwin,
}

impl Side {
    /// The side's namespace in a cluster.
    ///
    /// # Errors
    /// [`NotDeclared`](crate::record::Error::NotDeclared): the cluster has no bench.
    pub fn namespace(self, cluster: &Cluster) -> Result<&str> {
        let record = cluster.record();
        let bench = record.declared(BENCH, record.bench.as_ref())?;
        Ok(match self {
            Self::Meshed => &bench.meshed,
            Self::MeshedTwin => &bench.meshed_twin,
            Self::Naked => &bench.naked,
            Self::NakedTwin => &bench.naked_twin,
        })
    }

    /// Whether the side's pods have proxies.
    pub fn is_meshed(self) -> bool {
        matches!(self, Self::Meshed | Self::MeshedTwin)
    }
}
