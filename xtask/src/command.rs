//! Runs other programs and captures their output. The error of a failed program has the command line and the output.

use std::path::Path;
use std::process::{ExitStatus, Stdio};

use anyhow::{Context, Result, bail};

use crate::progress;

/// Number of last output lines in the error of a failed command.
const LINES_SHOWN: usize = 30;

/// A program to run, with a builder like that of [`tokio::process::Command`].
pub(crate) struct Run {
    inner: tokio::process::Command,
    line: String,
}

/// Starts the description of a run of `program`.
pub(crate) fn run(program: impl AsRef<std::ffi::OsStr>) -> Run {
    let line = program.as_ref().to_string_lossy().into_owned();
    let mut inner = tokio::process::Command::new(program);
    inner.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    Run { inner, line }
}

impl Run {
    pub(crate) fn arg(mut self, argument: impl AsRef<std::ffi::OsStr>) -> Self {
        self.line.push(' ');
        self.line.push_str(&argument.as_ref().to_string_lossy());
        self.inner.arg(argument);
        self
    }

    pub(crate) fn args<A: AsRef<std::ffi::OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        for argument in arguments {
            self = self.arg(argument);
        }
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.inner.env(name, value);
        self
    }

    pub(crate) fn current_dir(mut self, directory: &Path) -> Self {
        self.inner.current_dir(directory);
        self
    }

    /// Runs the program to its end and returns standard output.
    ///
    /// # Errors
    /// Fails if the program cannot be started or does not end with success. The error has the whole command line and
    /// the last lines of output.
    pub(crate) async fn stdout(self) -> Result<String> {
        let line = self.line.clone();
        let (status, stdout, stderr) = self.finish().await?;
        if !status.success() {
            bail!("`{line}` failed ({status}):\n{}", tail(&format!("{stdout}\n{stderr}")));
        }
        Ok(stdout)
    }

    /// Runs the program to its end. Uses the output only for the error.
    pub(crate) async fn ok(self) -> Result<()> {
        self.stdout().await.map(drop)
    }

    /// Whether the program can be started and ends with success.
    pub(crate) async fn succeeds(self) -> bool {
        matches!(self.finish().await, Ok((status, ..)) if status.success())
    }

    /// Runs the program to its end with the caller's standard output and error, for commands that a person watches.
    ///
    /// # Errors
    /// Fails if the program cannot be started.
    pub(crate) async fn status(mut self) -> Result<ExitStatus> {
        progress::count_command();
        tracing::debug!(command = self.line, "running");
        let inner = self.inner.stdout(Stdio::inherit()).stderr(Stdio::inherit());
        inner.status().await.with_context(|| format!("cannot run `{}`", self.line))
    }

    async fn finish(mut self) -> Result<(ExitStatus, String, String)> {
        progress::count_command();
        tracing::debug!(command = self.line, "running");
        let output = self.inner.output().await.with_context(|| format!("cannot run `{}`", self.line))?;
        tracing::debug!(command = self.line, status = %output.status, "ended");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((output.status, text(&output.stdout), text(&output.stderr)))
    }
}

/// Whether `program` is in a directory of the search path, or of root's search path.
pub(crate) fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|directory| directory.join(program).is_file())
}

/// The last lines of `text`, indented, without blank lines.
pub(crate) fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let skipped = lines.len().saturating_sub(LINES_SHOWN);
    let mut shown: Vec<String> = lines[skipped..].iter().map(|line| format!("    {line}")).collect();
    if skipped > 0 {
        shown.insert(0, format!("    … {skipped} earlier lines"));
    }
    shown.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failure_tells_the_command_line_its_status_and_its_output() {
        let error = run("sh").args(["-c", "echo out; echo err >&2; exit 3"]).ok().await.unwrap_err().to_string();
        for part in ["sh -c echo out", "exit status: 3", "out", "err"] {
            assert!(error.contains(part), "no `{part}` in: {error}");
        }
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_named() {
        let error = run("no-such-program").arg("x").ok().await.unwrap_err().to_string();
        assert!(error.contains("cannot run `no-such-program x`"), "{error}");
    }

    #[test]
    fn a_long_output_is_cut_to_its_end() {
        let text = (0..40).map(|n| n.to_string()).collect::<Vec<_>>().join("\n");
        let cut = tail(&text);
        assert!(cut.starts_with("    … 10 earlier lines\n    10\n"), "{cut}");
        assert!(cut.ends_with("    39"));
    }
}
