//! CPU time and memory of a container, as counted by its control group.

use crate::cluster::Result;
use crate::cluster::Workload;

/// Prints CPU time in nanoseconds or microseconds, with a name that tells the unit, and memory in bytes. Supports
/// cgroup v1 and v2. Excludes page cache: containers of one image share it, and only the first container is charged.
const SCRIPT: &str = "PATH=$PATH:/usr/bin:/bin; cd /sys/fs/cgroup; \
    if [ -r cpuacct/cpuacct.usage ]; \
    then echo ns $(cat cpuacct/cpuacct.usage) $(sed -n 's/^total_rss //p' memory/memory.stat); \
    else echo us $(sed -n 's/^usage_usec //p' cpu.stat) $(sed -n 's/^anon //p' memory.stat); fi";

/// Resources used since the container's start.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cost {
    /// CPU time, in microseconds.
    pub cpu_us: f64,
    /// Memory in use, in bytes, without page cache.
    pub memory_bytes: f64,
}

impl Cost {
    /// Reads the resources used by a container of a pod.
    ///
    /// # Errors
    /// [`Exec`](crate::cluster::Error::Exec): the control group cannot be read. The container must have a shell.
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
