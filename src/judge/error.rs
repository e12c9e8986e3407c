//! Errors of the judge: bounds, baselines and recorded runs that cannot be used.

use std::path::PathBuf;

use super::arm::Arm;

/// Result of reading bounds or runs.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why nothing can be judged. A verdict is never an error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A recorded run cannot be used.
    #[error("the run {}: `{field}`: {reason}", path.display())]
    Run {
        /// The file.
        path: PathBuf,
        /// The field at fault.
        field: Box<str>,
        /// What is wrong with it.
        reason: Box<str>,
    },
    /// The environment names an unknown mode.
    #[error("{variable}: there is no mode `{name}`; use one of {}", known.join(", "))]
    Mode {
        /// The variable.
        variable: &'static str,
        /// The name in the environment.
        name: Box<str>,
        /// The modes that exist.
        known: Box<[&'static str]>,
    },
    /// The bounds cannot be used.
    #[error("{}:{line}: {reason}", path.display())]
    Bounds {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
        /// What is wrong there.
        reason: Box<str>,
    },
    /// A run was refused: it describes the generator, the machine or an arm without its treatment, not the mesh.
    #[error("{comparison}: run {order:03}-{arm} is refused: {reason}")]
    Refused {
        /// The comparison.
        comparison: Box<str>,
        /// The run's place in the comparison.
        order: u32,
        /// The run's arm.
        arm: Arm,
        /// Why.
        reason: Box<str>,
    },
    /// There is no pair of runs to compare.
    #[error("{comparison}: nothing was compared: {reason}")]
    NothingCompared {
        /// The comparison.
        comparison: Box<str>,
        /// Why.
        reason: Box<str>,
    },
    /// A file of baselines cannot be used or written, or the runs make no baseline.
    #[error("{}: {reason}", path.display())]
    Baseline {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the field at fault.
        reason: String,
    },
    /// Recorded runs do not make a comparison.
    #[error("{}: {reason}", directory.display())]
    Recording {
        /// The directory of the runs.
        directory: PathBuf,
        /// What is wrong with the runs.
        reason: String,
    },
}
