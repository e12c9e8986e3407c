//! `cargo xtask testbed …`

mod down;
mod dump;
mod installed;
mod inventory;
mod kubeconfig;
mod peers;
mod profile;
mod quiesce;
mod status;
mod up;

use anyhow::Result;
use clap::Subcommand;

use crate::paths;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Bring the testbed up, or repair it
    Up(up::Arguments),
    /// Remove what `up` made: containers, volumes, networks, certificates (the cache of artifacts stays)
    Down(down::Arguments),
    /// Find out what a mesh is that somebody else made, and write its record
    Attach(Box<meshproof_cli::Attach>),
    /// Remove what suites have created in a mesh that somebody else made, and its record
    Detach(meshproof_cli::Detach),
    /// Show the state of the testbed
    Status(status::Arguments),
    /// Collect logs, configuration and state of the testbed in one archive
    Dump(dump::Arguments),
    /// Print the path of the kubeconfig whose contexts are the clusters
    Kubeconfig(kubeconfig::Arguments),
    /// Pause all clusters, or all but one, until standard input ends, so that nothing else runs while something is
    /// timed
    Quiesce(quiesce::Arguments),
}

impl Command {
    pub(crate) async fn run(self) -> Result<()> {
        match self {
            Self::Up(arguments) => arguments.run().await,
            Self::Down(arguments) => arguments.run().await,
            Self::Attach(arguments) => arguments.run(&paths::place()).await,
            Self::Detach(arguments) => arguments.run(&paths::place()).await,
            Self::Status(arguments) => arguments.run().await,
            Self::Dump(arguments) => arguments.run().await,
            Self::Kubeconfig(arguments) => arguments.run(),
            Self::Quiesce(arguments) => arguments.run().await,
        }
    }
}
