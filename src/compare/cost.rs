//! What a container has used: CPU time and memory, as its control group counts them.

use crate::cluster::Result;
use crate::cluster::Workload;

/// Prints CPU time in nanoseconds or microseconds, with a name to tell them apart, and memory in bytes: for control
/// groups of version 1 and 2. Without page cache, which containers of one image share and the first to come pays for.
const SCRIPT: &str = "PATH=$PATH:/usr/bin:/bin; cd /sys/fs/cgroup; \
    if [ -r cpuacct/cpuacct.usage ]; \
    then echo ns $(cat cpuacct/cpuacct.usage) $(sed -n 's/^total_rss //p' memory/memory.stat); \
    else echo us $(sed -n 's/^usage_usec //p' cpu.stat) $(sed -n 's/^anon //p' memory.stat); fi";

/// What was used, from a container's start on.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cost {
    /// CPU time, in microseconds.
    pub cpu_us: f64,
    /// Memory in use now, in bytes, without page cache.
    pub memory_bytes: f64,
}

impl Cost {
    /// Of a container of a pod.
    ///
    /// # Errors
    /// [`Exec`](crate::cluster::Error::Exec) where the control group cannot be read: there has to be a shell in the container.
    pub async fn read(pod: &Workload, container: &str) -> Result<Self> {
        let output = pod.cluster.exec(pod.container(container), &["/usr/bin/sh", "-c", SCRIPT], None).await?;
        parse(&output)
            .ok_or_else(|| pod.unusable("reading its control group", format!("`{}` is no usage", output.trim())))
    }
}

fn parse(output: &str) -> Option<Cost> {
    let mut fields = output.split_whitespace();
    let per_us = match fields.next()? {
        "ns" => 1000.0,
        "us" => 1.0,
        _ => return None,
    };
    let cpu: f64 = fields.next()?.parse().ok()?;
    let memory_bytes = fields.next()?.parse().ok()?;
    fields.next().is_none().then_some(Cost { cpu_us: cpu / per_us, memory_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_of_control_groups_are_read_and_nothing_else() {
        assert_eq!(parse("ns 5000 42\n"), Some(Cost { cpu_us: 5.0, memory_bytes: 42.0 }));
        assert_eq!(parse("us 5 42\n"), Some(Cost { cpu_us: 5.0, memory_bytes: 42.0 }));
        for wrong in ["", "ns 5000", "us x 42", "ms 1 2", "us 1 2 3"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
