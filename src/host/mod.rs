//! The machine and the source tree of a report.

use std::process::Command;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

mod awake;
mod chromium;
mod pressure;

pub use awake::Awake;
pub use chromium::{CHROME_VARIABLE, chromium};
pub use pressure::processor_pressure;

/// Processor flags that affect measurements: the treatments and the TLS libraries select code by them.
const FLAGS: [&str; 14] = [
    "adx",
    "aes",
    "avx2",
    "avx512_vbmi2",
    "avx512bw",
    "avx512dq",
    "avx512f",
    "avx512ifma",
    "bmi2",
    "constant_tsc",
    "hypervisor",
    "sha_ni",
    "vaes",
    "vpclmulqdq",
];

/// The properties of a machine that affect measurements.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Host {
    /// Host name.
    pub name: String,
    /// Number of available processors.
    pub cpus: usize,
    /// Processor model.
    pub cpu_model: String,
    /// Relevant processor flags, sorted.
    #[serde(default)]
    pub cpu_flags: Vec<String>,
    /// CPU frequency governor. Empty if unknown.
    #[serde(default)]
    pub governor: String,
    /// Hypervisor. Empty if none is detected.
    #[serde(default)]
    pub virtualization: String,
    /// Memory, in MiB.
    pub memory_mib: u64,
    /// Kernel release.
    pub kernel: String,
    /// Whether the processors were [kept awake](Awake).
    #[serde(default)]
    pub awake: bool,
    /// Share of CPU time, from 0 to 1, that other guests of the same machine took during a measurement. Reported, never
    /// compared.
    #[serde(default)]
    pub steal: Option<f64>,
}

/// Name of this machine. Empty if it cannot be read.
pub fn name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

impl Host {
    /// This machine. Unreadable values are empty or 0.
    pub fn this() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let processors = read("/proc/cpuinfo");
        let cpu_flags = flags(&processors);
        let vendor = || {
            let vendor = read("/sys/class/dmi/id/sys_vendor");
            if vendor.trim().is_empty() { "hypervisor".to_owned() } else { vendor.trim().to_owned() }
        };
        let guest = cpu_flags.iter().any(|flag| flag == "hypervisor");
        Self {
            name: name(),
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            cpu_model: value(&processors, "model name").unwrap_or_default(),
            cpu_flags,
            governor: read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").trim().into(),
            virtualization: if guest { vendor() } else { String::new() },
            memory_mib: value(&read("/proc/meminfo"), "MemTotal").map_or(0, |total| kib(&total) / 1024),
            kernel: read("/proc/sys/kernel/osrelease").trim().into(),
            awake: Awake::in_force(),
            steal: None,
        }
    }

    /// Whether both machines are of the same kind, so that measurements are comparable. Names and a few MiB of memory
    /// do not matter.
    pub fn is_of_a_kind_with(&self, other: &Self) -> bool {
        let alike = |host: &Self| Self { name: String::new(), memory_mib: 0, ..host.clone() };
        alike(self).differences(&alike(other)).is_empty()
    }

    /// The differences between two machines, with both values. Measurements on different machines are not comparable.
    /// Steal is not compared, because it varies constantly.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let fields = |host: &Self| {
            [
                ("name", host.name.clone()),
                ("cpus", host.cpus.to_string()),
                ("cpu_model", host.cpu_model.clone()),
                ("cpu_flags", host.cpu_flags.join(" ")),
                ("governor", host.governor.clone()),
                ("virtualization", host.virtualization.clone()),
                ("memory_mib", host.memory_mib.to_string()),
                ("kernel", host.kernel.clone()),
                ("awake", host.awake.to_string()),
            ]
        };
        let both = fields(self).into_iter().zip(fields(other));
        both.filter(|(one, two)| one != two)
            .map(|((field, one), (_, two))| format!("{field} (`{one}` and `{two}`)"))
            .collect()
    }
}

/// Measures the share of stolen CPU time since its creation.
#[derive(Debug, Clone, Copy)]
pub struct Steal(Option<[u64; 2]>);

impl Steal {
    /// Starts measuring.
    pub fn begin() -> Self {
        Self(processor_time(&std::fs::read_to_string("/proc/stat").unwrap_or_default()))
    }

    /// The stolen share since the start, from 0 to 1. `None` if the kernel does not report it, or no tick has passed.
    pub fn share(&self) -> Option<f64> {
        let ([stolen, all], [before, all_before]) = (Self::begin().0?, self.0?);
        let (stolen, all) = (stolen.checked_sub(before)?, all.checked_sub(all_before)?);
        (all > 0).then(|| stolen as f64 / all as f64)
    }
}

/// Stolen ticks, and all ticks, of all processors: the first line of `/proc/stat`. proc_stat(5): the eighth number is
/// steal. The ninth and tenth are contained in the first two.
fn processor_time(text: &str) -> Option<[u64; 2]> {
    let line = text.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = line.split_whitespace().take(8).map(|ticks| ticks.parse().ok()).collect::<Option<_>>()?;
    Some([*ticks.get(7)?, ticks.iter().sum()])
}

/// The relevant flags in a `/proc/cpuinfo`.
fn flags(processors: &str) -> Vec<String> {
    let there = value(processors, "flags").unwrap_or_default();
    let there: Vec<&str> = there.split_whitespace().collect();
    FLAGS.iter().filter(|flag| there.contains(flag)).map(|&flag| flag.to_owned()).collect()
}

/// The value of the first line `key: value`.
fn value(text: &str, key: &str) -> Option<String> {
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.into_iter().find(|(name, _)| name.trim() == key).map(|(_, value)| value.trim().to_owned())
}

fn kib(text: &str) -> u64 {
    text.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Revision of the source tree. `unknown` outside of a source tree.
pub(super) fn revision() -> String {
    static REVISION: OnceLock<String> = OnceLock::new();
    let describe = || {
        let directory = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| ".".into());
        let git = Command::new("git")
            .arg("-C")
            .arg(directory)
            .args(["describe", "--always", "--dirty", "--abbrev=12"])
            .output();
        let revision = git.ok().filter(|output| output.status.success()).map(|output| output.stdout);
        let revision = revision.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
        if revision.trim().is_empty() { "unknown".into() } else { revision.trim().to_owned() }
    };
    REVISION.get_or_init(describe).clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_by_their_whole_key() {
        let text = "MemTotalX: 1 kB\nMemTotal:  24576000 kB\n";
        assert_eq!(value(text, "MemTotal").map(|total| kib(&total) / 1024), Some(24_000));
        assert_eq!(value(text, "Mem"), None);
    }

    #[test]
    fn flags_are_read_whole_and_those_that_do_not_matter_left_out() {
        let text = "processor : 0\nflags : fpu avx512ifma avx2x aes\n\nprocessor : 1\nflags : adx\n";
        assert_eq!(flags(text), ["aes", "avx512ifma"]);
    }

    #[test]
    fn guests_are_not_counted_twice_and_old_kernels_have_no_steal() {
        assert_eq!(processor_time("cpu  1 2 3 4 5 6 7 8 100 200\ncpu0 1"), Some([8, 36]));
        assert_eq!(processor_time("cpu  1 2 3 4 5 6 7"), None);
        assert_eq!(processor_time(""), None);
    }

    #[test]
    fn hosts_differ_by_name_of_the_field_and_steal_does_not_count() {
        let one = Host { kernel: "6.1".into(), steal: Some(0.1), ..Host::default() };
        let two = Host { kernel: "6.2".into(), cpus: 2, steal: None, ..Host::default() };
        assert_eq!(one.differences(&two), ["cpus (`0` and `2`)", "kernel (`6.1` and `6.2`)"]);
        assert!(!one.is_of_a_kind_with(&two));
        assert!(one.is_of_a_kind_with(&Host { name: "other".into(), memory_mib: 7, ..one.clone() }));
        assert!(one.differences(&Host { steal: Some(0.9), ..one.clone() }).is_empty());
        let awake = Host { awake: true, ..one.clone() };
        assert_eq!(one.differences(&awake), ["awake (`false` and `true`)"]);
        assert!(!one.is_of_a_kind_with(&awake), "what is quicker to wake is quicker to answer");
    }
}
