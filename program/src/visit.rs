//! A mesh that is judged once: read for one run, without a record that stays, and left as it was.

use std::path::Path;

use anyhow::{Context, Result};
use futures::future::{join_all, try_join_all};
use kube::Client;
use meshproof::attach::rights::Mode;
use meshproof::cluster::Testbed;
use meshproof::scope::{self, Before};
use tempfile::TempDir;

use crate::progress::Progress;
use crate::reading::Source;

/// A mesh whose record ends with the run.
pub(crate) struct Visit {
    progress: Progress,
    clusters: Vec<Visited>,
    /// Namespace of the Lease.
    leased: String,
    /// The record and the kubeconfig. Only this user can read them, and they are removed on drop.
    directory: TempDir,
}

/// A cluster of the mesh.
struct Visited {
    name: String,
    context: String,
    client: Client,
    /// What was there of meshproof's, and stays.
    before: Before,
}

impl Visit {
    /// Reads the mesh, and makes sure that all may be done there that an audit does. Creates nothing in the clusters.
    ///
    /// # Errors
    /// Fails if a cluster cannot be read, a right is missing, or another run judges the mesh.
    pub(crate) async fn begin(source: Source<'_>) -> Result<Self> {
        let read = source.read().await?;
        read.mesh.findings.iter().for_each(|finding| read.progress.say(finding.to_string()));
        read.preflight(Mode::Suites).await.check()?;
        let directory = tempfile::Builder::new().prefix("meshproof-").tempdir().context("cannot make a directory")?;
        read.write(directory.path())?;
        let names = source.names.all();
        let visiting = read.record.clusters.iter().zip(&read.clients).map(async |(cluster, client)| {
            let (name, context) = (cluster.name.clone(), cluster.context.clone());
            scope::idle(client, &name, directory.path()).await?;
            let before = scope::before(client, &name, &names).await?;
            anyhow::Ok(Visited { name, context, client: client.clone(), before })
        });
        let clusters = try_join_all(visiting).await?;
        Ok(Self { progress: read.progress, clusters, leased: source.names.outside, directory })
    }

    /// Directory of the record.
    pub(crate) fn testbed(&self) -> &Path {
        self.directory.path()
    }

    /// Removes what the run has made, and waits until its namespaces are gone. Probes that stood there before stay.
    ///
    /// # Errors
    /// Fails if another run uses them by now, or one is not gone in time. Names the command that removes the rest.
    pub(crate) async fn end(self) -> Result<()> {
        let leaving = self.clusters.iter().map(async |Visited { name, context, client, before }| {
            let removing = async {
                scope::remove_namespaces(client, name, &before.missing, self.testbed()).await?;
                scope::release(client, name, &self.leased, self.testbed()).await?;
                // In a namespace that was there, for example with the roles of these credentials.
                if !before.probes {
                    scope::remove_deployed(&Testbed::connect_in(self.testbed()).await?, name).await?;
                }
                anyhow::Ok(())
            };
            let ended = self.progress.step(Some(name), "remove what this run made", removing).await;
            ended.with_context(|| {
                format!("something of this run may be left: `meshproof detach --context {context}` removes it")
            })
        });
        join_all(leaving).await.into_iter().collect()
    }
}
