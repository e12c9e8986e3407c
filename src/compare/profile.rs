//! CPU profile of a run, sampled by `perf`: shares by layer, and a flame graph.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use inferno::collapse::Collapse;
use inferno::collapse::perf::{Folder, Options as Folding};
use inferno::flamegraph;

use crate::compare::{Error, Result};

/// Samples per second and processor. A prime avoids lockstep with timers.
const FREQUENCY: &str = "997";

/// Stack prefix of the kernel's idle task.
const IDLE: &str = "swapper;";

/// A running profile of the whole machine. The profile ends after its length, or on drop.
#[derive(Debug)]
pub struct Profiler {
    perf: Child,
    directory: tempfile::TempDir,
}

impl Profiler {
    /// Starts a profile of `length`: all processors, kernel and user stacks. The clusters' nodes must run on this
    /// machine.
    ///
    /// # Errors
    /// [`Error::Profile`]: `perf` is missing or not permitted.
    pub fn begin(length: Duration) -> Result<Self> {
        let directory = tempfile::tempdir().map_err(|error| failed(format!("no temporary directory: {error}")))?;
        let mut command = Command::new("perf");
        // Sample by clock: guests of a hypervisor have no hardware counters.
        command.args([
            "record",
            "--quiet",
            "--all-cpus",
            "-g",
            "--event",
            "cpu-clock",
            "--freq",
            FREQUENCY,
            "--output",
        ]);
        command.arg(directory.path().join("perf.data"));
        command.args(["--", "sleep", &length.as_secs_f64().to_string()]);
        let perf = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let perf = perf.map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => failed("`perf` is not installed (Debian: linux-perf)".into()),
            _ => failed(error.to_string()),
        })?;
        Ok(Self { perf, directory })
    }

    /// Waits for the end of the profile.
    ///
    /// # Errors
    /// [`Error::Profile`] with the output of `perf`.
    pub fn finish(mut self) -> Result<Profile> {
        let mut said = String::new();
        if let Some(mut stderr) = self.perf.stderr.take() {
            // Unreadable output is left out of the error.
            let _ = std::io::Read::read_to_string(&mut stderr, &mut said);
        }
        let status = self.perf.wait().map_err(|error| failed(error.to_string()))?;
        if !status.success() {
            return Err(failed(format!("`perf record` ended with {status}: {}", said.trim())));
        }
        let mut command = Command::new("perf");
        command.args(["script", "--fields", "comm,pid,tid,time,event,ip,sym,dso", "--input"]);
        let script = command.arg(self.directory.path().join("perf.data")).output();
        let script = script.map_err(|error| failed(error.to_string()))?;
        if !script.status.success() {
            let said = String::from_utf8_lossy(&script.stderr);
            return Err(failed(format!("`perf script` ended with {}: {}", script.status, said.trim())));
        }
        Profile::fold(&script.stdout)
    }
}

impl Drop for Profiler {
    fn drop(&mut self) {
        // Both calls fail if `perf` has already ended.
        let _ = self.perf.kill();
        let _ = self.perf.wait();
    }
}

fn failed(reason: String) -> Error {
    Error::Profile { reason }
}

/// Number of samples by stack, without idle samples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Key: `command;outermost;…;innermost`. Kernel frames have the suffix `_[k]`.
    stacks: BTreeMap<String, u64>,
}

/// The share of a layer in the samples of a profile.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerShare {
    /// The layer's name.
    pub layer: String,
    /// Share of all samples, from 0 to 1.
    pub share: f64,
}

impl Profile {
    /// Parses the output of `perf script`.
    fn fold(script: &[u8]) -> Result<Self> {
        let mut folding = Folding::default();
        folding.annotate_kernel = true;
        let mut folded = Vec::new();
        let done = Folder::from(folding).collapse(script, &mut folded);
        done.map_err(|error| failed(format!("its stacks cannot be read: {error}")))?;
        let mut stacks = BTreeMap::new();
        for line in String::from_utf8_lossy(&folded).lines().filter(|line| !line.starts_with(IDLE)) {
            let (stack, count) = line.rsplit_once(' ').unwrap_or((line, ""));
            let count: u64 = count.parse().map_err(|_| failed(format!("`{line}` is no folded stack")))?;
            *stacks.entry(stack.to_owned()).or_default() += count;
        }
        if stacks.is_empty() {
            return Err(failed("no sample of anything but idleness".into()));
        }
        Ok(Self { stacks })
    }

    /// Share of all samples by layer, the largest first.
    pub fn shares(&self) -> Vec<LayerShare> {
        let all = self.stacks.values().sum::<u64>().max(1) as f64;
        let mut shares = BTreeMap::<String, f64>::new();
        for (stack, &count) in &self.stacks {
            *shares.entry(layer(stack)).or_default() += count as f64 / all;
        }
        let mut shares: Vec<_> = shares.into_iter().map(|(layer, share)| LayerShare { layer, share }).collect();
        shares.sort_by(|one, other| other.share.total_cmp(&one.share));
        shares
    }

    /// The largest shares as text.
    pub fn summary(&self) -> String {
        let shares = self.shares();
        let told = shares.iter().take(6).map(|each| format!("{} {:.0} %", each.layer, each.share * 100.0));
        told.collect::<Vec<_>>().join(", ")
    }

    /// Writes the flame graph to `path` as a zoomable SVG.
    ///
    /// # Errors
    /// [`Error::Profile`]: `path` cannot be written.
    pub fn draw(&self, title: &str, path: &Path) -> Result<()> {
        let mut options = flamegraph::Options::default();
        title.clone_into(&mut options.title);
        options.deterministic = true;
        options.hash = true;
        // Narrower frames are invisible.
        options.min_width = 0.1;
        let lines: Vec<String> = self.stacks.iter().map(|(stack, count)| format!("{stack} {count}")).collect();
        let mut svg = Vec::new();
        let drawn = flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), &mut svg);
        drawn.map_err(|error| failed(format!("it cannot be drawn: {error}")))?;
        let written = path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(path, svg));
        written.map_err(|error| failed(format!("cannot write {}: {error}", path.display())))
    }
}

/// The layer of a stack. Function names are those of Linux.
fn layer(stack: &str) -> String {
    let mut frames = stack.split(';');
    let command = frames.next().unwrap_or_default();
    let kernel: Vec<&str> = frames.filter_map(|frame| frame.strip_suffix("_[k]")).collect();
    let has = |prefixes: &[&str]| kernel.iter().any(|frame| prefixes.iter().any(|prefix| frame.starts_with(prefix)));
    if kernel.is_empty() {
        // Threads of one program have different names: `wrk:worker_0`.
        return format!("{} itself", command.trim_end_matches(|end: char| end.is_ascii_digit() || "_-/".contains(end)));
    }
    let layer = if has(&["sk_psock_", "sk_msg_", "tcp_bpf_", "bpf_prog_", "bpf_sk_", "__cgroup_bpf_"]) {
        "eBPF at sockets"
    } else if has(&[
        "tcp_",
        "ip_",
        "ip6_",
        "__ip_",
        "__tcp_",
        "nf_",
        "__netif_receive_skb",
        "net_rx_action",
        "__dev_queue_xmit",
    ]) {
        "TCP/IP in the kernel"
    } else if has(&["do_epoll_", "__do_sys_epoll", "ep_"]) {
        "epoll"
    } else if has(&["schedule", "__schedule", "futex_", "do_futex", "try_to_wake_up"]) {
        "scheduler"
    } else {
        "the rest of the kernel"
    };
    layer.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "\
wrk:worker_0    10/11     1.000001: cpu-clock: \n\tffffffff81000001 tcp_rcv_established+0x1 ([kernel.kallsyms])\n\
\tffffffff81000002 __x64_sys_sendto+0x2 ([kernel.kallsyms])\n\t          1234 [unknown] (/usr/local/bin/envoy)\n\n\
wrk:worker_1    10/12     1.000002: cpu-clock: \n\t          1234 [unknown] (/usr/local/bin/envoy)\n\n\
wrk:worker_0    10/11     1.000003: cpu-clock: \n\tffffffff81000003 tcp_bpf_sendmsg+0x1 ([kernel.kallsyms])\n\
\t          1234 [unknown] (/usr/local/bin/envoy)\n\n\
load    20/20     1.000004: cpu-clock: \n\tffffffff81000004 do_epoll_wait+0x1 ([kernel.kallsyms])\n\n\
swapper     0/0     1.000005: cpu-clock: \n\tffffffff81000005 default_idle+0x5 ([kernel.kallsyms])\n\n";

    #[test]
    fn samples_are_shared_out_by_layer_and_idleness_is_not_counted() {
        let profile = Profile::fold(SCRIPT.as_bytes()).unwrap();
        let shares: BTreeMap<String, f64> = profile.shares().into_iter().map(|each| (each.layer, each.share)).collect();
        let quarter = |layer: &str| assert_eq!(shares.get(layer), Some(&0.25), "{layer} in {shares:?}");
        ["TCP/IP in the kernel", "eBPF at sockets", "epoll", "wrk:worker itself"]
            .iter()
            .for_each(|layer| quarter(layer));
        assert_eq!(shares.len(), 4, "{shares:?}");
    }

    #[test]
    fn nothing_but_idleness_is_no_profile() {
        let idle = SCRIPT.rsplit("load ").next().unwrap().split_once("\n\n").unwrap().1;
        let error = Profile::fold(idle.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("no sample"), "{error}");
        assert!(Profile::fold(b"").is_err());
    }

    #[test]
    fn a_flame_graph_names_its_frames() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("profiles/one.svg");
        Profile::fold(SCRIPT.as_bytes()).unwrap().draw("one", &path).unwrap();
        let svg = std::fs::read_to_string(path).unwrap();
        assert!(svg.contains("tcp_bpf_sendmsg") && svg.contains("<title>"), "{svg}");
    }
}
