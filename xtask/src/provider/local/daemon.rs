//! Starts an installed engine that does not run.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use meshproof::{Seen, eventually};

use super::engine::Engine;
use crate::command::run;
use crate::paths;

/// Time limit for a newly started engine to answer.
const BOUND: Duration = Duration::from_secs(60);

/// Closes what the shell inherited beside its standard files, and becomes the given command in a session of its own. A
/// lock that the caller holds by an open file would otherwise be held for as long as the engine runs.
const DETACHED: &str = r#"
for descriptor in /proc/$$/fd/*; do
    descriptor=${descriptor##*/}
    [ "$descriptor" -le 2 ] || eval "exec $descriptor>&-"
done
exec setsid "$@"
"#;

/// Starts the engine, and waits until it answers.
///
/// # Errors
/// Fails if the engine cannot be started, or does not answer in time. The error has the end of its output.
pub(super) async fn start() -> Result<Engine> {
    let log = paths::cache()?.join("dockerd.log");
    let managed =
        Path::new("/run/systemd/system").exists() && run("systemctl").args(["start", "docker"]).succeeds().await;
    if !managed {
        std::fs::create_dir_all(paths::cache()?)?;
        let output = std::fs::File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
        let mut command = detached(&["dockerd"]);
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        command.spawn().context("cannot start dockerd")?;
    }
    let answers = eventually("the container engine to answer", BOUND, async || Engine::connect().await.map(Seen::Yes));
    answers.await.with_context(|| {
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        format!("dockerd was started and does not answer; it said:\n{}", crate::command::tail(&said))
    })
}

/// A command that outlives this one and its terminal, and inherits nothing but its standard files.
fn detached(line: &[&str]) -> Command {
    // Of the shells, bash alone closes descriptors above 9.
    let mut command = Command::new("bash");
    command.args(["-c", DETACHED, "bash"]).args(line);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detached_command_inherits_its_standard_files_only() {
        let detached = detached(&["sh", "-c", "for each in /proc/$$/fd/*; do echo ${each##*/}; done"]);
        // Rust opens no file that a child would inherit, so a shell does.
        let mut leaking = Command::new("bash");
        leaking.args(["-c", r#"exec 7>/dev/null 23>/dev/null; exec "$@""#, "bash"]);
        let output = leaking.arg(detached.get_program()).args(detached.get_args()).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "0\n1\n2\n", "{output:?}");
    }
}
