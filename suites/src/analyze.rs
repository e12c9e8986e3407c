//! `istioctl analyze` reports no messages about the mesh, except those that `fixtures/mesh/analyze-exceptions.toml`
//! lists with a reason.
//!
//! Needs a live testbed (`cargo xtask testbed up`), without objects of other suites.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use meshproof::record;
use meshproof::report::Claim;
use meshproof::scope::removals_done;
use meshproof::{Cluster, Error, Scope, Testbed, Verdict};
use serde::Deserialize;
use tokio::process::Command;

const SUITE: &str = "analyze";

/// Exceptions for the mesh of `up`.
const EXCEPTIONS: &str = include_str!("../../fixtures/mesh/analyze-exceptions.toml");

/// Time limit: several times the duration of an analysis of two clusters.
const BOUND: Duration = Duration::from_secs(60);

/// One message of `istioctl analyze -o json`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Message {
    code: String,
    level: String,
    /// The object, as `Kind namespace/name`. Absent if the message has no object.
    #[serde(default)]
    origin: String,
    message: String,
}

/// An expected message.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exception {
    code: String,
    /// Objects that the message may be about.
    objects: Vec<String>,
    /// Why the message is not a fault.
    reason: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exceptions {
    exception: Vec<Exception>,
}

impl Exception {
    fn matches(&self, message: &Message) -> bool {
        self.code == message.code && self.objects.contains(&message.origin)
    }
}

impl std::fmt::Display for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} ({}): {}", self.level, self.code, self.origin, self.message)
    }
}

/// Seen red by: a `VirtualService` of a gateway that is not there ("IST0101 … Referenced gateway not found").
async fn istioctl_analyze_reports_nothing_unexpected() -> Verdict {
    Scope::alone(SUITE, "istioctl_analyze_reports_nothing_unexpected", async |scope| {
        let istioctl = scope.testbed.directory.join("bin/istioctl");
        if !istioctl.is_file() {
            return Err(record::Error::not_declared(format!("istioctl, at {}", istioctl.display())).into());
        }
        let exceptions = if scope.testbed.record.provider == "local" { exceptions() } else { Vec::new() };
        removals_done(&scope.testbed).await?;
        removals_done(&scope.testbed).await?;
        let clusters = &scope.testbed.clusters;
        let analyses = clusters.iter().map(|cluster| analyze(&istioctl, &scope.testbed, cluster));
        let reports = try_join_all(analyses).await.map_err(Error::suite)?;
        for (cluster, messages) in clusters.iter().zip(&reports) {
            scope.claim(nothing_unlisted(cluster.name(), messages, &exceptions));
        }
        scope.claim(nothing_stale(&reports.concat(), &exceptions));
        Ok(())
    })
    .await
}

/// Claims that every message about `cluster` is listed.
fn nothing_unlisted(cluster: &str, messages: &[Message], exceptions: &[Exception]) -> Claim {
    let listed = |message: &&Message| exceptions.iter().any(|exception| exception.matches(message));
    let unlisted: Vec<String> = messages.iter().filter(|message| !listed(message)).map(ToString::to_string).collect();
    let claim = Claim::about(format!("analyze/{cluster}"), "Istio's own analysis finds no fault in the configuration")
        .from("istioctl analyze --all-namespaces")
        .to(cluster)
        .expects("no message")
        .observes(&unlisted, |unlisted| told(unlisted), |unlisted| unlisted.is_empty());
    let claim = unlisted.iter().fold(claim, |claim, message| claim.with_evidence(message));
    claim.with_evidence(format!("{} messages in all", messages.len()))
}

/// What was reported, in one line. Each message is evidence.
fn told(unlisted: &[String]) -> String {
    match unlisted.len() {
        0 => "no message".into(),
        1 => "a message".into(),
        count => format!("{count} messages"),
    }
}

/// Claims that every exception is still needed.
fn nothing_stale(messages: &[Message], exceptions: &[Exception]) -> Claim {
    let appears = |exception: &&Exception| messages.iter().any(|message| exception.matches(message));
    let stale = exceptions.iter().filter(|exception| !appears(exception));
    let stale: Vec<String> =
        stale.map(|one| format!("{} ({}): {}", one.code, one.objects.join(" or "), one.reason)).collect();
    Claim::about("analyze/exceptions", "every listed message still appears in at least one cluster")
        .from("istioctl analyze --all-namespaces")
        .to("fixtures/mesh/analyze-exceptions.toml")
        .equals(&Vec::<String>::new(), &stale)
}

fn exceptions() -> Vec<Exception> {
    toml::from_str::<Exceptions>(EXCEPTIONS).expect("the list of exceptions must be readable").exception
}

/// Why a cluster could not be analyzed.
#[derive(Debug, thiserror::Error)]
enum NoAnalysis {
    #[error("{cluster}: istioctl analyze cannot run: {source}")]
    Start { cluster: String, source: std::io::Error },
    #[error("{cluster}: istioctl analyze has not ended within {BOUND:?}: does its API server answer?")]
    Slow { cluster: String },
    #[error("{cluster}: istioctl analyze failed ({status}): {stderr}")]
    Failed { cluster: String, status: std::process::ExitStatus, stderr: String },
    #[error("{cluster}: the messages of istioctl analyze cannot be read: {source}")]
    Unreadable { cluster: String, source: serde_json::Error },
}

/// Istio's messages about `cluster`. The analysis compares the cluster's services with those of the other clusters.
async fn analyze(istioctl: &Path, testbed: &Testbed, cluster: &Cluster) -> Result<Vec<Message>, NoAnalysis> {
    let name = || cluster.name().to_owned();
    let mut command = command(istioctl, testbed, cluster);
    let ended =
        tokio::time::timeout(BOUND, command.output()).await.map_err(|_| NoAnalysis::Slow { cluster: name() })?;
    let output = ended.map_err(|source| NoAnalysis::Start { cluster: name(), source })?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(NoAnalysis::Failed { cluster: name(), status: output.status, stderr });
    }
    serde_json::from_slice(&output.stdout).map_err(|source| NoAnalysis::Unreadable { cluster: name(), source })
}

fn command(istioctl: &Path, testbed: &Testbed, cluster: &Cluster) -> Command {
    let kubeconfig = |cluster: &Arc<Cluster>| testbed.directory.join(&cluster.record().kubeconfig);
    let files: BTreeSet<PathBuf> = testbed.clusters.iter().map(kubeconfig).collect();
    let mut command = Command::new(istioctl);
    command.env("KUBECONFIG", std::env::join_paths(files).unwrap_or_default()).stdin(Stdio::null()).kill_on_drop(true);
    command.args(["analyze", "--all-namespaces", "--output", "json", "--context", &cluster.record().context]);
    // Without this option, istioctl uses the addresses in the remote secrets, which this machine may not reach.
    for other in testbed.clusters.iter().filter(|other| other.name() != cluster.name()) {
        command.args(["--remote-contexts", &other.record().context]);
    }
    command
}

crate::trials! {
    istioctl_analyze_reports_nothing_unexpected,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(code: &str, origin: &str) -> Message {
        let (code, origin) = (code.to_owned(), origin.to_owned());
        Message { code, origin, level: "Error".into(), message: "Referenced selector not found".into() }
    }

    #[test]
    fn a_message_is_listed_by_its_code_and_its_object() {
        let exceptions = exceptions();
        let listed = message(&exceptions[0].code, &exceptions[0].objects[0]);
        assert!(nothing_unlisted("cluster1", std::slice::from_ref(&listed), &exceptions).holds());
        for other in [message("IST0001", &listed.origin), message(&listed.code, "Gateway elsewhere/echo")] {
            let claim = nothing_unlisted("cluster1", &[listed.clone(), other.clone()], &exceptions);
            assert!(!claim.holds() && claim.to_string().contains(&other.code), "{claim}");
        }
    }

    #[test]
    fn an_exception_without_a_message_is_stale() {
        let exceptions = exceptions();
        let mut messages: Vec<Message> = exceptions.iter().map(|one| message(&one.code, &one.objects[0])).collect();
        assert!(nothing_stale(&messages, &exceptions).holds());
        messages.remove(0);
        let claim = nothing_stale(&messages, &exceptions);
        assert!(!claim.holds() && claim.to_string().contains(&exceptions[0].objects[0]), "{claim}");
    }

    #[test]
    fn every_exception_has_a_reason() {
        assert!(exceptions().iter().all(|exception| !exception.reason.trim().is_empty()));
    }
}
