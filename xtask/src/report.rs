//! `cargo xtask report`: HTML, JUnit and Markdown from what a suite recorded.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use meshproof::judge::{Recording, recorded};
use meshproof::report::{self, html::Picture};

/// Write report.html, junit.xml and summary.md beside a suite's report.json
#[derive(clap::Args)]
pub(crate) struct Report {
    /// Where the report.json is: target/meshproof/<suite>
    directory: PathBuf,
    /// Append the Markdown to this file as well
    #[arg(long, env = "GITHUB_STEP_SUMMARY")]
    summary: Option<PathBuf>,
}

impl Report {
    pub(crate) fn run(self) -> Result<()> {
        let directory = &self.directory;
        let record = report::read(directory)?;
        let recording = if directory.join("runs").is_dir() { recorded::read(directory)? } else { Recording::new() };
        let screenshots = pictures(&directory.join("screenshots"), "png", "image/png")?;
        let profiles = pictures(&directory.join("profiles"), "svg", "image/svg+xml")?;
        let markdown = report::markdown(&record);
        write(&directory.join("report.html"), &report::html::page(&record, &recording, &screenshots, &profiles))?;
        write(&directory.join("junit.xml"), &report::junit(&record)?)?;
        write(&directory.join("summary.md"), &markdown)?;
        if let Some(summary) = self.summary {
            append(&summary, &markdown).with_context(|| format!("cannot write {}", summary.display()))?;
        }
        Ok(())
    }
}

/// Writes a file in one step, and says so.
fn write(path: &Path, text: &str) -> Result<()> {
    let partial = path.with_extension("partial");
    let written = std::fs::write(&partial, text).and_then(|()| std::fs::rename(&partial, path));
    written.with_context(|| format!("cannot write {}", path.display()))?;
    println!("{}", path.display());
    Ok(())
}

/// Other steps of a job have their summaries in the same file.
fn append(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    std::fs::File::options().create(true).append(true).open(path)?.write_all(text.as_bytes())
}

/// The pictures of a directory that end in `extension`, by name, which is their caption too; none where there is no directory.
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
