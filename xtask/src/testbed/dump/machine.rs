//! Collects data about this machine, the system that runs the nodes, and the files of `up`.

use futures::future::join_all;

use super::super::inventory::Inventory;
use crate::bundle::Collector;
use crate::command::run;
use crate::provider::Machines;
use crate::{ledger, paths};

/// A file of this machine.
struct MachineFile {
    path: &'static str,
    /// Name of the file in the archive.
    name: &'static str,
    /// Description of the file.
    what: &'static str,
}

const FILES: [MachineFile; 5] = [
    MachineFile { path: "/etc/os-release", name: "os-release.txt", what: "operating system" },
    MachineFile { path: "/proc/meminfo", name: "meminfo.txt", what: "memory" },
    MachineFile { path: "/proc/loadavg", name: "loadavg.txt", what: "load" },
    MachineFile { path: "/proc/pressure/cpu", name: "pressure-cpu.txt", what: "time lost waiting for processors" },
    MachineFile { path: "/proc/net/route", name: "routes.txt", what: "routes" },
];

/// Collects data from outside the clusters. `machines` is `None` if the system that runs the nodes does not answer.
pub(super) async fn collect(collector: &Collector, machines: Option<&Machines>, inventory: &Inventory) {
    let files = FILES.map(|MachineFile { path, name, what }| {
        collector.item(format!("machine/{name}"), what, async move { paths::read(path.as_ref()) })
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
        let path = inventory.directory.join(file);
        collector.item(format!("testbed/{file}"), "as `up` left it", async move { paths::read(&path) })
    });
    let versions = async { paths::read(&paths::fixture("versions.toml")) };
    let versions = collector.item("testbed/versions.toml", "every pinned component", versions);
    let machines = async {
        if let Some(machines) = machines {
            machines.collect(collector).await;
        }
    };
    tokio::join!(join_all(files), join_all(programs), processors, join_all(written), versions, machines);
}

/// The processor models, with the number of processors of each model.
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
