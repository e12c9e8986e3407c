//! `testbed quiesce`: pauses all clusters, or all but one and part of that one, until standard input ends. That happens
//! in whatever way the process at its other end stops.

use std::io::{BufRead, Write};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use meshproof::compare::Quiet;
use meshproof::{Seen, eventually};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::inventory::Inventory;
use crate::kubernetes;
use crate::provider::node::Hold;
use crate::provider::{Held, KnownCluster, Machines};

/// How long the nodes of a resumed cluster may take to be ready: their leases have expired in the meantime.
const BACK: Duration = Duration::from_secs(120);

#[derive(Args)]
pub(crate) struct Arguments {
    /// Cluster that keeps running, without its scheduler, controller manager and kube-proxy [default: none]
    #[arg(long, value_name = "CLUSTER")]
    keep: Option<String>,
    /// In the kept cluster, hold everything except the pods of these namespaces, but only when told to
    ///
    /// Each line of standard input says for how many seconds, at most 15. `held N`, with the number of processes, and
    /// `over` are printed when it is so.
    #[arg(long, value_name = "NAMESPACE", value_delimiter = ',', requires = "keep")]
    spare: Vec<String>,
}

impl Arguments {
    /// Pauses, prints `quiet`, and waits for the end of standard input or for a signal. Then everything goes on.
    ///
    /// # Errors
    /// Where something cannot be held, or does not go on.
    pub(crate) async fn run(self) -> Result<()> {
        let inventory = Inventory::find()?;
        let kept = self.keep.as_deref().map(|name| inventory.cluster(name)).transpose()?;
        let hold = match kept {
            Some(kept) if !self.spare.is_empty() => Hold::AllBut(uids(kept, &self.spare).await?),
            _ => Hold::ControlPlane,
        };
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let machines = inventory.provider.connect().await?;
        let paused: Vec<&KnownCluster> =
            inventory.clusters.iter().filter(|cluster| self.keep.as_ref() != Some(&cluster.name)).collect();
        let quiet = async {
            let mut held = begin(&machines, &paused, kept, &hold).await?;
            say("quiet");
            let told_to_hold = held.as_mut().filter(|_| !self.spare.is_empty());
            tokio::select! {
                told = until_told(told_to_hold) => told,
                _ = terminate.recv() => Ok(()),
                _ = interrupt.recv() => Ok(()),
            }
        };
        let done = quiet.await;
        machines.resume_all().await?;
        done?;
        for cluster in paused {
            ready_again(cluster).await?;
        }
        // The thread that reads standard input would keep the process alive.
        std::process::exit(0)
    }
}

/// Pauses the clusters `paused`, and begins to hold what `hold` says of the cluster `kept`.
async fn begin(
    machines: &Machines,
    paused: &[&KnownCluster],
    kept: Option<&KnownCluster>,
    hold: &Hold,
) -> Result<Option<Held>> {
    for node in paused.iter().flat_map(|cluster| &cluster.nodes) {
        machines.pause(node).await?;
    }
    match kept {
        Some(kept) => Ok(Some(machines.hold(&kept.nodes, hold).await?)),
        None => Ok(None),
    }
}

/// The UIDs of all pods of these namespaces.
///
/// # Errors
/// Where there are no such pods: nothing would be left to measure.
async fn uids(kept: &KnownCluster, namespaces: &[String]) -> Result<Vec<String>> {
    let pods: Api<Pod> = Api::all(kubernetes::client(&kept.kubeconfig, &kept.context).await?);
    let pods = pods.list(&ListParams::default()).await?.items;
    let spared = pods.into_iter().filter(|pod| pod.namespace().is_some_and(|name| namespaces.contains(&name)));
    let uids: Vec<String> = spared.filter_map(|pod| pod.metadata.uid).collect();
    if uids.is_empty() {
        bail!(
            "no pods in namespaces {} of {}: start what is to be measured before `quiesce --spare`",
            namespaces.join(", "),
            kept.name
        );
    }
    Ok(uids)
}

/// Returns at the end of standard input. Until then each of its lines has `held` hold for so many seconds.
async fn until_told(mut held: Option<&mut Held>) -> Result<()> {
    let (tell, mut told) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        // A line that cannot be read is the end.
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if tell.send(line).is_err() {
                return;
            }
        }
    });
    while let Some(line) = told.recv().await {
        let Some(held) = held.as_mut() else { continue };
        let longest = Quiet::LONGEST.as_secs_f64();
        let seconds = line.trim().parse::<f64>().ok().filter(|seconds| *seconds > 0.0 && *seconds <= longest);
        let seconds = seconds.with_context(|| {
            format!("`{line}` on standard input is not a number of seconds above 0 and up to {longest}")
        })?;
        held.hold_for(seconds, |processes| say(&format!("held {processes}"))).await?;
        say("over");
    }
    Ok(())
}

/// Prints a line for the process that asked. Where that process has ended, standard input ends as well, and that is
/// seen.
fn say(line: &str) {
    let mut output = std::io::stdout().lock();
    let _ = writeln!(output, "{line}").and_then(|()| output.flush());
}

async fn ready_again(cluster: &KnownCluster) -> Result<()> {
    let nodes: Api<Node> = Api::all(kubernetes::client(&cluster.kubeconfig, &cluster.context).await?);
    eventually(format!("the nodes of {} to be ready again", cluster.name), BACK, async || -> Result<Seen<()>> {
        let nodes = nodes.list(&ListParams::default()).await?;
        let ready = |node: &Node| {
            let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
            conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
        };
        Ok(if nodes.iter().all(ready) { Seen::Yes(()) } else { Seen::NotYet("not yet".into()) })
    })
    .await?;
    Ok(())
}
