//! The Linux capabilities of a node. A node needs all capabilities. But `--privileged` fails if the engine itself lacks
//! a capability (for example, in a virtual machine or container with a reduced set), and an old engine does not know
//! the newest names. So a node gets every capability that the engine both has and knows.

use std::path::Path;

use caps::Capability;

/// The capabilities of the engine's own process. `None` if this machine cannot see the process because the engine runs
/// in a virtual machine of its own. Such an engine is assumed to have all capabilities.
pub(crate) fn of_engine() -> Option<Vec<String>> {
    let status = std::fs::read_dir("/proc").ok()?.filter_map(|entry| {
        let path = entry.ok()?.path();
        let name = std::fs::read_to_string(path.join("comm")).ok()?;
        (name.trim() == "dockerd").then(|| std::fs::read_to_string(path.join("status")).ok())?
    });
    status.filter_map(|text| bounding_set(&text)).next().map(names)
}

/// Whether the engine's socket exists on this machine.
pub(crate) fn socket_exists() -> bool {
    Path::new("/var/run/docker.sock").exists()
}

fn bounding_set(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapBnd:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn names(set: u64) -> Vec<String> {
    let mut known: Vec<Capability> = caps::all().into_iter().filter(|one| set & one.bitmask() != 0).collect();
    known.sort_unstable_by_key(Capability::index);
    known.iter().map(Capability::to_string).collect()
}

/// The unknown capability that the engine's `message` names, if any.
pub(crate) fn unknown(message: &str) -> Option<&str> {
    let rest = &message[message.find("unknown capability: ")?..];
    let start = rest.find("CAP_")?;
    let end = rest[start..].find(|c: char| !c.is_ascii_uppercase() && c != '_').map_or(rest.len(), |end| start + end);
    Some(&rest[start..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reduced_bounding_set_leaves_out_what_is_missing() {
        let set = bounding_set("Name:\tdockerd\nCapBnd:\t000001fffeffffff\n").unwrap();
        let names = names(set);
        assert_eq!(names.len(), 40);
        assert!(!names.iter().any(|name| name == "CAP_SYS_RESOURCE"), "{names:?}");
        assert_eq!((names[0].as_str(), names[39].as_str()), ("CAP_CHOWN", "CAP_CHECKPOINT_RESTORE"));
    }

    #[test]
    fn the_name_an_old_engine_does_not_know_is_found_in_its_error() {
        let message = r#"Docker responded with status code 400: invalid CapAdd: unknown capability: "CAP_BPF""#;
        assert_eq!(unknown(message), Some("CAP_BPF"));
        assert_eq!(unknown("no such image"), None);
    }
}
