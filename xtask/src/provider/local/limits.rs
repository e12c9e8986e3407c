//! The kernel's limits that a testbed reaches before it runs out of memory. They are the machine's: all containers share
//! them.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::progress::Progress;

/// A limit of the kernel.
struct Limit {
    /// Name as `sysctl` takes it.
    name: &'static str,
    /// Smallest sufficient value.
    needed: u64,
    /// What uses it up.
    used_by: &'static str,
}

/// Sufficient for 120 pods with sidecars: docs/measurements/sidecars.md. The kernel's defaults are those of one
/// user's desktop: with 128 inotify instances, the proxies from about the fortieth on abort.
const LIMITS: [Limit; 8] = [
    Limit { name: "fs.inotify.max_user_instances", needed: 8192, used_by: "each proxy, kubelet and containerd" },
    Limit { name: "fs.inotify.max_user_watches", needed: 131_072, used_by: "each mounted secret and ConfigMap" },
    Limit { name: "fs.file-max", needed: 262_144, used_by: "each connection and open file" },
    Limit { name: "kernel.pid_max", needed: 32_768, used_by: "each thread of a container" },
    Limit { name: "net.netfilter.nf_conntrack_max", needed: 65_536, used_by: "each connection" },
    // All network namespaces share the table of neighbours. With the default of 1,024 it was full while 100 pods called each
    // other, and connections ended with "No route to host". Above the first value, entries are collected.
    Limit { name: "net.ipv4.neigh.default.gc_thresh3", needed: 16_384, used_by: "each two pods that talk" },
    Limit { name: "net.ipv4.neigh.default.gc_thresh2", needed: 8192, used_by: "each two pods that talk" },
    Limit { name: "net.ipv4.neigh.default.gc_thresh1", needed: 4096, used_by: "each two pods that talk" },
];

impl Limit {
    fn path(&self) -> PathBuf {
        Path::new("/proc/sys").join(self.name.replace('.', "/"))
    }

    /// The limit's value. `None` if this kernel does not have the limit.
    fn value(&self) -> Option<u64> {
        std::fs::read_to_string(self.path()).ok()?.trim().parse().ok()
    }
}

/// Raises limits that are too low, if `change` allows it.
///
/// # Errors
/// Fails if a limit is too low and may not or cannot be raised. The error has the command for each.
pub(super) fn ensure(progress: &Progress, change: bool) -> Result<()> {
    let mut refused = Vec::new();
    for limit in &LIMITS {
        let Some(value) = limit.value().filter(|value| *value < limit.needed) else { continue };
        let Limit { name, needed, used_by } = limit;
        if change && std::fs::write(limit.path(), needed.to_string()).is_ok() {
            progress.say(format!("raised {name} from {value} to {needed}, until this machine restarts ({used_by})"));
        } else {
            refused.push(format!("sysctl -w {name}={needed}    now {value}; taken by {used_by}"));
        }
    }
    if !refused.is_empty() {
        bail!("limits of this machine's kernel are too low; run as root:\n    {}", refused.join("\n    "));
    }
    Ok(())
}

/// How much of the inotify instances of this user is in use. `None` if this user cannot see all processes.
pub(crate) fn inotify() -> Option<Used> {
    let limit = LIMITS.first()?.value()?;
    let processes = std::fs::read_dir("/proc").ok()?.filter_map(|entry| {
        let path = entry.ok()?.path();
        path.file_name()?.to_str()?.parse::<u32>().ok()?;
        std::fs::read_dir(path.join("fd")).ok()
    });
    let is_inotify = |path: &Path| std::fs::read_link(path).is_ok_and(|to| to == Path::new("anon_inode:inotify"));
    let used = processes.flatten().filter_map(Result::ok).filter(|file| is_inotify(&file.path())).count();
    Some(Used { used: used as u64, limit })
}

/// How much of a limit is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Used {
    pub(crate) used: u64,
    pub(crate) limit: u64,
}

impl Used {
    /// A warning if more than four fifths are in use.
    pub(crate) fn warning(self) -> Option<String> {
        let Self { used, limit } = self;
        (used * 5 > limit * 4).then(|| {
            format!(
                "{used} of {limit} inotify instances are in use, and proxies abort without one: \
                 `sysctl -w fs.inotify.max_user_instances={}`",
                limit.max(1) * 4
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_are_those_that_this_kernel_has() {
        for limit in LIMITS.iter().filter(|limit| !limit.name.starts_with("net.")) {
            assert!(limit.value().is_some(), "{} is not below /proc/sys", limit.name);
        }
    }

    #[test]
    fn a_limit_is_warned_of_before_it_is_reached() {
        assert_eq!(Used { used: 102, limit: 128 }.warning(), None);
        let warning = Used { used: 103, limit: 128 }.warning().unwrap();
        assert!(warning.contains("103 of 128") && warning.contains("max_user_instances=512"), "{warning}");
    }
}
