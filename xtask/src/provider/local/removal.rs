//! Removing what `up` made on this machine, and only that.

use std::time::Duration;

use anyhow::Result;
use meshproof::{Seen, eventually};

use super::prerequisites;
use crate::progress::Progress;

/// How long the engine may take to finish what a killed `up` asked for.
const REMOVAL_BOUND: Duration = Duration::from_secs(60);

/// Removes every container, volume and network that carries our label.
///
/// # Errors
/// Fails if the engine cannot be started or does not remove them in time.
pub(crate) async fn remove(progress: &Progress) -> Result<()> {
    if !prerequisites::has_engine() {
        return Ok(());
    }
    // An engine that does not run holds containers all the same, and would start them with itself.
    let engine = prerequisites::engine(progress, true).await?;
    let removing = async {
        let gone = eventually("the engine to let go of them", REMOVAL_BOUND, async || -> Result<Seen<()>> {
            engine.resume_all().await?;
            for container in engine.containers().await? {
                engine.remove(&container).await?;
            }
            engine.remove_networks_and_volumes().await?;
            Ok(Seen::Yes(()))
        });
        Ok(gone.await?)
    };
    progress.step(None, "containers, volumes, networks", removing).await
}
