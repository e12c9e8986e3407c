//! `testbed kubeconfig`: one file with a context for each cluster.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use kube::config::Kubeconfig;

use crate::mesh::install::Member;
use crate::paths;

/// File name inside the testbed directory.
const FILE_NAME: &str = "kubeconfig";

/// File inside the testbed directory with the image of the probe.
const PROBE_IMAGE: &str = "probe-image";

#[derive(Args)]
pub(crate) struct Arguments {
    /// Print the file's contents, not its path
    #[arg(long)]
    contents: bool,
    /// Print the image of the probe in the nodes, for `testbed attach --probe-image`
    #[arg(long, conflicts_with = "contents")]
    probe_image: bool,
}

impl Arguments {
    pub(crate) fn run(self) -> Result<()> {
        let path = paths::testbed().join(FILE_NAME);
        if !path.exists() {
            bail!("no testbed at {}: run `cargo xtask testbed up`", paths::testbed().display());
        }
        if self.probe_image {
            println!("{}", paths::read(&paths::testbed().join(PROBE_IMAGE))?.trim());
        } else if self.contents {
            print!("{}", paths::read(&path)?);
        } else {
            println!("{}", path.display());
        }
        Ok(())
    }
}

/// Merges the clusters' kubeconfigs into one file. The first cluster is the current context. Notes the image of the
/// probe beside it.
///
/// # Errors
/// Fails if a kubeconfig cannot be read, or a file cannot be written.
pub(crate) fn write(directory: &Path, members: &[Member<'_>], probe_image: &str) -> Result<PathBuf> {
    let mut merged = Kubeconfig::default();
    for member in members {
        merged = merged.merge(Kubeconfig::read_from(&member.target.kubeconfig)?)?;
    }
    let path = directory.join(FILE_NAME);
    paths::write_secret(&path, &serde_saphyr::to_string(&merged)?)?;
    let image = directory.join(PROBE_IMAGE);
    std::fs::write(&image, format!("{probe_image}\n")).with_context(|| format!("cannot write {}", image.display()))?;
    Ok(path)
}
