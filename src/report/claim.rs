//! A judged claim.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Subject;

/// A verdict. Each claim is judged once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Judgement {
    /// The claim holds.
    Pass,
    /// The claim does not hold, or its evidence is missing.
    Fail,
    /// The claim could not be judged. Not a pass.
    #[default]
    Error,
    /// The mesh does not offer what the claim needs. The claim was not judged. Not a pass.
    NotDeclared,
}

/// A call between two workloads of an application, for the matrix of callers and callees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edge {
    /// The calling workload.
    pub caller: String,
    /// The called workload.
    pub callee: String,
    /// The cluster that answered, as reported by the answering pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_by: Option<String>,
}

/// A claim: the requirement, the observation, and the verdict.
///
/// A verdict cannot be set by hand. [`Claim::about`] states the requirement. Comparing the expected value with the
/// observed value gives the verdict. Later evidence can fail a claim, but never make it pass.
///
/// ```
/// use meshproof::report::{Claim, Judgement};
///
/// let claim = Claim::about("replicas", "the gateway has two replicas").to("istio-ingressgateway").equals(&2, &1);
/// assert_eq!(claim.verdict(), Judgement::Fail);
/// ```
///
/// ```compile_fail,E0451
/// use meshproof::report::{Claim, Judgement};
///
/// let claim = Claim { verdict: Judgement::Pass, ..Claim::error("replicas", "nobody looked") };
/// ```
///
/// ```compile_fail,E0599
/// use meshproof::report::Claim;
///
/// // An expectation alone has no verdict.
/// let verdict = Claim::about("replicas", "the gateway has two replicas").expects("two replicas").verdict();
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    id: String,
    requirement: String,
    source: String,
    destination: String,
    expected: String,
    observed: String,
    evidence: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    faults: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    edge: Option<Edge>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subject: Option<Box<Subject>>,
    verdict: Judgement,
    /// Commands that show more. Not recorded: they are valid only for the current testbed.
    #[serde(skip)]
    commands: Vec<String>,
}

/// A requirement without an expectation.
#[must_use]
#[derive(Debug, Clone)]
pub struct Statement(Claim);

/// A requirement and an expectation. An observation turns the expectation into a claim.
#[must_use]
#[derive(Debug, Clone)]
pub struct Expectation(Claim);

impl Statement {
    /// Sets the origin of the connection or request.
    pub fn from(mut self, source: impl fmt::Display) -> Self {
        self.0.source = source.to_string();
        self
    }

    /// Sets the destination of the connection or request.
    pub fn to(mut self, destination: impl fmt::Display) -> Self {
        self.0.destination = destination.to_string();
        self
    }

    /// States the expectation as text.
    pub fn expects(mut self, expected: impl Into<String>) -> Expectation {
        self.0.expected = expected.into();
        Expectation(self.0)
    }

    /// The claim that `observed` equals `expected`.
    pub fn equals<T: PartialEq + fmt::Debug>(self, expected: &T, observed: &T) -> Claim {
        let words = |observed: &T| format!("{observed:?}");
        self.expects(format!("{expected:?}")).observes(observed, words, |observed| observed == expected)
    }
}

impl Expectation {
    /// The claim holds if `observed` satisfies the expectation. `words` describes the observation.
    pub fn observes<T: ?Sized>(
        mut self,
        observed: &T,
        words: impl FnOnce(&T) -> String,
        is_met: impl FnOnce(&T) -> bool,
    ) -> Claim {
        self.0.observed = words(observed);
        self.0.verdict = if is_met(observed) { Judgement::Pass } else { Judgement::Fail };
        self.0
    }

    /// The claim without a verdict: the observation failed for this reason.
    pub fn not_judged(mut self, reason: impl Into<String>) -> Claim {
        self.0.observed = reason.into();
        self.0.verdict = Judgement::Error;
        self.0
    }
}

impl Claim {
    /// States a requirement. `id` is unique within the suite.
    pub fn about(id: impl Into<String>, requirement: impl Into<String>) -> Statement {
        Statement(Self { id: id.into(), requirement: requirement.into(), ..Self::default() })
    }

    /// A claim that could not be judged.
    pub fn error(id: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::about(id, "the test reaches its claims").expects("a verdict").not_judged(reason)
    }

    /// A claim that was not judged, because the mesh does not offer what the claim needs.
    pub fn not_declared(id: impl Into<String>, reason: impl Into<String>) -> Self {
        let claim = Self::about(id, "the test reaches its claims").expects("a verdict").not_judged(reason);
        Self { verdict: Judgement::NotDeclared, ..claim }
    }

    /// Adds a line of evidence.
    #[must_use]
    pub fn with_evidence(mut self, line: impl Into<String>) -> Self {
        self.evidence.push(line.into());
        self
    }

    /// Adds a fault. A claim with a fault fails.
    #[must_use]
    pub fn with_fault(mut self, line: impl Into<String>) -> Self {
        self.faults.push(line.into());
        self.verdict = Judgement::Fail;
        self
    }

    /// Sets commands that show more.
    #[must_use]
    pub fn with_commands(mut self, commands: Vec<String>) -> Self {
        self.commands = commands;
        self
    }

    /// Names the call between workloads that the claim is about.
    #[must_use]
    pub fn with_edge(mut self, edge: Edge) -> Self {
        self.edge = Some(edge);
        self
    }

    /// Tells a diagnosis where to begin.
    #[must_use]
    pub fn with_subject(mut self, subject: Subject) -> Self {
        self.subject = Some(Box::new(subject));
        self
    }

    /// The claim as it is recorded: a claim that holds needs no diagnosis.
    #[cfg(feature = "suites")]
    #[must_use]
    pub(crate) fn settled(mut self) -> Self {
        self.subject = self.subject.filter(|_| self.verdict != Judgement::Pass);
        self
    }

    /// The claim's id, unique within the suite.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The requirement on the mesh.
    pub fn requirement(&self) -> &str {
        &self.requirement
    }

    /// Origin of the connection or request.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Destination of the connection or request.
    pub fn destination(&self) -> &str {
        &self.destination
    }

    /// The expectation.
    pub fn expected(&self) -> &str {
        &self.expected
    }

    /// The observation.
    pub fn observed(&self) -> &str {
        &self.observed
    }

    /// Evidence for the claim.
    pub fn evidence(&self) -> &[String] {
        &self.evidence
    }

    /// Faults: evidence against the claim.
    pub fn faults(&self) -> &[String] {
        &self.faults
    }

    /// The call between workloads that the claim is about, if any.
    pub fn edge(&self) -> Option<&Edge> {
        self.edge.as_ref()
    }

    /// Where a diagnosis begins, if the claim tells it.
    pub fn subject(&self) -> Option<&Subject> {
        self.subject.as_deref()
    }

    /// The verdict.
    pub fn verdict(&self) -> Judgement {
        self.verdict
    }

    /// Whether the claim holds.
    pub fn holds(&self) -> bool {
        self.verdict == Judgement::Pass
    }
}

/// Most characters of a printed line. The record has the whole line.
const WIDTH: usize = 600;

/// Most printed lines of evidence, and of faults.
const LINES: usize = 40;

/// A line, cut at [`WIDTH`].
fn short(line: &str) -> String {
    match line.char_indices().nth(WIDTH) {
        Some((end, _)) => format!("{}… (the rest is in report.json)", &line[..end]),
        None => line.to_owned(),
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Judgement::Pass => "holds",
            Judgement::Fail => "does not hold",
            Judgement::Error => "was not judged",
            Judgement::NotDeclared => "was not judged: not declared",
        };
        writeln!(f, "claim {} {verdict}", self.id)?;
        let mut row = |name: &str, lines: &[&str]| {
            for (index, line) in lines.iter().filter(|line| !line.is_empty()).enumerate() {
                writeln!(f, "  {:<9} {line}", if index == 0 { name } else { "" })?;
            }
            Ok(())
        };
        fn lines(lines: &[String]) -> Vec<&str> {
            lines.iter().map(String::as_str).collect()
        }
        fn shown(lines: &[String]) -> Vec<String> {
            let mut shown: Vec<String> = lines.iter().take(LINES).map(|line| short(line)).collect();
            if lines.len() > LINES {
                shown.push(format!("… {} more lines are in report.json", lines.len() - LINES));
            }
            shown
        }
        row("required", &[&self.requirement])?;
        row("from", &[&self.source])?;
        row("to", &[&self.destination])?;
        row("expected", &[&short(&self.expected)])?;
        row("seen", &[&short(&self.observed)])?;
        row("against", &lines(&shown(&self.faults)))?;
        row("evidence", &lines(&shown(&self.evidence)))?;
        // A command must run as it is printed.
        row("run next", &lines(&self.commands))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_holds_only_where_the_observation_meets_the_expectation() {
        let claim = |observed: &u32| Claim::about("a", "r").from("x").to("y").equals(&2, observed);
        assert!(claim(&2).holds());
        assert_eq!(claim(&1).verdict(), Judgement::Fail);
        assert_eq!(claim(&2).with_fault("a proxy says otherwise").verdict(), Judgement::Fail);
        assert_eq!(Claim::about("a", "r").expects("two").not_judged("nobody looked").verdict(), Judgement::Error);
    }

    #[test]
    fn what_nobody_reads_is_cut_and_stays_in_the_record() {
        let long = "é".repeat(5_000);
        let claim = (0..100).fold(Claim::about("a", "r").equals(&"", &long.as_str()), |claim, n| {
            claim.with_evidence(format!("line {n}"))
        });
        let claim = claim.with_commands(vec![long.clone()]);
        let text = claim.to_string();
        let seen = text.lines().find(|line| line.starts_with("  seen")).unwrap();
        assert!(seen.chars().count() < 660 && seen.ends_with("… (the rest is in report.json)"), "{seen}");
        assert!(text.contains("line 39\n") && !text.contains("line 40\n"), "{text}");
        assert!(text.contains("… 60 more lines are in report.json") && text.contains(&long), "{text}");
        let recorded = serde_json::to_string(&claim).unwrap();
        assert!(recorded.contains(&long) && recorded.contains("line 99"));
    }

    #[test]
    fn a_fault_is_printed_before_the_evidence() {
        let claim = Claim::about("a", "r").equals(&1, &1).with_evidence("one line").with_fault("another");
        let text = claim.to_string();
        assert!(text.find("against   another") < text.find("evidence  one line"), "{text}");
    }
}
