//! Images in the engine.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result};
use futures::StreamExt;
use testcontainers::bollard::query_parameters::{
    ImportImageOptionsBuilder, ListImagesOptionsBuilder, RemoveImageOptionsBuilder,
};

use super::Engine;
use crate::progress;

impl Engine {
    pub(crate) async fn has_image(&self, reference: &str) -> Result<bool> {
        let filters = HashMap::from([("reference", vec![reference])]);
        let options = ListImagesOptionsBuilder::default().filters(&filters).build();
        Ok(!self.docker.list_images(Some(options)).await?.is_empty())
    }

    /// Loads the image archive at `path`.
    pub(crate) async fn load(&self, path: &Path) -> Result<()> {
        progress::count_command();
        let file = tokio::fs::File::open(path).await.with_context(|| format!("cannot open {}", path.display()))?;
        let stream = tokio_util::io::ReaderStream::with_capacity(file, 1 << 20);
        let mut answers =
            std::pin::pin!(self.docker.import_image_stream(ImportImageOptionsBuilder::default().build(), stream, None));
        while let Some(answer) = answers.next().await {
            answer.with_context(|| format!("the engine does not accept the image archive {}", path.display()))?;
        }
        Ok(())
    }

    /// Removes images of `repository` that are not in `keep` and that no container uses.
    pub(crate) async fn remove_other_images(&self, repository: &str, keep: &[&str]) -> Result<()> {
        let filters = HashMap::from([("reference", vec![repository])]);
        let options = ListImagesOptionsBuilder::default().filters(&filters).build();
        for tag in self.docker.list_images(Some(options)).await?.into_iter().flat_map(|image| image.repo_tags) {
            if !keep.contains(&tag.as_str()) {
                // The engine keeps an image that a container still uses. A later run removes the image.
                let _ = self.docker.remove_image(&tag, Some(RemoveImageOptionsBuilder::default().build()), None).await;
            }
        }
        Ok(())
    }
}
