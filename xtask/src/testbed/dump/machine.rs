//! This machine, its container engine, and what `up` wrote down.

use anyhow::{Context, Result};
use futures::future::join_all;
use testcontainers::bollard::query_parameters::ListContainersOptionsBuilder;

use super::super::targets::Targets;
use super::collect::Collector;
use crate::command::run;
use crate::local::engine::Engine;
use crate::{ledger, paths};

/// Files of this machine that tell what it is and how busy: path, file name, meaning.
const FILES: [(&str, &str, &str); 5] = [
    ("/etc/os-release", "os-release.txt", "operating system"),
    ("/proc/meminfo", "meminfo.txt", "memory"),
    ("/proc/loadavg", "loadavg.txt", "load"),
    ("/proc/pressure/cpu", "pressure-cpu.txt", "time lost waiting for processors"),
    ("/proc/net/route", "routes.txt", "routes"),
];

/// Collects what is outside the clusters; `engine` is missing where none answers.
pub(super) async fn collect(collector: &Collector, engine: Option<&Engine>, targets: &Targets) {
    let files = FILES.map(|(path, file, what)| {
        collector.item(format!("machine/{file}"), what, async move { paths::read(path.as_ref()) })
    });
    let program = |file: &str, what: &'static str, line: &'static [&'static str]| {
        let output = async move { run(line[0]).args(&line[1..]).current_dir(paths::root()).stdout().await };
        collector.item(format!("machine/{file}"), what, output)
    };
    let programs = [
        program("uname.txt", "kernel", &["uname", "-a"]),
        program("disk.txt", "free space", &["df", "-h"]),
        program("revision.txt", "revision of meshproof", &["git", "describe", "--always", "--dirty", "--abbrev=40"]),
    ];
    let processors = async { Ok(processors(&paths::read("/proc/cpuinfo".as_ref())?)) };
    let processors = collector.item("machine/processors.txt", "processors", processors);
    let written = [meshproof::record::FILE_NAME, ledger::FILE_NAME].map(|file| {
        let path = targets.directory.join(file);
        collector.item(format!("testbed/{file}"), "as `up` left it", async move { paths::read(&path) })
    });
    let versions = async { paths::read(&paths::fixture("versions.toml")) };
    let versions = collector.item("testbed/versions.toml", "every pinned component", versions);
    let engine = async {
        if let Some(engine) = engine {
            ask(collector, engine).await;
        }
    };
    tokio::join!(join_all(files), join_all(programs), processors, join_all(written), versions, engine);
}

async fn ask(collector: &Collector, engine: &Engine) {
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

/// The processors' models, each with how many there are of it.
fn processors(cpuinfo: &str) -> String {
    let mut models: Vec<(&str, usize)> = Vec::new();
    let named = cpuinfo.lines().filter_map(|line| line.strip_prefix("model name")?.split_once(':'));
    for (_, model) in named {
        let model = model.trim();
        match models.iter_mut().find(|(known, _)| *known == model) {
            Some((_, count)) => *count += 1,
            None => models.push((model, 1)),
        }
    }
    models.iter().map(|(model, count)| format!("{count} x {model}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_counted_by_model() {
        let cpuinfo = "processor : 0\nmodel name\t: Xeon 1\nflags : a\nmodel name\t: Xeon 1\nmodel name\t: Xeon 2\n";
        assert_eq!(processors(cpuinfo), "2 x Xeon 1\n1 x Xeon 2\n");
    }
}
