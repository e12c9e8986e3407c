//! `cargo xtask`: makes the testbed that meshproof's suites judge.

mod artifacts;
mod bundle;
mod cache;
mod check;
mod command;
mod declaration;
mod dns;
mod image;
mod kubernetes;
mod ledger;
mod load;
mod lock;
mod mesh;
mod paths;
mod provider;
mod template;
mod testbed;
mod versions;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use meshproof_cli::{exit_code, log, progress};

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
    Audit(Box<meshproof_cli::Audit>),
    Compare(Box<meshproof_cli::Compare>),
    Check(check::Check),
    Judge(meshproof_cli::Judge),
    Report(meshproof_cli::Report),
    Gate(meshproof_cli::Gate),
    #[command(subcommand)]
    Ledger(meshproof_cli::Ledger),
    /// List or prune the artifacts that are kept in the user's cache directory
    #[command(subcommand)]
    Cache(cache::Command),
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
    log(LOGGED);
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let result = match cli.command {
        Command::Testbed(command) => command.run().await.map(success),
        Command::Audit(command) => Ok(command.run(&paths::place()).await.into()),
        Command::Compare(command) => Ok(command.run(&paths::place()).await.into()),
        Command::Check(command) => command.run().await,
        Command::Judge(command) => command.run(Some(paths::fixture("perf/bounds.toml"))).map(ExitCode::from),
        Command::Report(command) => command.run().map(success),
        Command::Gate(command) => Ok(command.run().into()),
        Command::Ledger(command) => command.run().map(success),
        Command::Cache(command) => command.run().map(success),
        Command::Image(command) => command.run().await.map(success),
        Command::Load(command) => command.run().await.map(success),
    };
    result.unwrap_or_else(|error| exit_code(&error, ExitCode::FAILURE))
}

fn success((): ()) -> ExitCode {
    ExitCode::SUCCESS
}
