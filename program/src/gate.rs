//! `gate`: whether a change may pass, by the reports of its suites.

use std::path::PathBuf;
use std::time::SystemTime;

use meshproof::ledger::{self, Gate as Judged, GateVerdict, Known, Ledger, Quarantine, flakes};
use meshproof::report::{self, Report, against};
use meshproof::scope::allows_undeclared;

use crate::Ended;
use crate::report::{Changes, append};

/// Days of the ledger that count.
pub(crate) const DAYS: u64 = 90;

/// Whether a change may pass: every test of the reports has passed at its first attempt, but for those in quarantine
#[derive(Debug, clap::Args)]
pub struct Gate {
    /// Where a report.json is, such as meshproof/mtls
    #[arg(required = true, value_name = "DIR")]
    directories: Vec<PathBuf>,
    /// Tests whose failure is known, each with an owner and a last day
    #[arg(long, value_name = "FILE")]
    quarantine: Option<PathBuf>,
    /// Outcomes of earlier runs: a failure that is a known flake says so
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// An earlier run, as of `report --against`: the summary has what changed as well
    #[arg(long, value_name = "BASE")]
    against: Option<PathBuf>,
    /// Append the Markdown to this file
    #[arg(long, value_name = "FILE")]
    summary: Option<PathBuf>,
    /// A page about the run, for the Markdown
    #[arg(long, value_name = "URL")]
    url: Option<String>,
}

/// Why there is no verdict.
struct Stopped {
    ended: Ended,
    reason: String,
}

impl Stopped {
    fn usage(reason: impl ToString) -> Self {
        Self { ended: Ended::Usage, reason: reason.to_string() }
    }
}

impl Gate {
    /// Judges the reports, prints the verdict, and writes the summary.
    pub fn run(self) -> Ended {
        self.judge().unwrap_or_else(|Stopped { ended, reason }| {
            eprintln!("error: {reason}");
            ended
        })
    }

    fn judge(&self) -> Result<Ended, Stopped> {
        let quarantine = self.quarantine.as_deref().map(Quarantine::read).transpose().map_err(Stopped::usage)?;
        let ledger = self.ledger.as_deref().map(Ledger::read).transpose().map_err(Stopped::usage)?;
        let (quarantine, ledger) = (quarantine.unwrap_or_default(), ledger.unwrap_or_default());
        let allows = allows_undeclared().map_err(Stopped::usage)?;
        let read: Vec<_> = self.directories.iter().map(|directory| report::read(directory)).collect();
        let missing: Vec<String> = read.iter().filter_map(|one| Some(one.as_ref().err()?.to_string())).collect();
        let reports: Vec<Report> = read.into_iter().filter_map(Result::ok).collect();
        // Without a report, its tests are not known.
        if missing.is_empty() {
            quarantine.check(&Known { reports: &reports, ledger: &ledger }).map_err(Stopped::usage)?;
        }
        let now = SystemTime::now();
        let judged = Judged::of(&reports, &quarantine, allows, now);
        let histories = ledger::histories(&ledger, since(now));
        self.summarize(&ledger::markdown(&judged, &histories, self.url.as_deref()))?;
        print(&judged);
        let flaky = flakes(&histories);
        if !flaky.rows.is_empty() {
            println!("\n{flaky}");
        }
        missing.iter().for_each(|one| eprintln!("error: not judged: {one}"));
        Ok(match judged.verdict() {
            GateVerdict::Holds if missing.is_empty() => Ended::Holds,
            GateVerdict::Holds | GateVerdict::NothingJudged => Ended::NothingJudged,
            GateVerdict::DoesNotHold => Ended::DoesNotHold,
        })
    }

    /// Appends the verdict, and what changed, in the lines and bytes of one summary.
    fn summarize(&self, verdict: &str) -> Result<(), Stopped> {
        let Some(summary) = &self.summary else { return Ok(()) };
        let changed = self.against.as_deref().map(|base| Changes::read(base, &self.directories));
        let changed = changed.transpose().map_err(|error| Stopped::usage(format!("{error:#}")))?;
        let lines = report::OPEN_LINES.saturating_sub(verdict.lines().count());
        let bytes = against::MOST_BYTES.saturating_sub(verdict.len());
        let changed = changed.map(|changes| changes.summary(lines, bytes)).unwrap_or_default();
        append(summary, &format!("{verdict}{changed}"))
            .map_err(|error| Stopped::usage(format!("cannot write {}: {error}", summary.display())))
    }
}

/// The first second that counts, since 1970-01-01 UTC.
fn since(now: SystemTime) -> u64 {
    now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs().saturating_sub(DAYS * 86_400)
}

/// Prints the verdict: what fails last.
fn print(judged: &Judged) {
    for red in judged.not_declared.iter() {
        println!("not declared   {}/{}", red.suite, red.test);
    }
    for red in &judged.quarantined {
        let held = red.quarantine.as_ref();
        let until = held.map(|held| format!(" until {}, {}", held.until, held.owner)).unwrap_or_default();
        println!("in quarantine  {}/{}: {}{until}", red.suite, red.test, red.outcome);
    }
    for red in &judged.undecided {
        println!("not decided    {}/{}: the file of comparisons allows it", red.suite, red.test);
    }
    for one in &judged.conclusions {
        println!("compared       {}: {one}", one.comparison);
    }
    for one in &judged.over {
        println!("over           {}/{}: its quarantine ended on {}, {}", one.suite, one.test, one.until, one.owner);
    }
    for red in &judged.failed {
        println!("fails          {}/{}: {} {}", red.suite, red.test, red.outcome, red.claims.join(", "));
    }
    println!(
        "gate: {}: {} passed, {} fail, {} in quarantine",
        judged.verdict(),
        judged.passed,
        judged.failed.len(),
        judged.quarantined.len()
    );
}
