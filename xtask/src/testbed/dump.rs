//! `testbed dump`: everything there is to know about the testbed, in one archive. Made for broken testbeds: whatever
//! cannot be collected is told in the archive's `errors.txt`, and the rest is collected all the same.
//!
//! No secret goes in: `Secret` objects and kubeconfigs are never read, and every text passes [`redact`].

mod archive;
mod collect;
mod machine;
mod mesh;
mod node;
mod objects;
mod redact;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, ListParams};
use time::OffsetDateTime;

use super::status;
use super::targets::{Target, Targets};
use crate::local::engine::Engine;
use crate::progress::Progress;
use crate::{kubernetes, paths};
use archive::Archive;
use collect::{Collector, said};

/// Bound on the first answer of the container engine.
const ENGINE_BOUND: Duration = Duration::from_secs(4);

#[derive(Args)]
pub(crate) struct Arguments {
    /// Where to write the archive [default: target/testbed-dump/meshproof-dump-TIME.tar.gz]
    #[arg(long, value_name = "FILE.tar.gz")]
    output: Option<PathBuf>,
}

impl Arguments {
    /// Writes the archive, and its path on standard output.
    ///
    /// # Errors
    /// Where there is no testbed, or the archive cannot be written; never because something could not be collected.
    pub(crate) async fn run(self) -> Result<()> {
        let targets = Targets::find()?;
        let progress = Progress::new();
        let now = OffsetDateTime::now_utc();
        let root = format!("meshproof-dump-{}", stamp(now));
        let default = || paths::root().join("target/testbed-dump").join(format!("{root}.tar.gz"));
        let output = self.output.unwrap_or_else(default);
        let archive = Archive::create(&output, &root, introduction(&targets, now))?;
        let collector = Collector::new(archive.inbox());

        let engine = tokio::time::timeout(ENGINE_BOUND, Engine::connect()).await;
        let engine = engine.context("no answer").and_then(|connected| connected);
        let engine = match engine {
            Ok(engine) => Some(engine),
            Err(error) => {
                let error = Err(error.context("the container engine does not answer"));
                collector.put("machine/engine", "", error).await;
                None
            }
        };
        let whole = async {
            let status = async { Ok(status::text(&targets).await) };
            let status = collector.item("status.txt", "what `cargo xtask testbed status` says", status);
            tokio::join!(status, machine::collect(&collector, engine.as_ref(), &targets));
            Ok(())
        };
        let clusters = targets.clusters.iter().map(|target| cluster(&progress, &collector, engine.as_ref(), target));
        let (whole, clusters) = tokio::join!(progress.step(None, "machine, engine, record", whole), join_all(clusters));
        whole?;
        clusters.into_iter().collect::<Result<()>>()?;

        drop(collector);
        let summary = archive.finish().await?;
        let mib = summary.bytes as f64 / f64::from(1 << 20);
        let missing = match summary.errors {
            0 => String::new(),
            errors => format!("; {errors} could not be had, errors.txt in it tells why"),
        };
        progress.say(format!("{} files, {mib:.1} MiB{missing}", summary.files));
        println!("{}", output.display());
        Ok(())
    }
}

/// Collects all of one cluster.
async fn cluster(progress: &Progress, collector: &Collector, engine: Option<&Engine>, target: &Target) -> Result<()> {
    let name = target.name.as_str();
    let client = match collector.bounded(connect(target)).await {
        Ok(client) => Some(client),
        Err(error) => {
            let error = Err(error.context("no objects, container logs or mesh state: the API server does not answer"));
            collector.put(format!("{name}/objects"), "", error).await;
            None
        }
    };
    let api_answers = client.is_some();
    let kubernetes = async {
        let Some(client) = &client else { return Ok(()) };
        let listed = collector.bounded(async {
            let pods: Api<Pod> = Api::all(client.clone());
            Ok(pods.list(&ListParams::default()).await.map_err(said)?.items)
        });
        let pods = match listed.await {
            Ok(pods) => pods,
            Err(error) => {
                let error = Err(error.context("no container logs, istiod or proxies: the pods cannot be listed"));
                collector.put(format!("{name}/logs"), "", error).await;
                Vec::new()
            }
        };
        tokio::try_join!(
            progress.step(Some(name), "objects, events, logs", async {
                tokio::join!(objects::collect(collector, client, name), objects::logs(collector, client, name, &pods));
                Ok(())
            }),
            progress.step(Some(name), "istiod, proxies", async {
                mesh::collect(collector, client, target, name, &pods).await;
                Ok(())
            }),
        )
        .map(drop)
    };
    let node = async {
        let (Some(engine), Some(container)) = (engine, &target.container) else { return Ok(()) };
        progress
            .step(Some(name), "node", async {
                node::collect(collector, engine, container, name, api_answers).await;
                Ok(())
            })
            .await
    };
    tokio::try_join!(kubernetes, node).map(drop)
}

/// A client for a cluster whose API server answers, if only that it is not ready: it may still list its objects.
async fn connect(target: &Target) -> Result<Client> {
    let client = kubernetes::client(&target.kubeconfig, &target.context).await?;
    client.apiserver_version().await.map_err(said)?;
    Ok(client)
}

/// The moment in a form that is fit for a file name, to the second.
fn stamp(at: OffsetDateTime) -> String {
    let (year, month, day) = at.to_calendar_date();
    let (hour, minute, second) = at.to_hms();
    format!("{year}{:02}{day:02}T{hour:02}{minute:02}{second:02}Z", u8::from(month))
}

/// The beginning of the index.
fn introduction(targets: &Targets, at: OffsetDateTime) -> String {
    let of = match &targets.record {
        Ok(record) => format!("{} testbed, layout {}", record.provider, record.layout().unwrap_or("none")),
        Err(reason) => format!("testbed without a usable record ({reason})"),
    };
    let names: Vec<&str> = targets.clusters.iter().map(|target| target.name.as_str()).collect();
    format!(
        "Dump of the {of}, of {}.\n\
         Clusters: {}. Begin with status.txt, CLUSTER/overview.txt and CLUSTER/events.txt.\n\
         What could not be collected is in errors.txt. Secrets, private keys and tokens are left out.\n",
        stamp(at),
        names.join(", "),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_sorts_by_time_and_has_no_separators() {
        assert_eq!(stamp(OffsetDateTime::from_unix_timestamp(1_767_323_045).unwrap()), "20260102T030405Z");
    }
}
