//! Commands in containers.

use std::pin::Pin;

use anyhow::{Context, Result, bail};
use futures::{Stream, StreamExt};
use testcontainers::bollard::container::LogOutput;
use testcontainers::bollard::exec::StartExecResults;
use testcontainers::bollard::models::ExecConfig;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::Engine;
use crate::progress;

/// A running command in a container, with its standard input and output. The command's input ends when this value is
/// dropped, or when this process ends for any reason.
pub(crate) struct Attached {
    input: Pin<Box<dyn AsyncWrite + Send>>,
    output: Pin<Box<dyn Stream<Item = Result<LogOutput, testcontainers::bollard::errors::Error>> + Send>>,
    /// Output that was read but not yet returned: the beginning of the next line.
    unread: String,
}

impl Attached {
    /// Writes a line to the command's standard input.
    ///
    /// # Errors
    /// Fails if the command has ended.
    pub(crate) async fn send(&mut self, line: &str) -> Result<()> {
        self.input.write_all(format!("{line}\n").as_bytes()).await.context("the command in the container has ended")
    }

    /// Returns the next line of the command's output.
    ///
    /// # Errors
    /// Fails if the command has ended.
    pub(crate) async fn receive(&mut self) -> Result<String> {
        loop {
            if let Some((line, rest)) = self.unread.split_once('\n') {
                let line = line.to_owned();
                self.unread = rest.to_owned();
                return Ok(line);
            }
            let more = self.output.next().await.context("the command in the container has ended")??;
            self.unread.push_str(&String::from_utf8_lossy(&more.into_bytes()));
        }
    }
}

impl Engine {
    /// Runs a command in a container and returns its standard output and standard error.
    ///
    /// # Errors
    /// Fails if the command cannot be run or fails. The error has the command and the end of its output.
    pub(crate) async fn exec(&self, name: &str, command: &[&str]) -> Result<String> {
        progress::count_command();
        let config = ExecConfig {
            cmd: Some(command.iter().map(|&word| word.to_owned()).collect()),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            ..Default::default()
        };
        let line = command.join(" ");
        tracing::debug!(container = name, command = line, "running");
        let failed = || format!("cannot run `{line}` in {name}");
        let exec = self.docker.create_exec(name, config).await.with_context(failed)?;
        let mut output = Vec::new();
        match self.docker.start_exec(&exec.id, None).await.with_context(failed)? {
            StartExecResults::Attached { output: mut stream, .. } => {
                while let Some(part) = stream.next().await {
                    match part.with_context(failed)? {
                        LogOutput::StdOut { message } | LogOutput::StdErr { message } => {
                            output.extend_from_slice(&message)
                        }
                        LogOutput::StdIn { .. } | LogOutput::Console { .. } => {}
                    }
                }
            }
            StartExecResults::Detached => {}
        }
        let text = String::from_utf8_lossy(&output).into_owned();
        match self.docker.inspect_exec(&exec.id).await.with_context(failed)?.exit_code {
            Some(0) => Ok(text),
            code => bail!("`{line}` in {name} failed (exit code {code:?}):\n{}", crate::command::tail(&text)),
        }
    }

    /// Starts a command in a container, attached to its standard input and output.
    ///
    /// # Errors
    /// Fails if the command cannot be started.
    pub(crate) async fn attach(&self, name: &str, command: &[String]) -> Result<Attached> {
        let config = ExecConfig {
            cmd: Some(command.to_vec()),
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            ..Default::default()
        };
        let failed = || format!("cannot run a command in {name}");
        let exec = self.docker.create_exec(name, config).await.with_context(failed)?;
        match self.docker.start_exec(&exec.id, None).await.with_context(failed)? {
            StartExecResults::Attached { input, output } => Ok(Attached { input, output, unread: String::new() }),
            StartExecResults::Detached => bail!("the engine does not attach to a command in {name}"),
        }
    }
}
