//! `testbed quiesce`: holds all clusters still, or all but one, and those parts of that one's control plane that can be spared, for
//! as long as whoever asked for it is there.

use std::time::Duration;

use anyhow::{Result, bail};
use clap::Args;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, ListParams};
use meshproof::{Seen, eventually};
use tokio::signal::unix::{SignalKind, signal};

use super::targets::Targets;
use crate::kubernetes;
use crate::local::engine::Engine;

/// How long a cluster that goes on may take until its nodes are ready: it finds that time has passed, and that its leases
/// are over.
const BACK: Duration = Duration::from_secs(120);

/// What holds parts of a control plane, in the node.
const HOLD: &str = include_str!("hold.sh");

#[derive(Args)]
pub(crate) struct Arguments {
    /// The cluster that goes on, but for its scheduler, controller manager and kube-proxy; none where not given
    #[arg(long, value_name = "CLUSTER")]
    keep: Option<String>,
}

impl Arguments {
    /// Pauses, says `quiet` on standard output, and waits: for the end of standard input, which comes however the process
    /// at its other end stops, or for a signal. Then everything goes on.
    pub(crate) async fn run(self) -> Result<()> {
        let targets = Targets::find()?;
        let named = |name: &String| targets.clusters.iter().find(|target| target.name == *name);
        let kept = self.keep.as_ref().and_then(named);
        if let (Some(keep), None) = (&self.keep, kept) {
            let known: Vec<&str> = targets.clusters.iter().map(|target| target.name.as_str()).collect();
            bail!("there is no cluster `{keep}`; there are {}", known.join(", "));
        }
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let engine = Engine::connect().await?;
        let others: Vec<_> =
            targets.clusters.iter().filter(|target| self.keep.as_ref() != Some(&target.name)).collect();
        let mut paused = Ok(());
        for container in others.iter().filter_map(|target| target.container.as_ref()) {
            if paused.is_ok() {
                paused = engine.pause(container).await;
            }
        }
        let mut held = None;
        if let (Ok(()), Some(container)) = (&paused, kept.and_then(|kept| kept.container.as_ref())) {
            match engine.exec_held(container, &["sh", "-c", HOLD]).await {
                Ok(exec) => held = Some(exec),
                Err(error) => paused = Err(error),
            }
        }
        if paused.is_ok() {
            println!("quiet");
            let end = tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
            tokio::select! {
                _ = end => {}
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
        drop(held);
        engine.resume_all().await?;
        paused?;
        for target in others {
            let client = kubernetes::client(&target.kubeconfig, &target.context).await?;
            let nodes: Api<Node> = Api::all(client);
            eventually(
                format!("the nodes of {} to be ready again", target.name),
                BACK,
                async || -> Result<Seen<()>> {
                    let nodes = nodes.list(&ListParams::default()).await?;
                    let ready = |node: &Node| {
                        let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
                        conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
                    };
                    Ok(if nodes.iter().all(ready) { Seen::Yes(()) } else { Seen::NotYet("not yet".into()) })
                },
            )
            .await?;
        }
        // The thread that reads standard input would keep the process.
        std::process::exit(0)
    }
}
