//! Attempts at a run: the causes of a refusal, and how many refusals a comparison tolerates.
//!
//! A refused attempt is recorded beside the run that replaced it. So the recording shows the selection.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::Arm;
use super::counter::Counter;

/// Most attempts at one run. After this many refusals the machine is unfit to measure on, and the comparison ends.
pub const MAX_ATTEMPTS: u32 = 5;

/// Share of an arm's attempts that may be refused. Above this share, a comparison is inconclusive.
///
/// Refusals by a variable that the treatment does not affect hit both arms alike, and leave the ratio unchanged at any
/// share. The limit covers a variable that the treatment does affect. At worst, only one arm loses its slowest fifth.
/// The loss shifts the arm's mean by 0.35 standard deviations of a run: a quarter of the scatter of pairs, and less
/// than a third of the interval's half-width with ten pairs. The simulations are in
/// `docs/measurements/judge-simulations.md`.
pub const MAX_REFUSED_SHARE: f64 = 0.2;

/// Least share of a run during which the rest of the cluster must be frozen. Applies only if the cluster is frozen.
pub const MIN_FROZEN_SHARE: f64 = 0.95;

/// Receipt: the share of the measured time during which everything in the cluster outside the measurement was frozen.
pub const FROZEN_SHARE: &str = "frozen_share";

/// A variable by which an attempt may be refused and repeated.
///
/// The list is closed, and contains only variables that a treatment does not affect. Variables that a treatment affects
/// (a proxy's CPU usage, failed requests, sends delayed by a slow target) never refuse an attempt. Such variables end
/// the comparison, with an error or by a [precondition](super::Trial::preconditions) on both arms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The load generator reported that it was late, too slow, or out of CPU time, ports or file descriptors. The
    /// report excludes delays by the target.
    GeneratorSaturated,
    /// Other pods of the cluster ran during the measurement. This machine freezes the other pods, outside the mesh.
    NotFrozen,
    /// A command in a container ended without its output. Nothing was measured.
    Interrupted,
}

impl Cause {
    /// The cause as text, for tables.
    pub fn words(self) -> &'static str {
        match self {
            Self::GeneratorSaturated => "generator saturated",
            Self::NotFrozen => "rest of the cluster not frozen",
            Self::Interrupted => "interrupted",
        }
    }
}

/// The reason for refusing an attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    /// The variable.
    pub cause: Cause,
    /// The observation as text.
    pub reason: String,
}

impl Refusal {
    /// The refusal of an attempt that measured nothing.
    pub fn interrupted(reason: impl Into<String>) -> Self {
        Self { cause: Cause::Interrupted, reason: reason.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

/// Attempts at the runs of one arm.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempts {
    /// Number of attempts.
    pub made: u32,
    /// Number of refused attempts.
    pub refused: u32,
    /// Number of refusals by cause. One attempt can have several causes.
    pub causes: BTreeMap<Cause, u32>,
}

impl Attempts {
    /// Counts one attempt.
    pub(super) fn count(&mut self, refused: &[Refusal]) {
        self.made += 1;
        if refused.is_empty() {
            return;
        }
        self.refused += 1;
        let mut causes: Vec<Cause> = refused.iter().map(|refusal| refusal.cause).collect();
        causes.sort_unstable();
        causes.dedup();
        for cause in causes {
            *self.causes.entry(cause).or_default() += 1;
        }
    }

    /// Share of attempts that were refused.
    pub fn refused_share(&self) -> f64 {
        f64::from(self.refused) / f64::from(self.made.max(1))
    }
}

/// `2 of 12 refused (generator saturated: 2)`.
impl fmt::Display for Attempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} refused", self.refused, self.made)?;
        if self.causes.is_empty() {
            return Ok(());
        }
        let causes: Vec<String> =
            self.causes.iter().map(|(cause, count)| format!("{}: {count}", cause.words())).collect();
        write!(f, " ({})", causes.join(", "))
    }
}

/// The selection of a comparison's judged runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// Attempts at runs of the control arm.
    pub control: Attempts,
    /// Attempts at runs of the treatment arm.
    pub treatment: Attempts,
}

impl Selection {
    /// Counts one attempt.
    pub(super) fn count(&mut self, arm: Arm, refused: &[Refusal]) {
        match arm {
            Arm::Control => self.control.count(refused),
            Arm::Treatment => self.treatment.count(refused),
        }
    }

    /// Whether the selection is unknown. Old reports do not record attempts.
    pub fn is_unknown(&self) -> bool {
        self.control.made + self.treatment.made == 0
    }

    /// The first arm with a refused share above [`MAX_REFUSED_SHARE`].
    pub(super) fn excess(&self) -> Option<Undecided> {
        let arms = [(Arm::Control, &self.control), (Arm::Treatment, &self.treatment)];
        let excess = arms.into_iter().find(|(_, attempts)| attempts.refused_share() > MAX_REFUSED_SHARE);
        excess.map(|(arm, attempts)| Undecided::Selection { arm, attempts: attempts.clone() })
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "control: {}; treatment: {}", self.control, self.treatment)
    }
}

/// Why a comparison is inconclusive, regardless of its interval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "because", rename_all = "kebab-case")]
pub enum Undecided {
    /// Too many attempts of an arm were refused.
    Selection {
        /// The arm.
        arm: Arm,
        /// The arm's attempts.
        attempts: Attempts,
    },
    /// All attempts at one run were refused.
    Abandoned {
        /// The run's number.
        order: u32,
        /// The run's arm.
        arm: Arm,
        /// The refusal of the last attempt.
        last: Refusal,
    },
    /// An arm does not meet a precondition.
    Precondition {
        /// The receipt.
        receipt: String,
        /// The arm.
        arm: Arm,
        /// Mean over the arm's runs.
        mean: f64,
        /// The required value.
        required: Counter,
    },
}

impl fmt::Display for Undecided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Selection { arm, attempts } => write!(
                f,
                "{arm} runs: {attempts}; more than {:.0} % leaves a selection, so free the machine of other work and measure again",
                MAX_REFUSED_SHARE * 100.0
            ),
            Self::Abandoned { order, arm, last } => write!(
                f,
                "run {order:03}-{arm} was refused {MAX_ATTEMPTS} times, the last time for this: {last}; free the machine of other \
                 work and measure again"
            ),
            Self::Precondition { receipt, arm, mean, required } => {
                write!(
                    f,
                    "`{receipt}` is {mean:.3} in the mean over the {arm} runs, and {required} is required of both arms"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::tests::run;

    #[test]
    fn a_measured_run_is_refused_by_the_generators_account_and_by_what_was_not_frozen_and_by_nothing_else() {
        let mut run = run(1, 1_000.0);
        assert_eq!(run.refusals(), []);
        // Errors and drops are variables that a treatment affects.
        (run.errors, run.dropped) = (5_000, 5_000);
        run.receipts.insert("gateway_busy".into(), 0.0);
        run.receipts.insert(FROZEN_SHARE.into(), MIN_FROZEN_SHARE);
        assert_eq!(run.refusals(), []);
        run.receipts.insert(FROZEN_SHARE.into(), 0.5);
        run.saturated = Some("late".into());
        let causes: Vec<Cause> = run.refusals().into_iter().map(|refusal| refusal.cause).collect();
        assert_eq!(causes, [Cause::GeneratorSaturated, Cause::NotFrozen]);
    }

    #[test]
    fn an_attempt_with_two_reasons_is_one_refused_attempt() {
        let mut attempts = Attempts::default();
        let refusal = |cause| Refusal { cause, reason: String::new() };
        attempts.count(&[refusal(Cause::NotFrozen), refusal(Cause::GeneratorSaturated), refusal(Cause::NotFrozen)]);
        (0..4).for_each(|_| attempts.count(&[]));
        assert_eq!((attempts.made, attempts.refused, attempts.refused_share()), (5, 1, 0.2));
        let told = "1 of 5 refused (generator saturated: 1, rest of the cluster not frozen: 1)";
        assert_eq!(attempts.to_string(), told);
    }

    #[test]
    fn a_fifth_of_an_arm_may_be_refused_and_no_more_of_either() {
        let of = |refused: u32, made: u32| Attempts { made, refused, ..Attempts::default() };
        let selection = |control, treatment| Selection { control, treatment }.excess();
        assert_eq!(selection(of(2, 10), of(2, 10)), None);
        let Some(Undecided::Selection { arm: Arm::Treatment, attempts }) = selection(of(0, 10), of(3, 10)) else {
            panic!("the treatment arm lost more than a fifth")
        };
        assert_eq!(attempts, of(3, 10));
        assert!(matches!(selection(of(2, 9), of(0, 9)), Some(Undecided::Selection { arm: Arm::Control, .. })));
    }
}
