//! `report`: writes HTML, JUnit and Markdown from a suite's record.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use meshproof::judge::{Recording, recorded};
use meshproof::report::html::{self, Beside, Picture};
use meshproof::report::{self, Against, TruthTable, against};

/// The page with all that changed in a suite.
const PAGE: &str = "changes.html";

/// Write report.html, junit.xml and summary.md beside each suite's report.json
#[derive(Debug, clap::Args)]
pub struct Report {
    /// Where a report.json is, such as target/meshproof/mtls
    #[arg(required = true, value_name = "DIR")]
    directories: Vec<PathBuf>,
    /// Append the Markdown to this file as well; the suites share the lines that are not folded
    #[arg(long, env = "GITHUB_STEP_SUMMARY")]
    summary: Option<PathBuf>,
    /// An earlier run: where its report.json is, or a directory with one for each suite. Writes changes.md and
    /// changes.html as well, and the summary has only what changed
    #[arg(long, value_name = "BASE")]
    against: Option<PathBuf>,
}

impl Report {
    /// Writes the reports of every suite. A failure in one suite does not stop the others.
    ///
    /// # Errors
    /// Fails if a report cannot be read, or a file cannot be written.
    pub fn run(self) -> Result<()> {
        if let Some(base) = &self.against {
            ensure!(base.is_dir(), "{} is no directory: give the one with the earlier run's reports", base.display());
        }
        let share = report::OPEN_LINES / self.directories.len().max(1);
        let (mut records, mut errors) = (Vec::new(), Vec::new());
        for directory in &self.directories {
            match self.one(directory, share) {
                Ok(record) => records.push(record),
                Err(error) => errors.push(format!("{error:#}")),
            }
        }
        if self.against.is_some() {
            self.summarize(&Changes { records }.summary(report::OPEN_LINES, against::MOST_BYTES))?;
        }
        ensure!(errors.is_empty(), "{}", errors.join("\n"));
        Ok(())
    }

    /// Writes the files of one suite, and returns its records of the earlier run, if there are any, and of this one.
    fn one(&self, directory: &Path, share: usize) -> Result<Change> {
        let head = Recorded::read(directory)?;
        files_with(directory, &head.report, head.truth.clone())?;
        let Some(base) = &self.against else {
            self.summarize(&report::markdown(&head.report, share))?;
            return Ok(Change { base: None, head });
        };
        let base = earlier(base, &head.report.suite)?;
        let change = Change { base, head };
        let against = change.against();
        write(&directory.join(PAGE), &html::changes(&against))?;
        let text = against::summary(&[against], report::OPEN_LINES, against::MOST_BYTES, PAGE);
        write(&directory.join("changes.md"), &text)?;
        Ok(change)
    }

    /// Appends to the summary of the run, if one is asked for.
    fn summarize(&self, text: &str) -> Result<()> {
        let Some(summary) = &self.summary else { return Ok(()) };
        append(summary, text).with_context(|| format!("cannot write {}", summary.display()))
    }
}

/// What one run of a suite has recorded.
struct Recorded {
    report: report::Report,
    truth: Option<TruthTable>,
}

impl Recorded {
    fn read(directory: &Path) -> Result<Self> {
        Ok(Self { report: report::read(directory)?, truth: report::read_truth(directory)? })
    }
}

/// A suite of an earlier run and of this one.
struct Change {
    /// `None` if the earlier run does not have the suite, or there is no earlier run.
    base: Option<Recorded>,
    head: Recorded,
}

impl Change {
    fn against(&self) -> Against<'_> {
        let against = Against::of(self.base.as_ref().map(|base| &base.report), &self.head.report);
        match (self.base.as_ref().and_then(|base| base.truth.as_ref()), &self.head.truth) {
            (Some(was), Some(is)) => against.with_truth(was, is),
            _ => against,
        }
    }
}

/// What changed in several suites.
pub(crate) struct Changes {
    records: Vec<Change>,
}

impl Changes {
    /// Reads the suites of this run in `directories`, and of the earlier run in `base`. A suite without a report is left
    /// out, and so is a comparison of two configurations.
    ///
    /// # Errors
    /// Fails if an earlier report cannot be read, or is of another suite.
    pub(crate) fn read(base: &Path, directories: &[PathBuf]) -> Result<Self> {
        let mut records = Vec::new();
        for directory in directories {
            let Ok(head) = Recorded::read(directory) else { continue };
            // It says itself what changed, and the earlier run has compared something else.
            if !head.report.conclusions.is_empty() {
                continue;
            }
            records.push(Change { base: earlier(base, &head.report.suite)?, head });
        }
        Ok(Self { records })
    }

    /// Markdown with at most `lines` open lines and at most `bytes` bytes.
    pub(crate) fn summary(&self, lines: usize, bytes: usize) -> String {
        let all: Vec<Against> = self.records.iter().map(Change::against).collect();
        against::summary(&all, lines, bytes, PAGE)
    }
}

/// The record of `suite` in `base`: of its own, or in the directory with the suite's name. `None` if the earlier run does
/// not have the suite.
fn earlier(base: &Path, suite: &str) -> Result<Option<Recorded>> {
    let place = [base.join(suite), base.to_owned()].into_iter().find(|place| place.join("report.json").is_file());
    let Some(found) = place.map(|place| Recorded::read(&place)).transpose()? else { return Ok(None) };
    ensure!(
        found.report.suite == suite,
        "the earlier report in {} is of the suite {}, not of {suite}: give the directory that has one for each suite",
        base.display(),
        found.report.suite
    );
    Ok(Some(found))
}

/// Writes the three files of one suite, and prints their paths.
pub(crate) fn files(directory: &Path, record: &report::Report) -> Result<()> {
    files_with(directory, record, report::read_truth(directory)?)
}

/// Writes the three files of one suite with this truth table, and prints their paths.
fn files_with(directory: &Path, record: &report::Report, truth: Option<TruthTable>) -> Result<()> {
    let runs = if directory.join("runs").is_dir() { recorded::read(directory)? } else { Recording::new() };
    let screenshots = pictures(&directory.join("screenshots"), "png", "image/png")?;
    let profiles = pictures(&directory.join("profiles"), "svg", "image/svg+xml")?;
    write(&directory.join("report.html"), &html::page(record, &Beside { runs, truth, screenshots, profiles }))?;
    write(&directory.join("junit.xml"), &report::junit(record)?)?;
    write(&directory.join("summary.md"), &report::markdown(record, report::OPEN_LINES))
}

/// Writes a file atomically, and prints its path.
fn write(path: &Path, text: &str) -> Result<()> {
    let partial = path.with_extension("partial");
    let written = std::fs::write(&partial, text).and_then(|()| std::fs::rename(&partial, path));
    written.with_context(|| format!("cannot write {}", path.display()))?;
    println!("{}", path.display());
    Ok(())
}

/// Appends, because other steps of a CI job write their summaries into the same file.
pub(crate) fn append(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    std::fs::File::options().create(true).append(true).open(path)?.write_all(text.as_bytes())
}

/// The pictures in a directory with the extension `extension`, sorted by name. The name is also the caption. Empty if
/// the directory does not exist.
fn pictures(directory: &Path, extension: &str, media_type: &'static str) -> Result<Vec<Picture>> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", directory.display())),
    };
    let mut paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<Vec<_>>>()?;
    paths.retain(|path| path.extension().is_some_and(|end| end == extension));
    paths.sort();
    let picture = |path: PathBuf| {
        let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Picture { caption: name.replace(['-', '_'], " "), media_type, bytes })
    };
    paths.into_iter().map(picture).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use meshproof::report::{Claim, OPEN_LINES, record_tables};

    use super::*;

    #[test]
    fn the_suites_share_the_open_lines_of_the_runs_page_and_each_has_its_files() {
        let place = tempfile::tempdir().unwrap();
        let directories = ["one", "two", "three"].map(|suite| place.path().join(suite));
        for directory in &directories {
            let claims = (0..200).map(|n| Claim::error(format!("claim-{n}"), "no answer")).collect();
            let suite = directory.file_name().unwrap().to_str().unwrap();
            record_tables(directory, suite, BTreeMap::new(), claims, Vec::new()).unwrap();
        }
        let summary = place.path().join("summary");
        let report = Report { directories: directories.to_vec(), summary: Some(summary.clone()), against: None };
        report.run().unwrap();
        let text = std::fs::read_to_string(summary).unwrap();
        let folded: usize = text
            .split("<details>")
            .skip(1)
            .map(|fold| fold.split("</details>").next().unwrap().lines().count() - 1)
            .sum();
        let open = text.lines().count() - folded;
        assert!(open <= OPEN_LINES, "{open} open lines:\n{text}");
        for suite in ["one", "two", "three"] {
            let title = format!("## ❌ meshproof: {suite}");
            assert!(text.lines().any(|line| line == title), "no `{title}` in:\n{text}");
        }
        for directory in &directories {
            for file in ["report.html", "junit.xml", "summary.md"] {
                assert!(directory.join(file).is_file(), "no {file} in {}", directory.display());
            }
        }
    }

    #[test]
    fn a_suite_without_a_report_is_named_and_the_others_are_reported() {
        let place = tempfile::tempdir().unwrap();
        let (none, good) = (place.path().join("none"), place.path().join("good"));
        record_tables(&good, "good", BTreeMap::new(), vec![Claim::error("claim", "no answer")], Vec::new()).unwrap();
        let report = Report { directories: vec![none.clone(), good.clone()], summary: None, against: None };
        let error = format!("{:#}", report.run().unwrap_err());
        assert!(error.contains(none.to_str().unwrap()), "{error}");
        assert!(good.join("junit.xml").is_file());
    }

    #[test]
    fn against_an_earlier_run_the_summary_has_only_what_changed() {
        let place = tempfile::tempdir().unwrap();
        let (base, head) = (place.path().join("base/mtls"), place.path().join("head/mtls"));
        let claims = |broken: bool| {
            let one = |n: usize| Claim::about(format!("claim-{n}"), "").equals(&true, &(n != 3 || !broken));
            (0..200).map(one).collect::<Vec<_>>()
        };
        record_tables(&base, "mtls", BTreeMap::new(), claims(false), Vec::new()).unwrap();
        record_tables(&head, "mtls", BTreeMap::new(), claims(true), Vec::new()).unwrap();
        for against in [base.clone(), base.parent().unwrap().to_owned()] {
            let summary = place.path().join("summary");
            let report =
                Report { directories: vec![head.clone()], summary: Some(summary.clone()), against: Some(against) };
            report.run().unwrap();
            let text = std::fs::read_to_string(&summary).unwrap();
            assert!(text.contains("claim-3 |") && !text.contains("claim-4"), "{text}");
            assert!(text.contains("| mtls | 1 | – | – | – | 199 |"), "{text}");
            assert!(head.join("changes.html").is_file() && head.join("changes.md").is_file());
            std::fs::remove_file(summary).unwrap();
        }
    }

    #[test]
    fn an_earlier_report_of_another_suite_or_no_directory_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let (base, head) = (place.path().join("base"), place.path().join("head"));
        record_tables(&base, "audit", BTreeMap::new(), vec![Claim::error("claim", "no answer")], Vec::new()).unwrap();
        record_tables(&head, "mtls", BTreeMap::new(), vec![Claim::error("claim", "no answer")], Vec::new()).unwrap();
        let run = |base: &Path| {
            let report = Report { directories: vec![head.clone()], summary: None, against: Some(base.to_owned()) };
            report.run().map_err(|error| format!("{error:#}"))
        };
        assert!(run(&base).unwrap_err().contains("is of the suite audit, not of mtls"));
        assert!(run(&place.path().join("nothing")).unwrap_err().contains("is no directory"));
        // A run without this suite.
        std::fs::remove_file(base.join("report.json")).unwrap();
        run(&base).unwrap();
        let text = std::fs::read_to_string(head.join("changes.md")).unwrap();
        assert!(text.contains("the earlier run does not have this suite"), "{text}");
    }
}
