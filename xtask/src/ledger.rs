//! `ledger.json` (`meshproof.ledger/v1`): the cost of bringing up the testbed, compared with the seed's manual
//! procedure.

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::progress::Step;

/// Schema identifier.
const SCHEMA: &str = "meshproof.ledger/v1";

/// File name inside the testbed directory.
pub(crate) const FILE_NAME: &str = "ledger.json";

/// A manual procedure of the seed, from its Table 1.
struct Manual {
    system: &'static str,
    steps: u32,
    seconds: u32,
}

impl Manual {
    /// The procedure that produces `layout`.
    fn of(layout: &str) -> Self {
        match layout {
            "global-namespace" => Self { system: "global namespace, two clusters", steps: 30, seconds: 6 * 60 + 15 },
            _ => Self { system: "Istio on two clusters", steps: 45, seconds: 24 * 60 + 27 },
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Ledger {
    schema: String,
    /// How the application is spread over the clusters.
    layout: String,
    pub(crate) steps: Vec<Step>,
    /// Whether every artifact was in the cache.
    pub(crate) warm: bool,
    pub(crate) total_seconds: f64,
    /// Seconds from the start of the command to the first answered cross-cluster call over mTLS.
    pub(crate) first_cross_cluster_success_seconds: f64,
    /// Number of steps of the seed's manual procedure that this one command replaces.
    pub(crate) manual_equivalent_steps: u32,
}

impl Ledger {
    pub(crate) fn new(
        layout: &str,
        steps: Vec<Step>,
        warm: bool,
        total_seconds: f64,
        first_success_seconds: f64,
    ) -> Self {
        Self {
            schema: SCHEMA.into(),
            layout: layout.into(),
            steps,
            warm,
            total_seconds,
            first_cross_cluster_success_seconds: first_success_seconds,
            manual_equivalent_steps: Manual::of(layout).steps,
        }
    }

    pub(crate) fn write(&self, directory: &Path) -> Result<()> {
        let path = directory.join(FILE_NAME);
        std::fs::write(&path, serde_json::to_string_pretty(self)? + "\n")
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// The ledger in `directory`, if readable.
    pub(crate) fn read(directory: &Path) -> Option<Self> {
        serde_json::from_str(&std::fs::read_to_string(directory.join(FILE_NAME)).ok()?).ok()
    }

    /// The comparison with the seed's procedure, as a table.
    pub(crate) fn comparison(&self) -> String {
        let commands: u32 = self.steps.iter().map(|step| step.commands).sum();
        let clock = |seconds: f64| {
            let seconds = seconds.round() as u64;
            format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
        };
        let warmth = if self.warm { "artifacts cached" } else { "artifacts built" };
        let manual = Manual::of(&self.layout);
        let row = |name: &str, by_hand: String, ours: String| format!("{name:<36}{by_hand:>16}{ours:>16}\n");
        [
            row(manual.system, "by hand (seed)".into(), "meshproof".into()),
            row("time to a first answer over mTLS", String::new(), clock(self.first_cross_cluster_success_seconds)),
            row("time to the application", clock(f64::from(manual.seconds)), clock(self.total_seconds)),
            row("steps a person takes", manual.steps.to_string(), "1".into()),
            row("commands and writes made for them", String::new(), commands.to_string()),
            format!("({warmth}; the seed's time begins with running clusters, ours with none)\n"),
        ]
        .concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_comparison_shows_both_clocks_and_both_step_counts() {
        let step = Step { name: "x".into(), cluster: None, start_s: 0.0, seconds: 1.0, commands: 7, cached: false };
        let text = Ledger::new("istio", vec![step.clone(), step], true, 80.0, 65.4).comparison();
        for part in ["0:24:27", "0:01:05", "0:01:20", "45", "14", "artifacts cached"] {
            assert!(text.contains(part), "no `{part}` in:\n{text}");
        }
        let text = Ledger::new("global-namespace", vec![], true, 80.0, 65.4).comparison();
        assert!(text.contains("0:06:15") && text.contains("30"), "{text}");
    }

    #[test]
    fn a_ledger_reads_back() {
        let directory = tempfile::tempdir().unwrap();
        Ledger::new("istio", vec![], false, 2.0, 1.0).write(directory.path()).unwrap();
        let ledger = Ledger::read(directory.path()).unwrap();
        assert_eq!((ledger.warm, ledger.total_seconds), (false, 2.0));
    }
}
