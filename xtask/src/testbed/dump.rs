//! `testbed dump`: writes logs, configuration and state of the testbed into one archive. The command works on broken
//! testbeds: a failed item is listed in the archive's `errors.txt`, and the other items are collected.
//!
//! The archive has no secrets: `Secret` objects and kubeconfigs are never read, and [`crate::bundle`] redacts every
//! text.

mod machine;
mod mesh;
mod objects;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, ListParams};
use time::OffsetDateTime;

use super::installed::Installed;
use super::inventory::Inventory;
use super::status;
use crate::bundle::{Archive, Collector, said};
use crate::progress::Progress;
use crate::provider::{KnownCluster, Machines, Provider};
use crate::{kubernetes, paths};
use mesh::Source;

/// Time limit for the first answer of the system that runs the nodes.
const MACHINES_BOUND: Duration = Duration::from_secs(4);

#[derive(Args)]
pub(crate) struct Arguments {
    /// Where to write the archive [default: target/testbed-dump/meshproof-dump-TIME.tar.gz]
    #[arg(long, value_name = "FILE.tar.gz")]
    output: Option<PathBuf>,
}

impl Arguments {
    /// Writes the archive, and prints its path on standard output.
    ///
    /// # Errors
    /// Fails if there is no testbed, or the archive cannot be written. An item that cannot be collected is not an
    /// error.
    pub(crate) async fn run(self) -> Result<()> {
        let inventory = Inventory::find()?;
        let progress = Progress::new();
        let now = OffsetDateTime::now_utc();
        let root = format!("meshproof-dump-{}", stamp(now));
        let default = || paths::root().join("target/testbed-dump").join(format!("{root}.tar.gz"));
        let output = self.output.unwrap_or_else(default);
        let archive = Archive::create(&output, &root, introduction(&inventory, now))?;
        let collector = Collector::new(archive.inbox());

        let machines = connect_machines(inventory.provider, &collector).await;
        let whole = async {
            let status = async { Ok(status::text(&inventory).await) };
            let status = collector.item("status.txt", "what `cargo xtask testbed status` says", status);
            tokio::join!(status, machine::collect(&collector, machines.as_ref(), &inventory));
            Ok(())
        };
        let clusters = inventory
            .contents()
            .map(async |(known, installed)| cluster(&progress, &collector, machines.as_ref(), known, installed).await);
        let (whole, clusters) = tokio::join!(progress.step(None, "machine, engine, record", whole), join_all(clusters));
        whole?;
        clusters.into_iter().collect::<Result<()>>()?;

        drop(collector);
        let summary = archive.finish().await?;
        let mib = summary.bytes as f64 / f64::from(1 << 20);
        let missing = match summary.errors {
            0 => String::new(),
            errors => format!("; {errors} could not be collected, see errors.txt in it"),
        };
        progress.say(format!("{} files, {mib:.1} MiB{missing}", summary.files));
        println!("{}", output.display());
        Ok(())
    }
}

/// Connects to the system that runs the nodes. If the system does not answer, the archive has the reason.
async fn connect_machines(provider: Provider, collector: &Collector) -> Option<Machines> {
    let connected = tokio::time::timeout(MACHINES_BOUND, provider.connect()).await;
    match connected.context("no answer").and_then(|connected| connected) {
        Ok(machines) => Some(machines),
        Err(error) => {
            let error = error.context(format!("{} does not answer", provider.machines_name()));
            collector.put("machine/engine", "", Err(error)).await;
            None
        }
    }
}

/// Collects all data of one cluster.
async fn cluster(
    progress: &Progress,
    collector: &Collector,
    machines: Option<&Machines>,
    known: &KnownCluster,
    installed: &Installed,
) -> Result<()> {
    let (name, home) = (known.name.as_str(), known.file_name());
    let client = match collector.bounded(connect(known)).await {
        Ok(client) => Some(client),
        Err(error) => {
            let error = Err(error.context("no objects, container logs or mesh state: the API server does not answer"));
            collector.put(format!("{home}/objects"), "", error).await;
            None
        }
    };
    let api_answers = client.is_some();
    let kubernetes = async {
        match &client {
            Some(client) => kubernetes(progress, &Source { collector, client, cluster: known, installed }).await,
            None => Ok(()),
        }
    };
    let nodes = async {
        let Some(machines) = machines.filter(|_| !known.nodes.is_empty()) else { return Ok(()) };
        let nodes = known.nodes.iter().map(async |node| {
            let directory = format!("{home}/nodes/{node}");
            machines.collect_node(collector, node, &directory, api_answers).await;
        });
        let nodes = async {
            join_all(nodes).await;
            Ok(())
        };
        progress.step(Some(name), "nodes", nodes).await
    };
    tokio::try_join!(kubernetes, nodes).map(drop)
}

/// Collects data from a cluster's API server and proxies.
async fn kubernetes(progress: &Progress, source: &Source<'_>) -> Result<()> {
    let Source { collector, client, cluster, installed } = source;
    let (name, home) = (cluster.name.as_str(), cluster.file_name());
    let listed = collector.bounded(async {
        let pods: Api<Pod> = Api::all(Client::clone(client));
        Ok(pods.list(&ListParams::default()).await.map_err(said)?.items)
    });
    let pods = match listed.await {
        Ok(pods) => pods,
        Err(error) => {
            let error = Err(error.context("no container logs, istiod or proxies: the pods cannot be listed"));
            collector.put(format!("{home}/logs"), "", error).await;
            Vec::new()
        }
    };
    tokio::try_join!(
        progress.step(Some(name), "objects, events, logs", async {
            let objects = objects::collect(collector, client, &home, &installed.istio.namespace);
            tokio::join!(objects, objects::logs(collector, client, &home, &pods));
            Ok(())
        }),
        progress.step(Some(name), "istiod, proxies", async {
            source.collect(&pods).await;
            Ok(())
        }),
    )
    .map(drop)
}

/// A client for a cluster whose API server answers. An API server that is not ready may still list objects.
async fn connect(known: &KnownCluster) -> Result<Client> {
    let client = kubernetes::client(&known.kubeconfig, &known.context).await?;
    client.apiserver_version().await.map_err(said)?;
    Ok(client)
}

/// Formats the time for a file name, to the second.
fn stamp(at: OffsetDateTime) -> String {
    let (year, month, day) = at.to_calendar_date();
    let (hour, minute, second) = at.to_hms();
    format!("{year}{:02}{day:02}T{hour:02}{minute:02}{second:02}Z", u8::from(month))
}

/// The beginning of the index.
fn introduction(inventory: &Inventory, at: OffsetDateTime) -> String {
    let of = match &inventory.record {
        Ok(record) => format!("{} testbed, layout {}", record.provider, record.layout().unwrap_or("none")),
        Err(reason) => format!("testbed without a usable record ({reason})"),
    };
    let named = |cluster: &KnownCluster| match cluster.file_name() {
        same if same == cluster.name => same,
        home => format!("{} in {home}", cluster.name),
    };
    let names: Vec<String> = inventory.clusters.iter().map(named).collect();
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
