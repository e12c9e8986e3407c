//! `testbed quiesce`: holds all clusters but one still, for as long as whoever asked for it is there, and, on demand and for
//! seconds, those parts of that one's control plane as well that can be spared so long.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, ListParams};
use meshproof::{Seen, eventually};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::signal::unix::{SignalKind, signal};

use super::targets::{Target, Targets};
use crate::kubernetes;
use crate::local::engine::Engine;

/// How long a cluster that goes on may take until its nodes are ready: it finds that time has passed, and that its leases
/// are over.
const BACK: Duration = Duration::from_secs(120);

/// Longest that parts of a control plane are held at once: the kubelet takes one for dead that has not answered for two minutes.
const LONGEST: f64 = 20.0;

/// What holds them, in the node.
const HOLD: &str = include_str!("hold.sh");

#[derive(Args)]
pub(crate) struct Arguments {
    /// The cluster that goes on. At a line `hold SECONDS` on standard input its scheduler, controller manager and kube-proxy are
    /// held still for so long, and `held N` tells how many processes that were
    #[arg(long, value_name = "CLUSTER")]
    keep: String,
}

impl Arguments {
    /// Pauses, says `quiet` on standard output, and does what standard input asks for until its end, which comes however the
    /// process at its other end stops, or until a signal. Then everything goes on.
    pub(crate) async fn run(self) -> Result<()> {
        let targets = Targets::find()?;
        let Some(kept) = targets.clusters.iter().find(|target| target.name == self.keep) else {
            let known: Vec<&str> = targets.clusters.iter().map(|target| target.name.as_str()).collect();
            bail!("there is no cluster `{}`; there are {}", self.keep, known.join(", "));
        };
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let engine = Engine::connect().await?;
        let others: Vec<_> = targets.clusters.iter().filter(|target| target.name != self.keep).collect();
        let mut paused = Ok(());
        for container in others.iter().filter_map(|target| target.container.as_ref()) {
            if paused.is_ok() {
                paused = engine.pause(container).await;
            }
        }
        if paused.is_ok() {
            println!("quiet");
            tokio::select! {
                () = obey(&engine, kept) => {}
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
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

/// Answers each line of standard input with one, until its end.
async fn obey(engine: &Engine, kept: &Target) {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        match hold(engine, kept, &line).await {
            Ok(processes) => println!("held {processes}"),
            // One line, whatever it says.
            Err(error) => println!("not held: {}", format!("{error:#}").replace('\n', "; ")),
        }
    }
}

async fn hold(engine: &Engine, kept: &Target, line: &str) -> Result<usize> {
    let seconds = seconds(line)?.to_string();
    let container = kept.container.as_ref().with_context(|| format!("{} is not on this machine", kept.name))?;
    let said = engine.exec(container, &["sh", "-c", HOLD, "hold.sh", &seconds]).await?;
    said.trim().parse().with_context(|| format!("the node of {} said `{}`", kept.name, said.trim()))
}

/// How long a line of standard input asks to hold.
fn seconds(line: &str) -> Result<f64> {
    let asked = line.strip_prefix("hold ").and_then(|seconds| seconds.trim().parse::<f64>().ok());
    let asked = asked.filter(|seconds| (0.0..=LONGEST).contains(seconds));
    asked.with_context(|| format!("`{line}` is not `hold SECONDS`, from 0 to {LONGEST}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_long_and_anything_else_is_refused() {
        assert_eq!(seconds("hold 3.5").unwrap(), 3.5);
        for wrong in ["", "hold", "hold 21", "hold -1", "hold NaN", "hold 1 3", "stop 1"] {
            let error = seconds(wrong).unwrap_err().to_string();
            assert!(error.contains("is not `hold SECONDS`"), "{error}");
        }
    }
}
