//! `testbed status`: the state of the testbed, as a table or as JSON. Every query has a time limit, because users run
//! this command when a component is down.

mod components;
mod health;
mod observe;
mod table;

use anyhow::{Result, bail};
use clap::Args;

use super::inventory::Inventory;
use crate::paths;
use health::Status;

#[derive(Args)]
pub(crate) struct Arguments {
    /// Print JSON (schema `meshproof.status/v2`)
    #[arg(long)]
    json: bool,
}

/// The status table, for a dump.
pub(super) async fn text(inventory: &Inventory) -> String {
    table::render(&observe::testbed(inventory).await)
}

impl Arguments {
    /// Prints the status on standard output.
    ///
    /// # Errors
    /// Fails if there is no testbed or the testbed is not healthy, so a script can use the exit code.
    pub(crate) async fn run(self) -> Result<()> {
        let status = match Inventory::find() {
            Ok(inventory) => observe::testbed(&inventory).await,
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
            "the testbed is not healthy: run `cargo xtask testbed up` to repair it, or `cargo xtask testbed dump` to \
             collect its logs and state"
        )
    }
}
