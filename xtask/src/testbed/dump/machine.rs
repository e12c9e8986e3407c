//! Collects data about this machine, the system that runs the nodes, and the files of `up`.

use meshproof::record;

use super::super::inventory::Inventory;
use crate::bundle::{Collector, Question};
use crate::command::run;
use crate::provider::Machines;
use crate::{ledger, paths};

/// Files of this machine.
const FILES: [Question<&str>; 5] = [
    Question { file: "os-release.txt", ask: "/etc/os-release", what: "operating system" },
    Question { file: "meminfo.txt", ask: "/proc/meminfo", what: "memory" },
    Question { file: "loadavg.txt", ask: "/proc/loadavg", what: "load" },
    Question { file: "pressure-cpu.txt", ask: "/proc/pressure/cpu", what: "time lost waiting for processors" },
    Question { file: "routes.txt", ask: "/proc/net/route", what: "routes" },
];

/// Command lines to run on this machine.
const PROGRAMS: [Question<&[&str]>; 3] = [
    Question { file: "uname.txt", ask: &["uname", "-a"], what: "kernel" },
    Question { file: "disk.txt", ask: &["df", "-h"], what: "free space" },
    Question {
        file: "revision.txt",
        ask: &["git", "describe", "--always", "--dirty", "--abbrev=40"],
        what: "revision of meshproof",
    },
];

/// Files that `up` writes.
const WRITTEN: [Question<&str>; 2] = [
    Question { file: record::FILE_NAME, ask: record::FILE_NAME, what: "as `up` left it" },
    Question { file: ledger::FILE_NAME, ask: ledger::FILE_NAME, what: "as `up` left it" },
];

/// Collects data from outside the clusters. `machines` is `None` if the system that runs the nodes does not answer.
pub(super) async fn collect(collector: &Collector, machines: Option<&Machines>, inventory: &Inventory) {
    let files = collector.ask("machine", &FILES, async |path| paths::read(path.as_ref()));
    let programs = collector.ask("machine", &PROGRAMS, async |line| {
        run(line[0]).args(&line[1..]).current_dir(paths::root()).stdout().await
    });
    let processors = async { Ok(processors(&paths::read("/proc/cpuinfo".as_ref())?)) };
    let processors = collector.item("machine/processors.txt", "processors", processors);
    let written = collector.ask("testbed", &WRITTEN, async |file| paths::read(&inventory.directory.join(file)));
    let versions = async { paths::read(&paths::fixture("versions.toml")) };
    let versions = collector.item("testbed/versions.toml", "every pinned component", versions);
    let machines = async {
        if let Some(machines) = machines {
            machines.collect(collector).await;
        }
    };
    tokio::join!(files, programs, processors, written, versions, machines);
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
