//! What `up` needs on this machine.

use anyhow::Result;

use crate::progress::Progress;

pub(crate) async fn ensure(_progress: &Progress, _install: bool) -> Result<()> {
    Ok(())
}
