//! A claim, as judged.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A verdict. Each is given once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Judgement {
    /// It holds.
    Pass,
    /// It does not, or its evidence is missing.
    Fail,
    /// It was not judged: something on the way to it failed. Not a pass.
    #[default]
    Error,
}

/// What was claimed, what was seen, and the verdict.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Unique within the suite.
    pub id: String,
    /// What the mesh owes.
    pub requirement: String,
    /// From where.
    pub source: String,
    /// To where.
    pub destination: String,
    /// What should be seen.
    pub expected: String,
    /// What was seen.
    pub observed: String,
    /// What backs it, or speaks against it.
    pub evidence: Vec<String>,
    /// The verdict.
    pub verdict: Judgement,
    /// Commands that show more. Not part of the record: they hold for the testbed that is there now.
    #[serde(skip)]
    pub next: Vec<String>,
}

impl Claim {
    /// A claim that could not be judged.
    pub fn error(id: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            requirement: "the test reaches its claims".into(),
            expected: "a verdict".into(),
            observed: reason.into(),
            ..Self::default()
        }
    }

    /// Adds a line of evidence.
    #[must_use]
    pub fn evidence(mut self, line: impl Into<String>) -> Self {
        self.evidence.push(line.into());
        self
    }

    /// Adds what speaks against the claim, which fails it.
    #[must_use]
    pub fn fault(mut self, line: impl Into<String>) -> Self {
        self.evidence.push(format!("against it: {}", line.into()));
        self.verdict = Judgement::Fail;
        self
    }

    /// Sets the commands that show more.
    #[must_use]
    pub fn next(mut self, commands: Vec<String>) -> Self {
        self.next = commands;
        self
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Judgement::Pass => "holds",
            Judgement::Fail => "does not hold",
            Judgement::Error => "was not judged",
        };
        writeln!(f, "claim {} {verdict}", self.id)?;
        let mut row = |name: &str, lines: &[&str]| {
            for (index, line) in lines.iter().filter(|line| !line.is_empty()).enumerate() {
                writeln!(f, "  {:<9} {line}", if index == 0 { name } else { "" })?;
            }
            Ok(())
        };
        row("owed", &[&self.requirement])?;
        row("from", &[&self.source])?;
        row("to", &[&self.destination])?;
        row("expected", &[&self.expected])?;
        row("seen", &[&self.observed])?;
        row("evidence", &self.evidence.iter().map(String::as_str).collect::<Vec<_>>())?;
        row("run next", &self.next.iter().map(String::as_str).collect::<Vec<_>>())
    }
}
