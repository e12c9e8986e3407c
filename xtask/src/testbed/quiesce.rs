//! `testbed quiesce`: pauses all clusters, or all clusters but one and part of that one, until standard input ends.
//! Standard input ends when the process at the other end stops for any reason.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use meshproof::compare::isolation::{Event, Extent, Freeze, LONGEST_FREEZE, receive, send};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::inventory::Inventory;
use crate::kubernetes;
use crate::provider::node::Hold;
use crate::provider::{Held, KnownCluster, Machines};

/// Time limit for the nodes of a resumed cluster to become ready: their leases expire during the pause.
const BACK: Duration = Duration::from_secs(120);

#[derive(Args)]
pub(crate) struct Arguments {
    /// Cluster that keeps running, without its scheduler, controller manager and kube-proxy [default: none]
    #[arg(long = Extent::KEEP, value_name = "CLUSTER")]
    keep: Option<String>,
    /// In the kept cluster, freeze everything except the pods of these namespaces, but only when told to
    ///
    /// Each line of standard input says for how long, such as `{"seconds":2}`, at most 15. What was done is printed as
    /// lines of JSON.
    #[arg(long = Extent::SPARE, value_name = "NAMESPACE", value_delimiter = ',', requires = "keep")]
    spare: Vec<String>,
}

impl Arguments {
    /// Pauses the clusters, prints that they are paused, and waits for the end of standard input or for a signal. Then
    /// resumes the clusters. [`meshproof::compare::isolation`] defines the protocol.
    ///
    /// # Errors
    /// Fails if a cluster or a process cannot be paused or does not resume.
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
            say(&Event::Paused);
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
        // Exit explicitly: the thread that reads standard input would keep the process alive.
        std::process::exit(0)
    }
}

/// Pauses the clusters `paused`, and begins to freeze the processes that `hold` selects in the cluster `kept`.
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

/// The UIDs of all pods in these namespaces.
///
/// # Errors
/// Fails if the namespaces have no pods, because there would be nothing to measure.
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

/// Returns at the end of standard input. Before that, each line of standard input makes `held` freeze its processes for
/// the line's number of seconds.
async fn until_told(mut held: Option<&mut Held>) -> Result<()> {
    let (tell, mut told) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        let mut input = std::io::stdin().lock();
        while let Some(freeze) = receive::<Freeze>(&mut input).transpose() {
            if tell.send(freeze).is_err() {
                return;
            }
        }
    });
    while let Some(freeze) = told.recv().await {
        let Freeze { seconds } = freeze?;
        let longest = LONGEST_FREEZE.as_secs_f64();
        ensure!(seconds > 0.0 && seconds <= longest, "{seconds} s is not above 0 and up to {longest} s");
        let Some(held) = held.as_mut() else { bail!("there is nothing to freeze: give --keep and --spare") };
        held.hold_for(seconds, |processes| say(&Event::Frozen { processes })).await?;
        say(&Event::Thawed);
    }
    Ok(())
}

/// Sends an event to the calling process. Ignores errors: if the calling process ends, standard input ends too, and
/// [`until_told`] returns.
fn say(event: &Event) {
    let _ = send(event, std::io::stdout().lock());
}

async fn ready_again(cluster: &KnownCluster) -> Result<()> {
    let client = kubernetes::client(&cluster.kubeconfig, &cluster.context).await?;
    kubernetes::wait_for_nodes(&client, BACK).await.with_context(|| format!("{} has not come back", cluster.name))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    #[test]
    fn the_arguments_are_those_that_an_extent_has() {
        let parse = |extent: &Extent| {
            let words = ["quiesce".to_owned()].into_iter().chain(extent.arguments());
            let Arguments { keep, spare } = Line::try_parse_from(words).unwrap().arguments;
            (keep, spare)
        };
        let (except, namespaces) = ("one".to_owned(), vec!["a".to_owned(), "b".to_owned()]);
        assert_eq!(parse(&Extent::AllClusters), (None, vec![]));
        assert_eq!(parse(&Extent::OtherClusters { except: except.clone() }), (Some(except.clone()), vec![]));
        let extent = Extent::AllButNamespaces { except: except.clone(), namespaces: namespaces.clone() };
        assert_eq!(parse(&extent), (Some(except), namespaces));
    }
}
