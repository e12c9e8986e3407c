//! `cargo xtask`: makes the testbed that meshproof's suites judge.

mod artifacts;
mod audit;
mod bundle;
mod check;
mod command;
mod declaration;
mod dns;
mod image;
mod judge;
mod kubernetes;
mod ledger;
mod load;
mod lock;
mod mesh;
mod paths;
mod progress;
mod provider;
mod report;
mod template;
mod testbed;
mod versions;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Bring up, inspect or remove the clusters and the mesh that `cargo test` judges
    #[command(subcommand)]
    Testbed(testbed::Command),
    Audit(audit::Audit),
    Check(check::Check),
    Judge(judge::Judge),
    Report(report::Report),
    /// Push or save the probe's image, for clusters that `testbed up` did not make
    #[command(subcommand)]
    Image(image::Command),
    /// Make load on an address, serve a known latency to test load with, or compare generators
    #[command(subcommand)]
    Load(load::Command),
}

/// Default log filter without `RUST_LOG`: warnings of the project's own crates.
const LOGGED: &str = "xtask=warn,meshproof=warn,meshproof_load=warn";

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    log();
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let result = match cli.command {
        Command::Testbed(command) => command.run().await.map(success),
        Command::Audit(command) => Ok(command.run().await),
        Command::Check(command) => command.run().await,
        Command::Judge(command) => command.run().map(success),
        Command::Report(command) => command.run().map(success),
        Command::Image(command) => command.run().await.map(success),
        Command::Load(command) => command.run().await.map(success),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {}", told(&error));
        // The driver's exit code shows whether anything was measured.
        match error.downcast_ref::<meshproof_load::cli::CommandError>() {
            Some(error) => error.into(),
            None => ExitCode::FAILURE,
        }
    })
}

/// The error and its causes. An error of the library tells what the API server said, so that is not told again.
fn told(error: &anyhow::Error) -> String {
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

/// Sends diagnostics to standard error. `RUST_LOG` selects the diagnostics, for example `RUST_LOG=xtask=debug`.
fn log() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(LOGGED));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}

fn success((): ()) -> ExitCode {
    ExitCode::SUCCESS
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
