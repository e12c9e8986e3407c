//! How a command ends, and what it says of errors.

use std::io::IsTerminal;
use std::process::ExitCode;

use tracing_subscriber::EnvFilter;

/// How a command that judges has ended. Every command has the same exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// All holds. Exit code 0.
    Holds,
    /// Something does not hold, or a part could not be judged. Exit code 1.
    DoesNotHold,
    /// The command line, or a file that it names, is unusable. Exit code 2.
    Usage,
    /// The surroundings stopped it, and nothing was judged. Exit code 3.
    NothingJudged,
}

impl Ended {
    /// The exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Holds => 0,
            Self::DoesNotHold => 1,
            Self::Usage => 2,
            Self::NothingJudged => 3,
        }
    }
}

impl From<Ended> for ExitCode {
    fn from(ended: Ended) -> Self {
        ended.code().into()
    }
}

/// Prints the error. Returns the exit code that the load driver gives it, or `otherwise`.
pub fn exit_code(error: &anyhow::Error, otherwise: ExitCode) -> ExitCode {
    eprintln!("error: {}", told(error));
    // The driver's exit code shows whether anything was measured.
    match error.downcast_ref::<meshproof_load::cli::CommandError>() {
        Some(error) => error.into(),
        None => otherwise,
    }
}

/// The error and its causes. An error of the library tells what the API server said, so that is not told again.
pub(crate) fn told(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        // `cluster::Error` boxes it.
        if cause.is::<Box<kube::Error>>() {
            break;
        }
        let said = cause.to_string();
        if !text.ends_with(&said) {
            text.push_str(if text.is_empty() { "" } else { ": " });
            text.push_str(&said);
        }
    }
    text
}

/// Sends diagnostics to standard error. `RUST_LOG` selects the diagnostics, for example `RUST_LOG=meshproof=debug`.
/// `otherwise` is the filter without it.
pub fn log(otherwise: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(otherwise));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}

#[cfg(test)]
mod tests {
    use meshproof::cluster;

    use super::*;

    #[test]
    fn what_the_api_server_said_is_told_once() {
        let status = kube::core::Status { message: "not yours".into(), code: 403, ..kube::core::Status::default() };
        let source = Box::new(kube::Error::Api(Box::new(status)));
        let refused = cluster::Error::Api { cluster: "west".into(), doing: "read a Lease".into(), source };
        let error = anyhow::Error::from(meshproof::Error::from(refused)).context("nothing was removed");
        assert_eq!(told(&error), "nothing was removed: west: could not read a Lease: not yours (403)");
        let plain = anyhow::anyhow!("no such file").context("cannot read x");
        assert_eq!(told(&plain), "cannot read x: no such file");
    }
}
