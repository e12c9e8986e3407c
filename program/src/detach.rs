//! `detach`: removes all that suites have created in somebody else's mesh, and the record.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use futures::future::try_join_all;
use kube::Client;
use meshproof::attach::{self, Removed};
use meshproof::cluster::access::Kubeconfigs;
use meshproof::record::{self, Record};
use meshproof::scope;

use crate::Place;
use crate::progress::Progress;

/// Arguments of `detach`.
#[derive(Debug, Args)]
pub struct Detach {
    /// Context of a cluster; once for each cluster [default: the clusters of the record]
    #[arg(long = "context", value_name = "CONTEXT")]
    contexts: Vec<String>,
    /// Kubeconfig with the contexts; may be given several times [default: those of $KUBECONFIG, otherwise
    /// ~/.kube/config]
    #[arg(long = "kubeconfig", value_name = "FILE", requires = "contexts")]
    kubeconfigs: Vec<PathBuf>,
    /// Also leave a mesh that a run seems to judge: after that run was killed
    #[arg(long)]
    force: bool,
}

/// A cluster to leave.
struct Left {
    name: String,
    client: Client,
}

/// The error of a cluster from which nothing was removed.
fn unremoved(error: meshproof::Error) -> anyhow::Error {
    let is_held = matches!(error, meshproof::Error::Held { .. });
    let why = if is_held { "nothing was removed; if that run is dead, add --force" } else { "nothing was removed" };
    anyhow::Error::from(error).context(why)
}

impl Detach {
    /// Removes what suites have created, and the record.
    ///
    /// # Errors
    /// Fails if a run judges the mesh, or something cannot be removed.
    pub async fn run(self, place: &Place) -> Result<()> {
        let (progress, directory) = (Progress::new(), &place.testbed);
        let clusters = match self.contexts.as_slice() {
            [] => recorded(directory).await?,
            contexts => named(&self.kubeconfigs, contexts).await?,
        };
        let leaving = clusters.iter().map(async |Left { name, client }| {
            let removing = async {
                if !self.force {
                    let idle = scope::idle(client, name, directory).await;
                    idle.map_err(unremoved)?;
                }
                anyhow::Ok(attach::detach(client, name).await?)
            };
            let removed = progress.step(Some(name), "remove what is ours", removing).await?;
            tell(&progress, name, &removed);
            anyhow::Ok(())
        });
        try_join_all(leaving).await?;
        // Of a record that is not of these clusters, nothing is known.
        if self.contexts.is_empty() {
            forget(directory)?;
            progress.say("The record is gone.");
        }
        Ok(())
    }
}

/// The clusters of the record in `directory`.
async fn recorded(directory: &Path) -> Result<Vec<Left>> {
    let record = match Record::read(directory) {
        Ok(record) => record,
        Err(record::Error::NoTestbed { .. }) => bail!(
            "no record at {}: name the clusters with --context, or the directory with MESHPROOF_TESTBED=DIR",
            directory.display()
        ),
        Err(error) => return Err(error.into()),
    };
    if record.provider != attach::PROVIDER {
        bail!("{} holds the testbed of `up`: remove it with `cargo xtask testbed down`", directory.display());
    }
    try_join_all(record.clusters.iter().map(async |cluster| {
        let access = Kubeconfigs::load(&[directory.join(&cluster.kubeconfig)])?;
        let client = access.client(&cluster.context).await?;
        Ok(Left { name: cluster.name.clone(), client })
    }))
    .await
}

/// The clusters of these contexts.
async fn named(kubeconfigs: &[PathBuf], contexts: &[String]) -> Result<Vec<Left>> {
    let known = Kubeconfigs::load(kubeconfigs)?;
    try_join_all(contexts.iter().map(async |context| {
        let client = known.connect(context).await?;
        Ok(Left { name: context.clone(), client })
    }))
    .await
}

fn tell(progress: &Progress, name: &str, removed: &Removed) {
    let Removed { done, denied } = removed;
    if done.is_empty() {
        progress.say(format!("{name}: nothing of ours was found"));
    }
    for what in done {
        progress.say(format!("{name}: removed {what}"));
    }
    for what in denied {
        progress.say(format!("{name}: not looked for: {what}"));
    }
}

/// Removes what `attach` and tests have written into `directory`.
fn forget(directory: &Path) -> Result<()> {
    Record::remove(directory)?;
    for file in ["kubeconfig", "tests.lock", scope::MeshLock::FILE] {
        let path = directory.join(file);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", path.display()));
            }
            _ => {}
        }
    }
    let _ = std::fs::remove_dir_all(directory.join(scope::MeshLock::HOLDERS));
    // Other files in it are not ours.
    let _ = std::fs::remove_dir(directory);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_run_that_holds_the_mesh_is_a_reason_to_force() {
        let held = meshproof::Error::Held {
            cluster: "east".into(),
            holder: "ann".into(),
            since: "10:00".into(),
            until: "10:01".into(),
            lease: "meshproof/lease".into(),
        };
        assert!(format!("{:#}", unremoved(held)).contains("add --force: east: ann has been judging"));
        let error = unremoved(meshproof::Error::suite("east: could not list namespaces"));
        assert_eq!(crate::ended::told(&error), "nothing was removed: east: could not list namespaces");
    }
}
