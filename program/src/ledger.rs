//! `ledger`: outcomes of tests over many commits, and the flakes among them.

use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::{Result, ensure};
use meshproof::ledger::{Entry, History, Ledger as File, flakes, histories};
use meshproof::report;

use crate::gate::DAYS;

/// Record outcomes of tests on a commit, and name the tests that went both ways on one
#[derive(Debug, clap::Subcommand)]
pub enum Ledger {
    /// Append the outcomes of reports to the ledger
    Add(Add),
    /// Print the tests that went both ways on one commit, each with its rate
    Show(Show),
}

/// Arguments of `ledger add`.
#[derive(Debug, clap::Args)]
pub struct Add {
    /// The ledger: JSON Lines
    #[arg(long, value_name = "FILE")]
    ledger: PathBuf,
    /// The commit that was tested [default: the revision of the report, if that is a commit]
    #[arg(long, value_name = "COMMIT")]
    commit: Option<String>,
    /// Which attempt at this run it is, from 1: only first attempts count in a rate
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    attempt: u32,
    /// Where a report.json is, such as meshproof/mtls
    #[arg(required = true, value_name = "DIR")]
    directories: Vec<PathBuf>,
}

/// Arguments of `ledger show`.
#[derive(Debug, clap::Args)]
pub struct Show {
    /// The ledger: JSON Lines. Several are merged
    #[arg(required = true, value_name = "FILE")]
    ledgers: Vec<PathBuf>,
    /// Leave out what is older
    #[arg(long, value_name = "DAYS", default_value_t = DAYS)]
    days: u64,
}

impl Ledger {
    /// Appends, or prints.
    ///
    /// # Errors
    /// Fails if a report or a ledger cannot be read or written, or the outcomes belong to no commit.
    pub fn run(self) -> Result<()> {
        match self {
            Self::Add(add) => add.run(),
            Self::Show(show) => show.run(),
        }
    }
}

impl Add {
    fn run(self) -> Result<()> {
        let mut entries = Vec::new();
        for directory in &self.directories {
            entries.extend(Entry::of(&report::read(directory)?, self.commit.as_deref(), self.attempt)?);
        }
        let count = File::append(&self.ledger, entries)?;
        println!("{}: {count} more", self.ledger.display());
        Ok(())
    }
}

impl Show {
    fn run(self) -> Result<()> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut ledger = File::default();
        for path in &self.ledgers {
            // A ledger that is to be appended to may be missing, and one that is asked may not.
            ensure!(path.is_file(), "no ledger at {}: `meshproof ledger add` makes one", path.display());
            ledger = ledger.merged(File::read(path)?);
        }
        let all = histories(&ledger, now.saturating_sub(self.days * 86_400));
        if all.iter().any(History::is_flake) {
            println!("{}", flakes(&all));
        }
        let flaky = all.iter().filter(|one| one.is_flake()).count();
        println!("{flaky} of {} tests went both ways on one commit", all.len());
        Ok(())
    }
}
