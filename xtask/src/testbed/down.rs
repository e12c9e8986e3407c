//! `testbed down`: removes what `up` made, and only that.

use anyhow::Result;
use clap::Args;

use crate::local::engine::Engine;
use crate::lock::Lock;
use crate::mesh::authority;
use crate::paths;
use crate::progress::Progress;

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
            let engine = Engine::connect().await?;
            progress
                .step(None, "containers, volumes, networks", async {
                    for container in engine.containers().await? {
                        engine.remove(&container).await?;
                    }
                    engine.remove_networks_and_volumes().await
                })
                .await?;
        }
        // The directory goes as a whole: record, ledger, kubeconfig, and the keys of a mesh that is no more.
        authority::remove(&directory)?;
        progress.say("The testbed is gone; its artifacts stay in the cache.");
        Ok(())
    }
}
