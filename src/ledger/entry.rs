//! The ledger's file: JSON Lines, one line for each attempt at a test.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Error, Result};
use crate::report::{Outcome, Report};

/// Version of a line.
pub const VERSION: u32 = 1;

/// An attempt at a test.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Entry {
    /// Always [`VERSION`].
    pub v: u32,
    /// The commit that was tested.
    pub commit: String,
    /// The suite.
    pub suite: String,
    /// The test.
    pub test: String,
    /// Id of the run.
    pub run: String,
    /// Which attempt it was, from 1. A job or a test that is tried again makes further attempts: their outcome shows a
    /// flake, and is never counted in a rate.
    pub attempt: u32,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// Name of the machine that ran the suite.
    pub host: String,
    /// When the test ended, in seconds since 1970-01-01 UTC.
    pub time: u64,
}

impl Entry {
    /// The tests of a report. `commit` is the commit that was tested: by default the report's revision. `attempt` is
    /// which attempt at the whole run it was, from 1.
    ///
    /// # Errors
    /// [`Error::NoCommit`].
    pub fn of(report: &Report, commit: Option<&str>, attempt: u32) -> Result<Vec<Self>> {
        let revision = report.revision.as_str();
        let is_commit = !revision.is_empty() && revision != "unknown" && !revision.ends_with("-dirty");
        let commit = commit.or(Some(revision).filter(|_| is_commit));
        let none = || Error::NoCommit { suite: report.suite.clone(), revision: revision.to_owned() };
        let commit = commit.ok_or_else(none)?;
        let entry = |one: &crate::report::Tested| Self {
            v: VERSION,
            commit: commit.to_owned(),
            suite: report.suite.clone(),
            test: one.test.clone(),
            run: report.run.clone(),
            attempt: one.attempt.max(attempt),
            outcome: one.outcome,
            host: report.host.name.clone(),
            time: one.time,
        };
        Ok(report.tests.iter().map(entry).collect())
    }
}

/// All that is known of earlier attempts: a set. The order of lines, and lines that are there twice, mean nothing, so git
/// can merge two files by taking the lines of both.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    entries: BTreeSet<Entry>,
}

impl Ledger {
    /// Reads a file. A file that does not exist is empty.
    ///
    /// # Errors
    /// [`Error::File`], or [`Error::Line`]: the line is no entry, or of another version.
    pub fn read(path: &Path) -> Result<Self> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(path, &text),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(Error::File { path: path.to_owned(), source }),
        }
    }

    /// Reads the text of the file `path`.
    ///
    /// # Errors
    /// [`Error::Line`].
    pub fn parse(path: &Path, text: &str) -> Result<Self> {
        let mut ledger = Self::default();
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let fault = |reason: String| Error::Line { path: path.to_owned(), line: index + 1, reason };
            let entry: Entry = serde_json::from_str(line).map_err(|error| fault(error.to_string()))?;
            if entry.v != VERSION {
                return Err(fault(format!("version {} is not {VERSION}: use a newer meshproof", entry.v)));
            }
            ledger.entries.insert(entry);
        }
        Ok(ledger)
    }

    /// Appends the entries that the file does not have. Others may append at the same time.
    ///
    /// # Errors
    /// The errors of [`Self::read`].
    pub fn append(path: &Path, entries: impl IntoIterator<Item = Entry>) -> Result<usize> {
        let failed = |source| Error::File { path: path.to_owned(), source };
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).map_err(failed)?;
        }
        let mut file = File::options().create(true).read(true).append(true).open(path).map_err(failed)?;
        file.lock().map_err(failed)?;
        let mut text = String::new();
        file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_string(&mut text)).map_err(failed)?;
        let known = Self::parse(path, &text)?;
        let new: BTreeSet<Entry> = entries.into_iter().filter(|entry| !known.entries.contains(entry)).collect();
        // A file whose last line has no end.
        let mut lines = if text.is_empty() || text.ends_with('\n') { String::new() } else { "\n".into() };
        for entry in &new {
            lines.push_str(&entry.line());
        }
        file.write_all(lines.as_bytes()).map_err(failed)?;
        Ok(new.len())
    }

    /// The entries of both.
    #[must_use]
    pub fn merged(mut self, other: Self) -> Self {
        self.entries.extend(other.entries);
        self
    }

    /// The entries, in order of commit, suite, test, run and attempt.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// Whether any attempt at this test is known.
    pub fn knows(&self, suite: &str, test: &str) -> bool {
        self.entries.iter().any(|entry| entry.suite == suite && entry.test == test)
    }
}

impl FromIterator<Entry> for Ledger {
    fn from_iter<T: IntoIterator<Item = Entry>>(entries: T) -> Self {
        Self { entries: entries.into_iter().collect() }
    }
}

impl Entry {
    /// The entry as a line of the file.
    fn line(&self) -> String {
        // Strings and numbers alone always have a form in JSON.
        serde_json::to_string(self).map(|line| line + "\n").unwrap_or_default()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::report::{Kind, Tested};

    /// An attempt at the test `a` of the suite `s`.
    pub(in super::super) fn entry(commit: &str, run: &str, attempt: u32, outcome: Outcome) -> Entry {
        let text = |text: &str| text.to_owned();
        Entry {
            v: VERSION,
            commit: text(commit),
            suite: text("s"),
            test: text("a"),
            run: text(run),
            attempt,
            outcome,
            host: text("here"),
            time: 1_796_000_000,
        }
    }

    const OUTCOMES: [Outcome; 5] = [
        Outcome::Passed,
        Outcome::NotDeclared,
        Outcome::Failed(Kind::Assertion),
        Outcome::Failed(Kind::Mesh),
        Outcome::Failed(Kind::Infrastructure),
    ];

    /// Random entries, some of them equal.
    pub(in super::super) fn random(random: &mut fastrand::Rng) -> Vec<Entry> {
        let mut one = || {
            let commit = format!("c{}", random.u8(0..4));
            let entry = entry(&commit, &random.u8(0..3).to_string(), random.u32(1..3), OUTCOMES[random.usize(0..5)]);
            Entry { test: format!("t{}", random.u8(0..3)), ..entry }
        };
        (0..40).map(|_| one()).collect()
    }

    fn text(entries: &[Entry]) -> String {
        entries.iter().map(Entry::line).collect()
    }

    #[test]
    fn neither_the_order_of_lines_nor_lines_that_are_there_twice_mean_anything() {
        for seed in 0..200 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let entries = random(&mut rng);
            let parse = |entries: &[Entry]| Ledger::parse(Path::new("l"), &text(entries)).unwrap();
            let whole = parse(&entries);
            let mut shuffled = entries.clone();
            rng.shuffle(&mut shuffled);
            shuffled.extend_from_slice(&entries[..rng.usize(0..entries.len())]);
            assert_eq!(parse(&shuffled), whole, "seed {seed}");
            // Two branches, each with a part, and a common beginning.
            let (from, to) = (rng.usize(0..20), rng.usize(20..40));
            let (ours, theirs) = (parse(&entries[..to]), parse(&entries[from..]));
            assert_eq!(ours.clone().merged(theirs.clone()), whole, "seed {seed}");
            assert_eq!(theirs.clone().merged(ours.clone()), ours.merged(theirs), "seed {seed}");
        }
    }

    #[test]
    fn what_is_appended_twice_is_there_once_and_threads_lose_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("of/ledger.jsonl");
        std::thread::scope(|scope| {
            for run in 0..8 {
                let path = &path;
                let all = move || (0..20).map(move |n| entry(&format!("c{n}"), &run.to_string(), 1, Outcome::Passed));
                scope.spawn(move || assert_eq!(Ledger::append(path, all()).unwrap(), 20));
            }
        });
        assert_eq!(Ledger::read(&path).unwrap().entries().count(), 160);
        assert_eq!(Ledger::append(&path, [entry("c0", "0", 1, Outcome::Passed)]).unwrap(), 0);
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 160);
    }

    #[test]
    fn a_file_without_a_last_end_of_line_takes_further_lines() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger.jsonl");
        std::fs::write(&path, text(&[entry("c", "1", 1, Outcome::Passed)]).trim_end()).unwrap();
        Ledger::append(&path, [entry("c", "2", 1, Outcome::Passed)]).unwrap();
        assert_eq!(Ledger::read(&path).unwrap().entries().count(), 2);
    }

    #[test]
    fn an_unusable_line_is_named() {
        let good = text(&[entry("c", "1", 1, Outcome::Passed)]);
        let error = |text: String| Ledger::parse(Path::new("l.jsonl"), &text).unwrap_err().to_string();
        assert!(error(format!("{good}<<<<<<< ours\n")).starts_with("l.jsonl:2: "));
        assert_eq!(
            error(format!("{good}\n{}", good.replace("\"v\":1", "\"v\":2"))),
            "l.jsonl:3: version 2 is not 1: use a newer meshproof"
        );
    }

    #[test]
    fn the_tests_of_a_report_belong_to_a_commit() {
        let directory = tempfile::tempdir().unwrap();
        let tested = Tested { time: 1, ..Tested::now("a", Outcome::Passed) };
        crate::report::record_test(directory.path(), "s", tested).unwrap();
        let mut report = crate::report::read(directory.path()).unwrap();
        report.revision = "abc-dirty".into();
        let refused = Entry::of(&report, None, 1).unwrap_err().to_string();
        assert!(refused.contains("report of s is of the revision `abc-dirty`"), "{refused}");
        assert_eq!(Entry::of(&report, Some("abc"), 2).unwrap()[0].attempt, 2);
        report.revision = "abc".into();
        let entries = Entry::of(&report, None, 1).unwrap();
        assert_eq!((entries[0].commit.as_str(), entries[0].test.as_str(), entries[0].attempt), ("abc", "a", 1));
    }

    #[test]
    fn git_merges_two_branches_without_a_conflict() {
        let directory = tempfile::tempdir().unwrap();
        let git = |arguments: &[&str]| {
            let identity = ["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false"];
            let done = std::process::Command::new("git")
                .current_dir(directory.path())
                .args(identity)
                .args(arguments)
                .output()
                .unwrap();
            assert!(done.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
        };
        let path = directory.path().join("ledger.jsonl");
        let append = |run: &str| Ledger::append(&path, [entry("c", run, 1, Outcome::Passed)]).unwrap();
        git(&["init", "--quiet", "--initial-branch", "one"]);
        std::fs::write(directory.path().join(".gitattributes"), "ledger.jsonl merge=union\n").unwrap();
        append("0");
        git(&["add", "."]);
        git(&["commit", "--quiet", "--message", "begin"]);
        git(&["checkout", "--quiet", "-b", "two"]);
        append("2");
        git(&["commit", "--quiet", "--all", "--message", "two"]);
        git(&["checkout", "--quiet", "one"]);
        append("1");
        git(&["commit", "--quiet", "--all", "--message", "one"]);
        git(&["merge", "--quiet", "--no-edit", "two"]);
        let runs: Vec<String> = Ledger::read(&path).unwrap().entries().map(|entry| entry.run.clone()).collect();
        assert_eq!(runs, ["0", "1", "2"]);
    }
}
