//! The bundle of a failed test: the pods that its claims are about, and nothing else. A summary for people goes to
//! standard output, the rest into one archive. Nothing is written twice for one cause.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use futures::future::join_all;
use k8s_openapi::api::core::v1::{Event, Pod, PodStatus};
use kube::api::ListParams;

use crate::cluster::{Cluster, Container, Testbed, Workload, brief, is_ready, trouble};
use crate::istio::AccessEntry;
use crate::report::{Diagnosis, Place};

/// Age limit of logs.
const SINCE: Duration = Duration::from_secs(120);

/// Most lines of each proxy's own log, and most failed calls of it, in the summary.
const SHOWN: usize = 4;

/// Longest line in the summary, in characters.
const WIDTH: usize = 300;

/// Most bytes of a failed test's text: of the summary, and of the claims.
pub(super) const TEXT: usize = 100 * 1024;

/// Most bytes of one log in the archive. The end of a longer log is kept.
const LOG: usize = 4 * 1024 * 1024;

/// Time limit for all that is gathered: an unreachable testbed must not delay the verdict.
const BOUND: Duration = Duration::from_secs(15);

/// What was bundled by this process: the suite's directory, and a pod.
static BUNDLED: Mutex<BTreeSet<(PathBuf, Place)>> = Mutex::new(BTreeSet::new());

/// What this process has told: the suite's directory, a cause, and the test that told it.
static TOLD: Mutex<Vec<(PathBuf, Diagnosis, String)>> = Mutex::new(Vec::new());

/// The test of the suite that has told the cause. `None` if `test` is the first: then it has told it.
pub(super) fn told_by(directory: &Path, cause: &Diagnosis, test: &str) -> Option<String> {
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    let is = |(of, one, _): &&(PathBuf, Diagnosis, String)| of == directory && one.is_same_as(cause);
    if let Some((_, _, by)) = told.iter().find(is) {
        return Some(by.clone());
    }
    told.push((directory.to_owned(), cause.clone(), test.to_owned()));
    None
}

/// A failed test.
pub(super) struct Subject<'a> {
    /// The test's name.
    pub(super) test: &'a str,
    /// Directory of the test's report.
    pub(super) directory: &'a Path,
    /// The pods that its claims are about.
    pub(super) pods: Vec<Place>,
}

/// Writes the bundle beside the report, and its summary to standard output. Best effort: an error here must not hide the
/// test's failure.
pub(super) async fn write(testbed: &Testbed, subject: Subject<'_>, complaints: &[String]) {
    let Subject { test, directory, pods } = subject;
    let new = news(directory, pods);
    let gathering = join_all(new.iter().map(|place| section(testbed, place)));
    let sections = tokio::time::timeout(BOUND, gathering).await.unwrap_or_default();
    let name = format!("{}.tar.gz", test.replace(|c: char| !c.is_ascii_alphanumeric(), "-"));
    let path = directory.join(name);
    let mut files = vec![File { path: "claims.txt".into(), text: complaints.join("\n") }];
    let mut summary = String::new();
    for section in sections {
        summary.push_str(&section.summary);
        files.extend(section.files);
    }
    match archive(&path, &files) {
        Ok(()) => {
            // The test harness shows standard output below the test's name.
            println!("pods of {test} (their logs: {}):\n{}", path.display(), capped(summary, TEXT));
        }
        Err(error) => tracing::warn!(path = %path.display(), %error, "the bundle was not written"),
    }
}

/// The pods that no test of this process has bundled, for this suite.
fn news(directory: &Path, pods: Vec<Place>) -> Vec<Place> {
    let mut bundled = BUNDLED.lock().unwrap_or_else(PoisonError::into_inner);
    pods.into_iter().filter(|place| bundled.insert((directory.to_owned(), place.clone()))).collect()
}

/// `text`, cut to `most` bytes. The last line says how much is missing.
pub(super) fn capped(mut text: String, most: usize) -> String {
    if text.len() <= most {
        return text;
    }
    let missing = text.len() - most;
    let end = (0..=most).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.truncate(end);
    let _ = write!(text, "\n… {} KiB more: in the archive", missing.div_ceil(1024));
    text
}

/// A file of the archive.
struct File {
    path: String,
    text: String,
}

fn archive(path: &Path, files: &[File]) -> std::io::Result<()> {
    std::fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
    let file = tempfile::NamedTempFile::new_in(path.parent().unwrap_or(Path::new(".")))?;
    let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::fast()));
    for File { path, text } in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, path, text.as_bytes())?;
    }
    archive.into_inner()?.finish()?.persist(path).map(drop).map_err(|error| error.error)
}

/// What is told of one pod.
#[derive(Default)]
struct Section {
    summary: String,
    files: Vec<File>,
}

async fn section(testbed: &Testbed, place: &Place) -> Section {
    let Ok(cluster) = testbed.cluster(&place.cluster) else { return Section::default() };
    let Place { namespace, pod: name, .. } = place;
    let mut section = Section::default();
    let pod = match cluster.api::<Pod>(namespace).get(name).await {
        Ok(pod) => pod,
        Err(error) => {
            section.summary = format!("{namespace}/{name} in {}: {}\n", cluster.name(), brief(&error));
            return section;
        }
    };
    section.summary = format!("{namespace}/{name} in {}: {}\n", cluster.name(), state(&pod));
    let events = events(cluster, place).await;
    if !is_ready(&pod)
        && let Some(warning) = cluster.last_warning(namespace, |object| object == name).await
    {
        let _ = writeln!(section.summary, "    {warning}");
    }
    let directory = format!("{}/{namespace}/{name}", cluster.name());
    section.files.push(File { path: format!("{directory}/state.txt"), text: format!("{}\n{events}", state(&pod)) });
    let proxy = &cluster.record().istio.proxy.container;
    let logs = containers(&pod).into_iter().map(async |container| {
        let at = Container { namespace, pod: name, container };
        (container, cluster.logs(at, SINCE).await.unwrap_or_else(|error| error.to_string()))
    });
    for (container, log) in join_all(logs).await {
        if container == proxy {
            summarize(&mut section.summary, &log);
        }
        let log = log.get(log.ceil_char_boundary(log.len().saturating_sub(LOG))..).unwrap_or_default().to_owned();
        section.files.push(File { path: format!("{directory}/{container}.log"), text: log });
    }
    section
}

/// The containers with a log: those that run, native sidecars too.
fn containers(pod: &Pod) -> Vec<&str> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let native = spec.init_containers.iter().flatten();
    let native = native.filter(|container| container.restart_policy.as_deref() == Some("Always"));
    spec.containers.iter().chain(native).map(|container| container.name.as_str()).collect()
}

/// The last warnings of a proxy, and the last calls that failed. Access logs are for machines: people get them in words.
fn summarize(summary: &mut String, log: &str) {
    let is_own = |line: &&str| !line.starts_with('{') && !line.contains("\tinfo\t") && !line.trim().is_empty();
    let own: Vec<&str> = log.lines().filter(is_own).collect();
    for line in &own[own.len().saturating_sub(SHOWN)..] {
        let _ = writeln!(summary, "    {}", line.chars().take(WIDTH).collect::<String>());
    }
    let failed: Vec<String> = log.lines().filter_map(AccessEntry::parse).filter_map(|entry| entry.failure()).collect();
    for line in &failed[failed.len().saturating_sub(SHOWN)..] {
        let _ = writeln!(summary, "    {}", line.chars().take(WIDTH).collect::<String>());
    }
}

/// Phase, readiness, restarts, and what keeps the pod from running.
fn state(pod: &Pod) -> String {
    let status = pod.status.as_ref();
    let phase = status.and_then(|status| status.phase.as_deref()).unwrap_or("?");
    // A native sidecar is an init container.
    let of = |status: &PodStatus| {
        let all = [status.init_container_statuses.as_ref(), status.container_statuses.as_ref()];
        all.into_iter().flatten().flatten().map(|container| container.restart_count).sum::<i32>()
    };
    let restarts = status.map_or(0, of);
    let trouble = trouble(pod).map(|trouble| format!("; {trouble}")).unwrap_or_default();
    let readiness = if is_ready(pod) { "ready" } else { "NOT ready" };
    format!("{phase}, {readiness}, {restarts} restarts{trouble}")
}

/// The events of a pod.
async fn events(cluster: &Cluster, place: &Place) -> String {
    let which = ListParams::default().fields(&format!("involvedObject.name={}", place.pod));
    let events = match cluster.api::<Event>(&place.namespace).list(&which).await {
        Ok(events) => events.items,
        Err(error) => return format!("events cannot be listed: {}\n", brief(&error)),
    };
    let line = |event: &Event| {
        let (reason, message) = (event.reason.as_deref().unwrap_or("?"), event.message.as_deref().unwrap_or(""));
        format!("event {reason}: {message}\n")
    };
    events.iter().map(line).collect()
}

/// The pods of namespaces, for a test whose claims name no pods.
pub(super) async fn pods_of(namespaces: &[super::change::NamespaceRef]) -> Vec<Place> {
    let listing = namespaces.iter().map(async |super::change::NamespaceRef { cluster, name }| {
        let pods = cluster.api::<Pod>(name).list(&ListParams::default()).await;
        let pods = pods.map(|pods| pods.items).unwrap_or_default();
        let place =
            |pod: &Workload| Place { cluster: cluster.name().into(), namespace: name.clone(), pod: pod.pod.clone() };
        pods.iter().filter_map(|pod| Workload::of(cluster, pod)).map(|pod| place(&pod)).collect::<Vec<_>>()
    });
    join_all(listing).await.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_between_characters_and_says_how_much_is_missing() {
        assert_eq!(capped("short".into(), 5), "short");
        let cut = capped("ä".repeat(2_000), 1_001);
        assert!(cut.starts_with(&"ä".repeat(500)) && cut.ends_with("… 3 KiB more: in the archive"), "{cut}");
    }

    #[test]
    fn a_pod_is_bundled_once_for_a_suite() {
        let place = |pod: &str| Place { cluster: "c".into(), namespace: "n".into(), pod: pod.into() };
        let of = |suite: &str, pods: &[&str]| news(Path::new(suite), pods.iter().map(|pod| place(pod)).collect()).len();
        assert_eq!([of("/a", &["x", "y"]), of("/a", &["y", "z"]), of("/b", &["x"])], [2, 1, 1]);
    }

    #[test]
    fn an_archive_holds_its_files() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/test.tar.gz");
        let long = "x".repeat(150);
        let files = [File { path: format!("cluster1/{long}/a.log"), text: "one".into() }];
        archive(&path, &files).unwrap();
        let file = std::fs::File::open(&path).unwrap();
        let mut read = tar::Archive::new(flate2::read::GzDecoder::new(file));
        let names: Vec<String> =
            read.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect();
        assert_eq!(names, [files[0].path.clone()]);
    }

    #[test]
    fn what_proxies_log_for_machines_is_told_to_people_in_words() {
        let call = r#"{"downstream_peer_cert":null,"response_flags":"UF","response_code":503,"upstream_host":"10.0.0.1:15443","upstream_cluster":"outbound|8080||probe"}"#;
        let fine = r#"{"downstream_peer_cert":null,"response_flags":"-","response_code":200}"#;
        let mut summary = String::new();
        summarize(&mut summary, &format!("2026\tinfo\tstarted\n2026\twarn\tsomething\n{fine}\n{call}\n"));
        assert!(!summary.contains('{') && !summary.contains("started"), "{summary}");
        assert_eq!(summary.lines().count(), 2, "{summary}");
        assert!(summary.contains("503") && summary.contains("10.0.0.1:15443"), "{summary}");
    }
}
