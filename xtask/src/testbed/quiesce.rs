//! `testbed quiesce`: holds all clusters but one still, for as long as whoever asked for it is there, and, on demand and for
//! seconds, what is not timed in that one as well: its control plane, its kubelet and the pods of other namespaces.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt;
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

/// Longest that a kubelet, a control plane and other pods are held at once: leases last for 40 s, and so do the kubelet's
/// lives of a pod that does not answer.
const LONGEST: f64 = 20.0;

/// What holds them, in the node.
const HOLD: &str = include_str!("hold.sh");

#[derive(Args)]
pub(crate) struct Arguments {
    /// The cluster that goes on
    #[arg(long, value_name = "CLUSTER")]
    keep: String,
    /// A namespace of it whose pods go on when a line `hold AFTER SECONDS` is read from standard input: after so many seconds
    /// everything else in the cluster but its name server is held still for so many, and `held N` tells how many processes
    #[arg(long, value_name = "NAMESPACE")]
    timed: Vec<String>,
}

/// A line of standard input.
#[derive(Debug, PartialEq)]
struct Hold {
    after: f64,
    seconds: f64,
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
                () = self.obey(&engine, kept) => {}
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

    /// Answers each line of standard input with one, until its end.
    async fn obey(&self, engine: &Engine, kept: &Target) {
        let mut lines = BufReader::new(tokio::io::stdin()).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            match self.hold(engine, kept, &line).await {
                Ok(processes) => println!("held {processes}"),
                // One line, whatever it says.
                Err(error) => println!("not held: {}", format!("{error:#}").replace('\n', "; ")),
            }
        }
    }

    async fn hold(&self, engine: &Engine, kept: &Target, line: &str) -> Result<usize> {
        let Hold { after, seconds } = Hold::parse(line)?;
        let container = kept.container.as_ref().with_context(|| format!("{} is not on this machine", kept.name))?;
        // Asked each time: pods of the namespaces may have come since, and one that is forgotten would be held.
        let pods: Api<Pod> = Api::all(kubernetes::client(&kept.kubeconfig, &kept.context).await?);
        let pods = pods.list(&ListParams::default()).await.context("cannot list the pods that go on")?;
        let goes_on = |pod: &Pod| {
            let namespace = pod.namespace().unwrap_or_default();
            self.timed.contains(&namespace) || pod.labels().get("k8s-app").is_some_and(|app| app == "kube-dns")
        };
        let going_on: Vec<String> = pods.into_iter().filter(goes_on).filter_map(|pod| pod.metadata.uid).collect();
        let (after, seconds) = (after.to_string(), seconds.to_string());
        let mut command = vec!["sh", "-c", HOLD, "hold.sh", &after, &seconds];
        command.extend(going_on.iter().map(String::as_str));
        let said = engine.exec(container, &command).await?;
        said.trim().parse().with_context(|| format!("the node of {} said `{}`", kept.name, said.trim()))
    }
}

impl Hold {
    fn parse(line: &str) -> Result<Self> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |word: &str| word.parse::<f64>().ok().filter(|number| (0.0..=LONGEST).contains(number));
        let hold = match words[..] {
            ["hold", after, seconds] => {
                number(after).zip(number(seconds)).map(|(after, seconds)| Self { after, seconds })
            }
            _ => None,
        };
        hold.with_context(|| format!("`{line}` is not `hold AFTER SECONDS`, both from 0 to {LONGEST}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_when_and_how_long_and_anything_else_is_refused() {
        assert_eq!(Hold::parse("hold 0.4 3").unwrap(), Hold { after: 0.4, seconds: 3.0 });
        for wrong in ["", "hold", "hold 1", "hold 1 21", "hold -1 3", "hold 1 NaN", "hold 1 3 5", "stop 1 3"] {
            let error = Hold::parse(wrong).unwrap_err().to_string();
            assert!(error.contains("is not `hold AFTER SECONDS`"), "{error}");
        }
    }
}
