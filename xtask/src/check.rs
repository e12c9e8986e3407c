//! `cargo xtask check`: what CI checks without a testbed.

mod action;
mod stage;
mod step;
mod tool;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::versions::Versions;
use stage::{ALL, Stage};

/// Exit code if every stage that ran has passed, but a stage could not run because a tool is missing.
const TOOL_MISSING: u8 = 3;

/// Check what CI checks without a testbed: formatting, workflows, dependencies, lints, docs, unit tests, packages
#[derive(clap::Args)]
#[command(
    after_help = "Exit codes: 0 all stages passed, 1 a stage failed, 3 a tool is missing and cannot be installed."
)]
pub(crate) struct Check {
    /// Run this stage alone; may be given several times
    #[arg(long, value_enum, value_name = "STAGE")]
    only: Vec<Stage>,
}

/// Result of a stage.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Ending {
    Passed,
    /// A command failed. The text is its exit status, or the fault in its output.
    Failed(String),
    /// The stage needs a tool that is missing and cannot be installed.
    NoTool(String),
}

/// A finished stage.
struct Done {
    stage: Stage,
    ending: Ending,
    took: Duration,
}

impl Check {
    /// Runs all stages, even after a failed stage, and prints the result of each.
    ///
    /// # Errors
    /// Fails if the pinned versions cannot be read or a stage's command cannot be started. Later stages do not run
    /// then.
    pub(crate) async fn run(self) -> Result<ExitCode> {
        let versions = Versions::read()?;
        let mut done = Vec::new();
        for stage in ALL.into_iter().filter(|stage| self.only.is_empty() || self.only.contains(stage)) {
            println!("\n=== {}", stage.title());
            let start = Instant::now();
            let ending = execute(stage, &versions).await?;
            done.push(Done { stage, ending, took: start.elapsed() });
        }
        print!("\n{}", summary(&done));
        Ok(exit_code(&done).into())
    }
}

/// Installs the stage's tools if necessary, then runs its commands until one fails.
async fn execute(stage: Stage, versions: &Versions) -> Result<Ending> {
    for tool in stage.tools() {
        if let Err(error) = tool.ensure(versions).await {
            return Ok(Ending::NoTool(format!("{error:#}")));
        }
    }
    stage.prepare()?;
    for step in stage.steps(versions)? {
        if let Some(failure) = step.run().await? {
            return Ok(Ending::Failed(failure));
        }
    }
    Ok(Ending::Passed)
}

/// One line per stage, then the names of the stages that did not pass.
fn summary(done: &[Done]) -> String {
    let mut text = String::new();
    for Done { stage, ending, took } in done {
        let how = match ending {
            Ending::Passed => "passed",
            Ending::Failed(status) => &format!("FAILED ({status})"),
            Ending::NoTool(why) => &format!("DID NOT RUN: {why}"),
        };
        text.push_str(&format!("{:<13} {:6.1} s  {how}\n", stage.name(), took.as_secs_f64()));
    }
    let bad: Vec<_> = done.iter().filter(|one| one.ending != Ending::Passed).map(|one| one.stage.name()).collect();
    match bad.first() {
        None => text.push_str("all stages passed\n"),
        Some(first) => {
            let names = bad.join(", ");
            text.push_str(&format!("not passed: {names}; run one again with `cargo xtask check --only {first}`\n"));
        }
    }
    text
}

/// A failed stage has priority over a missing tool, because the failure concerns the code.
fn exit_code(done: &[Done]) -> u8 {
    let any = |kind: fn(&Ending) -> bool| done.iter().any(|one| kind(&one.ending));
    if any(|ending| matches!(ending, Ending::Failed(_))) {
        1
    } else if any(|ending| matches!(ending, Ending::NoTool(_))) {
        TOOL_MISSING
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(stage: Stage, ending: Ending) -> Done {
        Done { stage, ending, took: Duration::from_millis(1500) }
    }

    fn failed() -> Ending {
        Ending::Failed("exit status: 101".into())
    }

    fn no_tool() -> Ending {
        Ending::NoTool("cmake is missing: apt-get install cmake".into())
    }

    #[test]
    fn the_exit_code_is_1_for_a_failure_3_for_a_missing_tool_and_else_0() {
        let of = |endings: &[Ending]| {
            exit_code(&endings.iter().map(|ending| done(Stage::Format, ending.clone())).collect::<Vec<_>>())
        };
        assert_eq!(of(&[Ending::Passed, Ending::Passed]), 0);
        assert_eq!(of(&[Ending::Passed, no_tool()]), 3);
        assert_eq!(of(&[no_tool(), failed(), Ending::Passed]), 1);
    }

    #[test]
    fn the_summary_times_each_stage_and_names_those_that_did_not_pass() {
        let text = summary(&[
            done(Stage::Format, failed()),
            done(Stage::Clippy, Ending::Passed),
            done(Stage::UnitTests, no_tool()),
        ]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(lines[0].contains("format") && lines[0].contains("1.5 s  FAILED (exit status: 101)"), "{text}");
        assert!(lines[1].contains("clippy") && lines[1].contains("passed"), "{text}");
        assert!(lines[2].contains("apt-get install cmake"), "{text}");
        assert!(lines[3].contains("format, unit-tests") && !lines[3].contains("clippy"), "{text}");
    }
}
