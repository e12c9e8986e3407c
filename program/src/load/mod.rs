//! `load`: the load driver as a separate program, and as a Job in a cluster.

mod job;

use anyhow::Result;
use clap::Subcommand;

/// What the load driver can be told to do, on this machine and in a cluster.
#[derive(Debug, Subcommand)]
pub enum Load {
    /// The driver's own commands
    #[command(flatten)]
    Driver(meshproof_load::cli::Command),
    /// Make load from several pods of a cluster at once, and print what came of it as if one had made it
    Job(job::Job),
}

impl Load {
    /// # Errors
    /// Fails if an argument is invalid, or the operating system refuses a request.
    pub async fn run(self) -> Result<()> {
        match self {
            Self::Driver(command) => Ok(command.run().await?),
            Self::Job(job) => job.run().await,
        }
    }
}
