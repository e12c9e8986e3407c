//! `testbed down`: removes what `up` made, and nothing else.

use anyhow::{Result, bail};
use clap::Args;
use meshproof::record::Record;

use crate::lock::Lock;
use crate::paths;
use crate::progress::Progress;
use crate::provider::Provider;

#[derive(Args)]
pub(crate) struct Arguments {
    /// Also remove a testbed that another checkout brought up
    #[arg(long)]
    all: bool,
}

impl Arguments {
    pub(crate) async fn run(self) -> Result<()> {
        let _lock = Lock::take("cargo xtask testbed down")?;
        let progress = Progress::new();
        let directory = paths::testbed();
        if self.all || directory.exists() {
            let provider = match Record::read(&directory) {
                Ok(record) => match Provider::of(&record)? {
                    Provider::Attach => bail!(
                        "{} is the record of a mesh that `up` did not make: leave the mesh with `cargo xtask testbed \
                         detach`",
                        directory.display()
                    ),
                    provider => provider,
                },
                // The testbed is from an unfinished `up`, or its record has an older version.
                Err(_) => Provider::OF_UNFINISHED,
            };
            provider.remove(&progress).await?;
        }
        // Remove the whole directory: record, ledger, kubeconfig, and the keys of the removed mesh.
        paths::remove(&directory)?;
        progress.say("The testbed is gone; its artifacts stay in the cache.");
        Ok(())
    }
}
