//! `testbed status`: what is up and how it is, in a table or as JSON. Never hangs: every question is bounded, because
//! it is asked when something is down.

mod health;
mod observe;
mod table;

use anyhow::{Result, bail};
use clap::Args;

use super::targets::Targets;
use crate::paths;
use health::Status;

#[derive(Args)]
pub(crate) struct Arguments {
    /// Print JSON (schema `meshproof.status/v1`)
    #[arg(long)]
    json: bool,
}

/// The table, for a dump.
pub(super) async fn text(targets: &Targets) -> String {
    table::render(&observe::testbed(targets).await)
}

impl Arguments {
    /// Prints the status on standard output.
    ///
    /// # Errors
    /// Where there is no testbed or it is not healthy, so that a script can go by the exit code.
    pub(crate) async fn run(self) -> Result<()> {
        let status = match Targets::find() {
            Ok(targets) => observe::testbed(&targets).await,
            Err(error) if self.json => Status::of_none(paths::testbed(), error.to_string()),
            Err(error) => return Err(error),
        };
        if self.json {
            println!("{}", serde_json::to_string_pretty(&status)?);
        } else {
            print!("{}", table::render(&status));
        }
        if status.healthy {
            return Ok(());
        }
        bail!(
            "the testbed is not healthy: `cargo xtask testbed up` brings it back, `cargo xtask testbed dump` collects \
             everything there is to know"
        )
    }
}
