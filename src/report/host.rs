//! The machine and the source tree a report was made on.

use std::process::Command;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

/// A machine, as far as it bears on what was measured on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// Processors available.
    pub cpus: usize,
    /// Their model.
    pub cpu_model: String,
    /// Memory, in MiB.
    pub memory_mib: u64,
    /// Kernel release.
    pub kernel: String,
}

impl Host {
    /// This machine. What cannot be read is empty or 0.
    pub fn this() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        Self {
            name: read("/proc/sys/kernel/hostname").trim().into(),
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            cpu_model: value(&read("/proc/cpuinfo"), "model name").unwrap_or_default(),
            memory_mib: value(&read("/proc/meminfo"), "MemTotal").map_or(0, |total| kib(&total) / 1024),
            kernel: read("/proc/sys/kernel/osrelease").trim().into(),
        }
    }
}

/// The value of the first line `key: value`.
fn value(text: &str, key: &str) -> Option<String> {
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.into_iter().find(|(name, _)| name.trim() == key).map(|(_, value)| value.trim().to_owned())
}

fn kib(text: &str) -> u64 {
    text.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Revision of the source tree; `unknown` outside of one.
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
}
