//! Removes what `up` made on this machine, and nothing else.

use std::time::Duration;

use anyhow::Result;
use meshproof::{Seen, eventually};

use super::prerequisites;
use crate::progress::Progress;

/// Time limit for the engine to finish requests of a killed `up`.
const REMOVAL_BOUND: Duration = Duration::from_secs(60);

/// Removes every container, volume and network with the testbed's label.
///
/// # Errors
/// Fails if the engine cannot be started or does not remove the objects in time.
pub(crate) async fn remove(progress: &Progress) -> Result<()> {
    if !prerequisites::has_engine() {
        return Ok(());
    }
    // A stopped engine still has the containers, and restarts them when it starts.
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
