//! `testbed quiesce`: holds all clusters still, or all but one, and of that one what can be spared, for as long as whoever asked for
//! it is there.

use std::io::{BufRead, Write};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use meshproof::compare::Quiet;
use meshproof::{Seen, eventually};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::targets::{Target, Targets};
use crate::kubernetes;
use crate::local::engine::{Engine, Held};

/// How long a cluster that goes on may take until its nodes are ready: it finds that time has passed, and that its leases
/// are over.
const BACK: Duration = Duration::from_secs(120);

/// What holds parts of a control plane, in the node.
const HOLD: &str = include_str!("hold.sh");

/// What holds all but a few pods, now and then, in the node.
const HUSH: &str = include_str!("hush.sh");

#[derive(Args)]
pub(crate) struct Arguments {
    /// The cluster that goes on, but for its scheduler, controller manager and kube-proxy; none where not given
    #[arg(long, value_name = "CLUSTER")]
    keep: Option<String>,
    /// Hold, instead of those three, all of the kept cluster but the pods of these namespaces, for as many seconds as each line
    /// of standard input says, at most 15; `held`, with how many processes, and `over` are printed as it is done
    #[arg(long, value_name = "NAMESPACE", value_delimiter = ',', requires = "keep")]
    spare: Vec<String>,
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
        let mut command: Vec<String> = ["sh", "-c"].map(str::to_owned).to_vec();
        match kept {
            Some(kept) if !self.spare.is_empty() => {
                command.extend([HUSH.to_owned(), "hush".to_owned()]);
                command.extend(uids(kept, &self.spare).await?);
            }
            _ => command.push(HOLD.to_owned()),
        }
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let engine = Engine::connect().await?;
        let others: Vec<_> =
            targets.clusters.iter().filter(|target| self.keep.as_ref() != Some(&target.name)).collect();
        let mut done = Ok(());
        for container in others.iter().filter_map(|target| target.container.as_ref()) {
            if done.is_ok() {
                done = engine.pause(container).await;
            }
        }
        let mut held = None;
        if let (Ok(()), Some(container)) = (&done, kept.and_then(|kept| kept.container.as_ref())) {
            let command: Vec<&str> = command.iter().map(String::as_str).collect();
            match begin(&engine, container, &command, self.spare.is_empty()).await {
                Ok(exec) => held = Some(exec),
                Err(error) => done = Err(error),
            }
        }
        if done.is_ok() {
            say("quiet");
            let hushing = held.as_mut().filter(|_| !self.spare.is_empty());
            tokio::select! {
                told = until_told(hushing) => done = told,
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
        drop(held);
        engine.resume_all().await?;
        done?;
        for target in others {
            ready_again(target).await?;
        }
        // The thread that reads standard input would keep the process.
        std::process::exit(0)
    }
}

/// Runs what holds, in the node; where it does `at_once`, this waits until it has.
async fn begin(engine: &Engine, container: &str, command: &[&str], at_once: bool) -> Result<Held> {
    let mut held = engine.exec_held(container, command).await?;
    if at_once {
        let said = held.hear().await?;
        ensure!(said == "held", "what holds the control plane said `{said}`");
    }
    Ok(held)
}

/// The UIDs of all pods of these namespaces.
///
/// # Errors
/// Where there is none: all that is to be measured would be held.
async fn uids(kept: &Target, namespaces: &[String]) -> Result<Vec<String>> {
    let pods: Api<Pod> = Api::all(kubernetes::client(&kept.kubeconfig, &kept.context).await?);
    let pods = pods.list(&ListParams::default()).await?.items;
    let spared = pods.into_iter().filter(|pod| pod.namespace().is_some_and(|name| namespaces.contains(&name)));
    let uids: Vec<String> = spared.filter_map(|pod| pod.metadata.uid).collect();
    if uids.is_empty() {
        bail!("no pod to spare in {} of {}: start what is to be measured first", namespaces.join(", "), kept.name);
    }
    Ok(uids)
}

/// Returns at the end of standard input. Until then, each of its lines holds what `hushing` does not spare for a while.
async fn until_told(mut hushing: Option<&mut Held>) -> Result<()> {
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
        let Some(hushing) = hushing.as_mut() else { continue };
        let longest = Quiet::LONGEST.as_secs_f64();
        let seconds = line.trim().parse::<f64>().ok().filter(|seconds| *seconds > 0.0 && *seconds <= longest);
        let seconds = seconds.with_context(|| format!("`{line}` is not from above 0 to {longest} seconds"))?;
        hushing.say(&seconds.to_string()).await?;
        // That all is held, and that it is over.
        for _ in 0..2 {
            say(&hushing.hear().await?);
        }
    }
    Ok(())
}

/// Prints a line for whoever asked; one that is gone ends standard input as well, and that is seen.
fn say(line: &str) {
    let mut output = std::io::stdout().lock();
    let _ = writeln!(output, "{line}").and_then(|()| output.flush());
}

async fn ready_again(target: &Target) -> Result<()> {
    let nodes: Api<Node> = Api::all(kubernetes::client(&target.kubeconfig, &target.context).await?);
    eventually(format!("the nodes of {} to be ready again", target.name), BACK, async || -> Result<Seen<()>> {
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
