//! Diagnostics of a failed test: the state of its namespaces, and the logs of its proxies.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::{Event, Pod, PodStatus};
use kube::ResourceExt;
use kube::api::ListParams;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

use super::change::NamespaceRef;
use crate::cluster::{Cluster, Container, brief, is_ready, trouble};

/// Age limit of logs and events.
const SINCE: Duration = Duration::from_secs(120);

/// Most lines of each proxy's log in the file, and on standard error.
const LINES: usize = 400;
const SHOWN: usize = 4;

/// Longest line on standard error, in characters: access logs contain whole certificates.
const WIDTH: usize = 300;

/// Time limit for all diagnostics: an unreachable testbed must not delay the verdict.
const BOUND: Duration = Duration::from_secs(15);

/// Installs a subscriber that prints what `RUST_LOG` selects (default: warnings) to the test harness. An existing
/// subscriber stays.
pub(super) fn subscribe() {
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::WARN.into()).from_env_lossy();
    // The end of a span shows its duration.
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_span_events(FmtSpan::CLOSE);
    let _ = subscriber.with_ansi(std::io::stdout().is_terminal()).with_test_writer().try_init();
}

/// A failed test.
pub(super) struct Subject<'a> {
    /// The test's name.
    pub(super) test: &'a str,
    /// Directory of the test's report.
    pub(super) directory: &'a Path,
    /// The namespaces whose state explains the failure.
    pub(super) namespaces: Vec<NamespaceRef>,
}

/// Writes diagnostics beside the report, and a summary to standard output. Best effort: an error here must not hide the
/// test's failure.
pub(super) async fn write(subject: Subject<'_>, complaints: &[String]) {
    let gathering = join_all(subject.namespaces.iter().map(section_of));
    let sections = match tokio::time::timeout(BOUND, gathering).await {
        Ok(sections) => sections,
        Err(_) => vec![Section { text: format!("nothing gathered in {BOUND:?}\n"), gist: String::new() }],
    };
    let file_name = format!("{}.diagnostics.txt", subject.test.replace(|c: char| !c.is_ascii_alphanumeric(), "-"));
    let path = subject.directory.join(file_name);
    let mut text = complaints.join("\n");
    for section in &sections {
        text.push_str(&section.text);
    }
    let written = path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(&path, text));
    let gist: String = sections.iter().map(|section| section.gist.as_str()).collect();
    if let Err(error) = written {
        tracing::warn!(path = %path.display(), %error, "the diagnostics were not written");
    }
    // The test harness shows standard output below the test's name.
    println!("diagnostics of {} ({}):\n{gist}", subject.test, path.display());
}

struct Section {
    text: String,
    gist: String,
}

async fn section_of(namespace: &NamespaceRef) -> Section {
    let NamespaceRef { cluster, name } = namespace;
    let mut section = Section { text: String::new(), gist: String::new() };
    let heading = format!("\n=== {namespace} ===\n");
    section.text.push_str(&heading);
    section.gist.push_str(&heading);
    let pods = match cluster.api::<Pod>(name).list(&ListParams::default()).await {
        Ok(pods) => pods.items,
        Err(error) => {
            section.gist.push_str(&format!("pods cannot be listed: {}\n", brief(&error)));
            return section;
        }
    };
    for pod in &pods {
        let line = state(pod);
        section.text.push_str(&line);
        section.gist.push_str(&line);
    }
    let unready = pods.iter().filter(|pod| !is_ready(pod)).map(|pod| pod.name_any()).collect::<Vec<_>>();
    if let Some(warning) = cluster.last_warning(name, |object| unready.iter().any(|pod| pod == object)).await {
        let _ = writeln!(section.gist, "    {warning}");
    }
    section.text.push_str(&events(cluster, name).await);
    let proxy = cluster.record().istio.proxy.container.as_str();
    for pod in pods.iter().filter(|pod| has_container(pod, proxy)) {
        let pod = pod.name_any();
        let at = Container { namespace: name, pod: &pod, container: proxy };
        let log = match cluster.logs(at, SINCE).await {
            Ok(log) => log,
            Err(error) => error.to_string(),
        };
        let lines: Vec<_> = log.lines().collect();
        let last = |count: usize| &lines[lines.len().saturating_sub(count)..];
        let _ = writeln!(section.text, "--- {pod}/{proxy}, last {SINCE:?} ---\n{}", last(LINES).join("\n"));
        // Lines that are not JSON are the proxy's own log. Access log lines are JSON, and go to the file only, as does
        // what the proxy only informs of.
        let own: Vec<_> = lines.iter().filter(|line| !line.starts_with('{') && !line.contains("\tinfo\t")).collect();
        for line in &own[own.len().saturating_sub(SHOWN)..] {
            let _ = writeln!(section.gist, "    {pod}: {}", line.chars().take(WIDTH).collect::<String>());
        }
    }
    section
}

/// Name, phase, readiness, restarts, and what keeps the pod from running.
fn state(pod: &Pod) -> String {
    let status = pod.status.as_ref();
    let phase = status.and_then(|status| status.phase.as_deref()).unwrap_or("?");
    // A native sidecar is an init container.
    let of = |status: &&PodStatus| {
        let all = [status.init_container_statuses.as_ref(), status.container_statuses.as_ref()];
        all.into_iter().flatten().flatten().map(|container| container.restart_count).sum::<i32>()
    };
    let restarts = status.as_ref().map_or(0, of);
    let trouble = trouble(pod).map(|trouble| format!("; {trouble}")).unwrap_or_default();
    let readiness = if is_ready(pod) { "ready" } else { "NOT ready" };
    format!("{} {phase}, {readiness}, {restarts} restarts{trouble}\n", pod.name_any())
}

async fn events(cluster: &Cluster, namespace: &str) -> String {
    let events = match cluster.api::<Event>(namespace).list(&ListParams::default()).await {
        Ok(events) => events.items,
        Err(error) => return format!("events cannot be listed: {}\n", brief(&error)),
    };
    let line = |event: &Event| {
        let object = event.involved_object.name.as_deref().unwrap_or("?");
        let (reason, message) = (event.reason.as_deref().unwrap_or("?"), event.message.as_deref().unwrap_or(""));
        format!("event {object} {reason}: {message}\n")
    };
    events.iter().rev().take(40).map(line).collect()
}

fn has_container(pod: &Pod, name: &str) -> bool {
    let Some(spec) = &pod.spec else { return false };
    // Native sidecars are init containers.
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    containers.into_iter().any(|container| container.name == name)
}
