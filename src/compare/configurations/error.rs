//! Why two configurations could not be compared.

use std::path::PathBuf;

use crate::judge::Arm;
use crate::{compare, scope};

/// Result of a step.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why two configurations were not compared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The source of a side cannot be opened.
    #[error("{source_text}: {reason}")]
    Source {
        /// The source, as it was given.
        source_text: String,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A manifest cannot be used.
    #[error("{}: {reason}", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// The two sides declare the same.
    #[error("nothing was compared: {0}. Change an object in the treatment")]
    Equal(#[from] Equal),
    /// No proxy was given anything that differs.
    #[error("nothing was compared: what the proxies of both arms were given does not differ. {hint}")]
    NoDifference {
        /// What to look at.
        hint: String,
    },
    /// The configuration of the proxies changed during the comparison.
    #[error(
        "the arms no longer differ as the receipt says ({reason}): something else changed the mesh meanwhile. Compare again while nothing else does"
    )]
    Changed {
        /// The first change.
        reason: String,
    },
    /// There is no image of the load driver.
    #[error(
        "{cluster}: there is no load driver: name its image by `--load-image`, for example the one that `cargo xtask image push --of load REGISTRY/REPO` pushes"
    )]
    NoDriver {
        /// The cluster.
        cluster: String,
    },
    /// The user's own service is not as the comparison needs it.
    #[error("service {service} of the {side} cannot be measured: {reason}")]
    Service {
        /// The service.
        service: String,
        /// The side whose manifests are to be mended.
        side: Arm,
        /// What is missing, and what to do.
        reason: String,
    },
    /// The control does not answer, so nothing can be compared with it.
    #[error("nothing was compared: the control itself does not answer: {seen}")]
    ControlSilent {
        /// The outcome of the call.
        seen: String,
    },
    /// An error of the measurement.
    #[error(transparent)]
    Compare(#[from] compare::Error),
    /// An error of the scope.
    #[error(transparent)]
    Scope(#[from] Box<scope::Error>),
}

/// The two sides declare the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("both sides declare the same: {objects} objects")]
pub struct Equal {
    /// Number of objects in each.
    pub objects: usize,
}

impl Error {
    /// Whether the command line, or a file that it names, is unusable.
    pub fn is_usage(&self) -> bool {
        matches!(self, Self::Source { .. } | Self::Manifest { .. } | Self::Service { .. })
    }
}

impl From<scope::Error> for Error {
    fn from(error: scope::Error) -> Self {
        Self::Scope(Box::new(error))
    }
}

impl From<crate::cluster::Error> for Error {
    fn from(error: crate::cluster::Error) -> Self {
        scope::Error::from(error).into()
    }
}

impl From<crate::record::Error> for Error {
    fn from(error: crate::record::Error) -> Self {
        scope::Error::from(error).into()
    }
}

impl From<Error> for scope::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Compare(error) => error.into(),
            Error::Scope(error) => *error,
            own => Self::suite(own),
        }
    }
}
