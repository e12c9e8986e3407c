//! Collects, for a dump, data about the engine, a node's container and the processes in it. No API server is needed.
//! For a stopped container, only the logs are available.

use std::io::Read;

use anyhow::{Context, Result, bail};
use futures::StreamExt;
use testcontainers::bollard::query_parameters::{
    DownloadFromContainerOptionsBuilder, ListContainersOptionsBuilder, LogsOptionsBuilder,
};

use super::engine::Engine;
use crate::bundle::{Collector, Question};

/// Shell commands to run in a running node.
const QUESTIONS: [Question<&str>; 13] = [
    Question { file: "kubelet.log", ask: "tail -n 5000 /var/log/kubelet.log", what: "log of the kubelet" },
    Question { file: "containerd.log", ask: "tail -n 5000 /var/log/containerd.log", what: "log of containerd" },
    Question {
        file: "tasks.txt",
        ask: "ctr -n k8s.io tasks ls; ctr -n k8s.io containers ls",
        what: "containers of the pods",
    },
    Question { file: "images.txt", ask: "ctr -n k8s.io images ls", what: "images in the node" },
    Question {
        file: "processes.txt",
        ask: "ps -eo pid,ppid,stat,etime,time,rss,args --forest -ww",
        what: "processes; memory in KiB",
    },
    Question { file: "addresses.txt", ask: "ip -details -statistics address", what: "network interfaces" },
    Question {
        file: "routes.txt",
        ask: "ip rule; ip route show table all; ip neighbour",
        what: "routes and neighbours",
    },
    Question { file: "iptables.txt", ask: "iptables-save --counters", what: "packet filter rules, with counters" },
    Question {
        file: "sockets.txt",
        ask: "ss --all --numeric --tcp --udp --processes",
        what: "sockets of the node itself",
    },
    Question { file: "conntrack.txt", ask: "conntrack --stats; conntrack --count", what: "connection tracking" },
    Question { file: "mounts.txt", ask: "mount; df -h", what: "mounts and free space" },
    Question { file: "memory.txt", ask: "free -m; head -n 2 /proc/pressure/*", what: "memory in MiB, and pressure" },
    Question { file: "kernel.log", ask: "dmesg | tail -n 500", what: "end of the kernel's log (the whole machine's)" },
];

/// The pods' logs as files, for use when the API server does not answer.
const POD_LOGS: Question<&str> = Question {
    file: "pods.log",
    ask: "for log in /var/log/pods/*/*/*.log; do echo \"==> $log\"; tail -n 1000 \"$log\"; done",
    what: "logs of all pods, from the node's disk",
};

/// Number of last lines to collect from the container's own log.
const LOG_LINES: &str = "5000";

/// Maximum size that is read of a stopped container's `/var/log`, in bytes.
const LOGS_LIMIT: usize = 128 << 20;

/// Number of last lines to collect from each file in `/var/log`.
const FILE_LINES: usize = 5000;

/// Collects the engine's description of itself.
pub(crate) async fn collect(collector: &Collector, engine: &Engine) {
    let docker = engine.docker();
    let version = async { json(&docker.version().await.context("version")?) };
    let info = async { json(&docker.info().await.context("info")?) };
    let containers = async {
        let options = ListContainersOptionsBuilder::default().all(true).build();
        json(&docker.list_containers(Some(options)).await.context("list of containers")?)
    };
    tokio::join!(
        collector.item("machine/engine-version.json", "the container engine's version", version),
        collector.item("machine/engine-info.json", "the container engine's state", info),
        collector.item("machine/containers.json", "all containers of the engine", containers),
    );
}

fn json(value: &impl serde::Serialize) -> Result<String> {
    Ok(serde_json::to_string_pretty(value)?)
}

/// Collects all data about the container `name` into `directory`.
pub(crate) async fn collect_node(
    collector: &Collector,
    engine: &Engine,
    name: &str,
    directory: &str,
    api_answers: bool,
) {
    let details = match collector.bounded(engine.inspect(name)).await {
        Ok(Some(details)) => details,
        Ok(None) => {
            let missing = Err(anyhow::anyhow!("there is no container {name}"));
            return collector.put(directory, "", missing).await;
        }
        Err(error) => return collector.put(directory, "", Err(error)).await,
    };
    let state = details.state.clone().unwrap_or_default();
    let inspected = serde_json::to_string_pretty(&details).map_err(Into::into);
    collector.put(format!("{directory}/inspect.json"), "the container, as the engine sees it", inspected).await;
    let log = container_log(engine, name);
    let log = collector.item(format!("{directory}/container.log"), "what the container printed", log);
    let within = async {
        if state.paused == Some(true) {
            let paused = Err(anyhow::anyhow!("container {name} is paused: `docker unpause {name}`"));
            collector.put(directory, "", paused).await;
        } else if state.running == Some(true) {
            ask(collector, engine, name, directory, api_answers).await;
        } else {
            logs_of_stopped(collector, engine, name, directory).await;
        }
    };
    tokio::join!(log, within);
}

async fn ask(collector: &Collector, engine: &Engine, name: &str, directory: &str, api_answers: bool) {
    let pod_logs = (!api_answers).then_some(POD_LOGS);
    let questions: Vec<_> = QUESTIONS.into_iter().chain(pod_logs).collect();
    collector.ask(directory, &questions, async |command| engine.exec(name, &["sh", "-c", command]).await).await;
}

async fn container_log(engine: &Engine, name: &str) -> Result<String> {
    let options = LogsOptionsBuilder::default().stdout(true).stderr(true).timestamps(true).tail(LOG_LINES).build();
    let mut parts = std::pin::pin!(engine.docker().logs(name, Some(options)));
    let mut bytes = Vec::new();
    while let Some(part) = parts.next().await {
        bytes.extend_from_slice(&part?.into_bytes());
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Copies the logs from a container in which no command can run.
async fn logs_of_stopped(collector: &Collector, engine: &Engine, name: &str, directory: &str) {
    let copied = async {
        let options = DownloadFromContainerOptionsBuilder::default().path("/var/log").build();
        let mut parts = std::pin::pin!(engine.docker().download_from_container(name, Some(options)));
        let mut bytes = Vec::new();
        while let Some(part) = parts.next().await {
            bytes.extend_from_slice(&part.with_context(|| format!("cannot copy /var/log out of {name}"))?);
            if bytes.len() > LOGS_LIMIT {
                break;
            }
        }
        Ok(bytes)
    };
    match collector.bounded(copied).await {
        Ok(bytes) => {
            for (path, text) in files(&bytes) {
                collector.put(format!("{directory}/{path}"), "from the stopped container's /var", Ok(text)).await;
            }
            if bytes.len() > LOGS_LIMIT {
                let cut = too_long();
                collector.put(format!("{directory}/log (the rest)"), "", cut).await;
            }
        }
        Err(error) => collector.put(format!("{directory}/log"), "", Err(error)).await,
    }
}

fn too_long() -> Result<String> {
    bail!("/var/log is longer than {} MiB; files after that are left out", LOGS_LIMIT >> 20)
}

/// The last lines of the regular files in a tar archive. The archive may be truncated.
fn files(archive: &[u8]) -> Vec<(String, String)> {
    let mut archive = tar::Archive::new(archive);
    let Ok(entries) = archive.entries() else { return Vec::new() };
    let mut files = Vec::new();
    for mut entry in entries.map_while(Result::ok) {
        let path = entry.path().map(|path| path.to_string_lossy().into_owned());
        let mut bytes = Vec::new();
        let Ok(path) = path else { continue };
        if !entry.header().entry_type().is_file() || entry.read_to_end(&mut bytes).is_err() || bytes.is_empty() {
            continue;
        }
        files.push((path, last_lines(&String::from_utf8_lossy(&bytes), FILE_LINES).to_owned()));
    }
    files
}

fn last_lines(text: &str, lines: usize) -> &str {
    let body = text.strip_suffix('\n').unwrap_or(text);
    match body.rmatch_indices('\n').nth(lines - 1) {
        Some((end, _)) => &text[end + 1..],
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_of_a_text() {
        assert_eq!(last_lines("a\nb\nc\n", 2), "b\nc\n");
        assert_eq!(last_lines("a\nb\nc", 1), "c");
        assert_eq!(last_lines("a\n", 5), "a\n");
        assert_eq!(last_lines("", 5), "");
    }

    #[test]
    fn of_a_copied_directory_come_its_files_also_where_the_copy_was_cut() {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, text) in [("log/kubelet.log", "one\ntwo\n"), ("log/empty", ""), ("log/late", "lost")] {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            builder.append_data(&mut header, name, text.as_bytes()).unwrap();
        }
        let whole = builder.into_inner().unwrap();
        let kubelet = ("log/kubelet.log".to_owned(), "one\ntwo\n".to_owned());
        assert_eq!(files(&whole), [kubelet.clone(), ("log/late".to_owned(), "lost".to_owned())]);
        assert_eq!(files(&whole[..4 * 512 - 100]), [kubelet]);
    }
}
