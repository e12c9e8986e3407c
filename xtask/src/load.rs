//! `cargo xtask load`: the load driver, also compared with other generators.

mod compare;

use anyhow::Result;
use clap::Subcommand;

/// What the load driver can be told to do, as its own binary, in a cluster and beside others.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    Load(meshproof_cli::Load),
    /// Measure the driver beside fortio, k6 and wrk on one server, interleaved, and print a Markdown table
    Compare(compare::Compare),
}

impl Command {
    /// # Errors
    /// Fails if an argument is invalid, a program is missing, or the operating system refuses a request.
    pub(crate) async fn run(self) -> Result<()> {
        match self {
            Self::Load(load) => load.run().await,
            Self::Compare(compare) => compare.run().await,
        }
    }
}
