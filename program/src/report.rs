//! `report`: writes HTML, JUnit and Markdown from a suite's record.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use meshproof::judge::{Recording, recorded};
use meshproof::report;
use meshproof::report::html::{self, Beside, Picture};

/// Write report.html, junit.xml and summary.md beside each suite's report.json
#[derive(Debug, clap::Args)]
pub struct Report {
    /// Where a report.json is, such as target/meshproof/mtls
    #[arg(required = true, value_name = "DIR")]
    directories: Vec<PathBuf>,
    /// Append the Markdown to this file as well; the suites share the lines that are not folded
    #[arg(long, env = "GITHUB_STEP_SUMMARY")]
    summary: Option<PathBuf>,
}

impl Report {
    /// Writes the reports of every suite. A failure in one suite does not stop the others.
    ///
    /// # Errors
    /// Fails if a report cannot be read, or a file cannot be written.
    pub fn run(self) -> Result<()> {
        let share = report::OPEN_LINES / self.directories.len().max(1);
        let reports = self.directories.iter().map(|directory| self.one(directory, share));
        let errors: Vec<_> = reports.filter_map(Result::err).map(|error| format!("{error:#}")).collect();
        ensure!(errors.is_empty(), "{}", errors.join("\n"));
        Ok(())
    }

    fn one(&self, directory: &Path, share: usize) -> Result<()> {
        let record = report::read(directory)?;
        files(directory, &record)?;
        let Some(summary) = &self.summary else { return Ok(()) };
        append(summary, &report::markdown(&record, share))
            .with_context(|| format!("cannot write {}", summary.display()))
    }
}

/// Writes the three files of one suite, and prints their paths.
pub(crate) fn files(directory: &Path, record: &report::Report) -> Result<()> {
    let runs = if directory.join("runs").is_dir() { recorded::read(directory)? } else { Recording::new() };
    let screenshots = pictures(&directory.join("screenshots"), "png", "image/png")?;
    let profiles = pictures(&directory.join("profiles"), "svg", "image/svg+xml")?;
    let truth = report::read_truth(directory)?;
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
fn append(path: &Path, text: &str) -> std::io::Result<()> {
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
        let report = Report { directories: directories.to_vec(), summary: Some(summary.clone()) };
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
        let report = Report { directories: vec![none.clone(), good.clone()], summary: None };
        let error = format!("{:#}", report.run().unwrap_err());
        assert!(error.contains(none.to_str().unwrap()), "{error}");
        assert!(good.join("junit.xml").is_file());
    }
}
