//! `testbed down`: removes what `up` made, and only that.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use meshproof::{Seen, eventually};

use crate::lock::Lock;
use crate::mesh::authority;
use crate::progress::Progress;
use crate::{paths, prerequisites};

/// How long the engine may take to finish what a killed `up` asked for.
const REMOVAL_BOUND: Duration = Duration::from_secs(60);

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
        if (self.all || directory.exists()) && prerequisites::has_engine() {
            // An engine that does not run holds containers all the same, and would start them with itself.
            let engine = prerequisites::engine(&progress, true).await?;
            progress
                .step(None, "containers, volumes, networks", async {
                    let gone =
                        eventually("the engine to let go of them", REMOVAL_BOUND, async || -> Result<Seen<()>> {
                            engine.resume_all().await?;
                            for container in engine.containers().await? {
                                engine.remove(&container).await?;
                            }
                            engine.remove_networks_and_volumes().await?;
                            Ok(Seen::Yes(()))
                        });
                    Ok(gone.await?)
                })
                .await?;
        }
        // The directory goes as a whole: record, ledger, kubeconfig, and the keys of a mesh that is no more.
        authority::remove(&directory)?;
        progress.say("The testbed is gone; its artifacts stay in the cache.");
        Ok(())
    }
}
