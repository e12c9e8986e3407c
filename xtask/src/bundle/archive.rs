//! The archive: a compressed tar file. A separate thread writes the file while collectors run.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::NamedTempFile;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::redact::redact;

/// Maximum number of texts that wait for the writer. Limits the memory of a dump.
const WAITING: usize = 16;

/// File that describes every file of the archive.
const INDEX: &str = "index.txt";

/// File that lists failed items with the reasons.
const ERRORS: &str = "errors.txt";

/// Collectors send their texts to the inbox.
#[derive(Clone)]
pub(crate) struct Inbox(mpsc::Sender<Entry>);

/// One file of the archive, or the reason why the file is missing.
struct Entry {
    path: String,
    what: String,
    text: Result<String>,
}

impl Inbox {
    /// Sends a file, or the reason why the file is missing. `what` describes the file in the index.
    pub(crate) async fn put(&self, path: impl Into<String>, what: impl Into<String>, text: Result<String>) {
        // A send fails only if the writer has ended. The writer then reports the reason.
        let _ = self.0.send(Entry { path: path.into(), what: what.into(), text }).await;
    }
}

/// Result of a dump.
#[derive(Debug)]
pub(crate) struct Summary {
    /// Number of files, without the index and the errors.
    pub(crate) files: usize,
    /// Number of items that could not be collected.
    pub(crate) errors: usize,
    /// Size of the archive in bytes.
    pub(crate) bytes: u64,
}

/// The archive's writer.
pub(crate) struct Archive {
    inbox: Inbox,
    writer: JoinHandle<Result<Summary>>,
}

impl Archive {
    /// Begins an archive. `finish` moves the archive to `output`. All files are below one directory, `root`.
    ///
    /// # Errors
    /// Fails if the output's directory cannot be made or is not writable.
    pub(crate) fn create(output: &Path, root: &str, introduction: String) -> Result<Self> {
        let directory = output.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
        // Only this user can read the temporary file. The file is removed if the dump fails.
        let file =
            NamedTempFile::new_in(directory).with_context(|| format!("cannot write to {}", directory.display()))?;
        let (sender, receiver) = mpsc::channel(WAITING);
        let (output, root) = (output.to_owned(), root.to_owned());
        let writer = tokio::task::spawn_blocking(move || {
            write(file, &output, &root, introduction, receiver)
                .with_context(|| format!("cannot write {}", output.display()))
        });
        Ok(Self { inbox: Inbox(sender), writer })
    }

    /// An inbox for collectors.
    pub(crate) fn inbox(&self) -> Inbox {
        self.inbox.clone()
    }

    /// Writes the collected files, the index and the errors. Drop all other [`Inbox`]es before this call.
    ///
    /// # Errors
    /// Fails if the archive cannot be written.
    pub(crate) async fn finish(self) -> Result<Summary> {
        drop(self.inbox);
        self.writer.await?
    }
}

fn write(
    file: NamedTempFile,
    output: &PathBuf,
    root: &str,
    introduction: String,
    mut receiver: mpsc::Receiver<Entry>,
) -> Result<Summary> {
    let mut tar = tar::Builder::new(GzEncoder::new(BufWriter::new(file), Compression::fast()));
    let modified = time::OffsetDateTime::now_utc().unix_timestamp().unsigned_abs();
    let mut append = |path: &str, text: &str| {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(modified);
        tar.append_data(&mut header, format!("{root}/{path}"), text.as_bytes())
    };
    let mut files: BTreeMap<String, (usize, String)> = BTreeMap::new();
    let mut errors: BTreeMap<String, String> = BTreeMap::new();
    while let Some(Entry { path, what, text }) = receiver.blocking_recv() {
        match text {
            Ok(text) => {
                let text = redact(&text);
                append(&path, &text)?;
                files.insert(path, (text.len(), what));
            }
            Err(error) => {
                errors.insert(path, format!("{error:#}"));
            }
        }
    }
    append(ERRORS, &redact(&listed_errors(&errors)))?;
    append(INDEX, &redact(&(introduction + "\n" + &listed_files(&files))))?;
    let mut buffer = tar.into_inner()?.finish()?;
    buffer.flush()?;
    let file = buffer.into_inner().map_err(std::io::IntoInnerError::into_error)?;
    let bytes = file.as_file().metadata()?.len();
    file.persist(output)?;
    Ok(Summary { files: files.len(), errors: errors.len(), bytes })
}

fn listed_files(files: &BTreeMap<String, (usize, String)>) -> String {
    let width = files.keys().map(String::len).max().unwrap_or(0);
    let mut text = String::new();
    for (path, (size, what)) in files {
        let _ = writeln!(text, "{path:<width$}  {size:>9}  {what}");
    }
    text
}

fn listed_errors(errors: &BTreeMap<String, String>) -> String {
    if errors.is_empty() {
        return "nothing: all that was asked for is here\n".into();
    }
    let mut text = String::from("What is not here, and why:\n\n");
    for (path, reason) in errors {
        let _ = writeln!(text, "{path}: {}", reason.trim().replace('\n', "\n    "));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn contents(path: &Path) -> BTreeMap<String, String> {
        let file = flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap());
        let mut archive = tar::Archive::new(file);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            (entry.path().unwrap().to_string_lossy().into_owned(), text)
        });
        entries.collect()
    }

    #[tokio::test]
    async fn an_archive_has_what_was_put_its_index_its_errors_and_no_key() {
        let directory = tempfile::tempdir().unwrap();
        let output = directory.path().join("new/dump.tar.gz");
        let archive = Archive::create(&output, "dump", "A dump.\n".into()).unwrap();
        let inbox = archive.inbox();
        let key = "-----BEGIN PRIVATE KEY-----\nMHcC\n-----END PRIVATE KEY-----\n";
        inbox.put("a/pods.json", "pods", Ok(format!("{{}} {key}"))).await;
        inbox.put("a/log", "a log", Err(anyhow::anyhow!("no such pod: {key}"))).await;
        let long = format!("a/{}/log", "x".repeat(200));
        inbox.put(long.clone(), "a long name", Ok(String::new())).await;
        drop(inbox);
        let summary = archive.finish().await.unwrap();
        assert_eq!((summary.files, summary.errors), (2, 1));

        let contents = contents(&output);
        assert_eq!(contents["dump/a/pods.json"], "{} [redacted]\n");
        assert!(contents.contains_key(&format!("dump/{long}")));
        assert!(contents["dump/errors.txt"].contains("a/log: no such pod"));
        assert!(contents["dump/index.txt"].starts_with("A dump.\n\na/pods.json"), "{}", contents["dump/index.txt"]);
        assert!(!contents.values().any(|text| text.contains("PRIVATE KEY")));
        assert_eq!(std::fs::read_dir(output.parent().unwrap()).unwrap().count(), 1, "something else was left");
    }

    #[tokio::test]
    async fn an_archive_that_cannot_be_written_says_where() {
        let error = Archive::create(Path::new("/proc/nowhere/dump.tar.gz"), "dump", String::new());
        assert!(error.err().unwrap().to_string().contains("/proc/nowhere"));
    }
}
