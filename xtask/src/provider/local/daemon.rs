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
    use std::ffi::OsStr;

    use super::*;

    /// Which of two open files of a caller the command line inherits.
    fn inherited(line: &[&str]) -> String {
        // Rust opens no file that a child would inherit, so a shell does.
        let mut caller = Command::new("bash");
        caller.args(["-c", r#"exec 7>/dev/null 23>/dev/null; exec "$@""#, "bash"]);
        String::from_utf8(caller.args(line).output().unwrap().stdout).unwrap()
    }

    #[test]
    fn a_detached_command_inherits_no_open_file_of_its_caller() {
        let looking = ["sh", "-c", "for each in 7 23; do [ ! -e /proc/$$/fd/$each ] || echo $each; done"];
        assert_eq!(inherited(&looking), "7\n23\n", "the control");
        let detached = detached(&looking);
        let line: Vec<&str> =
            [detached.get_program()].into_iter().chain(detached.get_args()).filter_map(OsStr::to_str).collect();
        assert_eq!(inherited(&line), "");
    }
}
