//! `cargo xtask load`: the load driver as a separate program, as a Job in a cluster, and compared with other
//! generators.

mod compare;
mod job;

use anyhow::Result;
use clap::Subcommand;

/// What the load driver can be told to do, as its own binary, in a cluster and beside others.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    Driver(meshproof_load::cli::Command),
    /// Make load from several pods of a cluster at once, and print what came of it as if one had made it
    Job(job::Job),
    /// Measure the driver beside fortio, k6 and wrk on one server, interleaved, and print a Markdown table
    Compare(compare::Compare),
}

impl Command {
    /// # Errors
    /// Fails if an argument is invalid, a program is missing, or the operating system refuses a request.
    pub(crate) async fn run(self) -> Result<()> {
        match self {
            Self::Driver(command) => Ok(command.run().await?),
            Self::Job(job) => job.run().await,
            Self::Compare(compare) => compare.run().await,
        }
    }
}
