//! `fixtures/perf/bounds.toml`: the comparisons, their duration, and their bounds.
//!
//! A *gate* fails the test if the interval is beyond the gate, or still inconclusive at the end of the budget. Set a
//! gate where a healthy system is clearly within it. A *goal* is reported as reached or not reached. A goal fails no
//! test, so a goal can stay ambitious. Every number must name its source: a file without a source is refused, with the
//! line.

mod file;

use std::path::Path;

use super::trial::{Mode, Trial};
use crate::judge::{Error, Result};

/// All comparisons, in the file's order.
#[derive(Debug, Clone, PartialEq)]
pub struct Bounds {
    trials: Vec<Trial>,
}

impl Bounds {
    /// Reads the file.
    ///
    /// # Errors
    /// [`Error::Bounds`], with the line.
    pub fn load(path: &Path, mode: Mode) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| Error::Bounds {
            path: path.into(),
            line: 0,
            reason: error.to_string().into(),
        })?;
        Self::parse(&text, path, mode)
    }

    /// Parses the text of a file.
    ///
    /// # Errors
    /// The errors of [`Self::load`].
    pub fn parse(text: &str, path: &Path, mode: Mode) -> Result<Self> {
        let fault = |(at, reason): (usize, String)| {
            let line = text.as_bytes()[..at.min(text.len())].iter().filter(|&&byte| byte == b'\n').count() + 1;
            Error::Bounds { path: path.into(), line, reason: reason.into() }
        };
        let file: file::File = toml::from_str(text).map_err(|error| {
            fault((error.span().map_or(text.len(), |span| span.start), error.message().replace('\n', "; ")))
        })?;
        Ok(Self { trials: file.trials(mode).map_err(fault)? })
    }

    /// All comparisons.
    pub fn trials(&self) -> &[Trial] {
        &self.trials
    }

    /// The comparison with this id.
    pub fn trial(&self, id: &str) -> Option<&Trial> {
        self.trials.iter().find(|trial| trial.id == id)
    }
}

#[cfg(test)]
mod tests;
