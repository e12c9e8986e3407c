//! `cargo xtask load`: the load driver on its own, and beside other generators.

mod compare;

use anyhow::Result;
use clap::Subcommand;

/// What the load driver can be told to do, as its own binary and beside others.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    Driver(meshproof_load::cli::Command),
    /// Measure the driver beside fortio, k6 and wrk on one server, interleaved, and print a Markdown table
    Compare(compare::Compare),
}

impl Command {
    /// # Errors
    /// Where an argument makes no sense, a program is missing, or the system refuses.
    pub(crate) async fn run(self) -> Result<()> {
        match self {
            Self::Driver(command) => Ok(command.run().await?),
            Self::Compare(compare) => compare.run().await,
        }
    }
}
