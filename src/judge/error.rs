//! Errors of the judge: unusable bounds, baselines and recorded runs.

use std::path::PathBuf;

use super::arm::Arm;

/// Result of reading bounds or runs.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why judging failed. A verdict is never an error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A recorded run cannot be used.
    #[error("the run {}: `{field}`: {reason}", path.display())]
    Run {
        /// The file.
        path: PathBuf,
        /// The faulty field.
        field: Box<str>,
        /// The fault.
        reason: Box<str>,
    },
    /// The environment variable names an unknown mode.
    #[error("{variable}: there is no mode `{name}`; use one of {}", known.join(", "))]
    Mode {
        /// The variable.
        variable: &'static str,
        /// The variable's value.
        name: Box<str>,
        /// The known modes.
        known: Box<[&'static str]>,
    },
    /// The bounds cannot be used.
    #[error("{}:{line}: {reason}", path.display())]
    Bounds {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
        /// The fault.
        reason: Box<str>,
    },
    /// A run was refused: the run describes the generator, the machine, or an arm without its treatment. The run does
    /// not describe the mesh.
    #[error("{comparison}: run {order:03}-{arm} is refused: {reason}")]
    Refused {
        /// The comparison.
        comparison: Box<str>,
        /// The run's number in the comparison.
        order: u32,
        /// The run's arm.
        arm: Arm,
        /// The reason.
        reason: Box<str>,
    },
    /// There is no pair of runs to compare.
    #[error("{comparison}: nothing was compared: {reason}")]
    NothingCompared {
        /// The comparison.
        comparison: Box<str>,
        /// The reason.
        reason: Box<str>,
    },
    /// A file of baselines cannot be used or written, or the runs give no baseline.
    #[error("{}: {reason}", path.display())]
    Baseline {
        /// The file.
        path: PathBuf,
        /// The fault and its field.
        reason: String,
    },
    /// Recorded runs do not form a comparison.
    #[error("{}: {reason}", directory.display())]
    Recording {
        /// The directory of the runs.
        directory: PathBuf,
        /// The fault.
        reason: String,
    },
}
