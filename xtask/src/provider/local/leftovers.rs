//! Ports on the testbed's bridge that a killed engine's containers left.
//!
//! The network namespace of a container outlives its processes while a connection of theirs is not closed: up to two
//! minutes. An engine that ends in an orderly way unplugs the namespace from the bridge; a killed one does not, and the
//! next engine gives the restarted container the same address. Until the old namespace is gone, both answer for the
//! address, and connections are refused by turns.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};

use super::engine::Engine;
use crate::command::run;
use crate::progress::Progress;

/// File in a container with the number of the bridge's port that the container is plugged into.
const PLUGGED_INTO: &str = "/sys/class/net/eth0/iflink";

/// Unplugs the containers that ended from the bridge of `network`. Does nothing if there is no port more than running
/// containers. Otherwise starts all containers of the network, to learn their ports. Needs root.
///
/// # Errors
/// Fails if a port cannot be removed, or the port of a container not be told.
pub(super) async fn unplug(progress: &Progress, engine: &Engine, network: &str) -> Result<()> {
    let Some(bridge) = engine.bridge(network).await? else { return Ok(()) };
    let containers = engine.containers_on(network).await?;
    let mut running = 0;
    for container in &containers {
        running += usize::from(engine.runs(container).await?);
    }
    if ports(&bridge).len() <= running {
        return Ok(());
    }
    let mut used = BTreeSet::new();
    for container in &containers {
        engine.start_again(container).await?;
        let port = engine.exec(container, &["cat", PLUGGED_INTO]).await?;
        used.insert(port.trim().parse().with_context(|| format!("{container}: {PLUGGED_INTO} is `{port}`"))?);
    }
    for port in unused(&ports(&bridge), &used) {
        progress.say(format!("removing {port} from {bridge}: a killed engine left it"));
        run("ip").args(["link", "delete", "dev", port]).ok().await?;
    }
    Ok(())
}

/// The ports of a bridge, by number. None if there is no such bridge on this machine.
fn ports(bridge: &str) -> BTreeMap<u32, String> {
    let interfaces = Path::new("/sys/class/net");
    let ports = std::fs::read_dir(interfaces.join(bridge).join("brif")).into_iter().flatten().flatten();
    let numbered = ports.filter_map(|port| {
        let name = port.file_name().into_string().ok()?;
        let number = std::fs::read_to_string(interfaces.join(&name).join("ifindex")).ok()?;
        Some((number.trim().parse().ok()?, name))
    });
    numbered.collect()
}

fn unused<'a>(ports: &'a BTreeMap<u32, String>, used: &BTreeSet<u32>) -> Vec<&'a str> {
    ports.iter().filter(|(number, _)| !used.contains(number)).map(|(_, name)| name.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_no_container_is_plugged_into_is_unused() {
        let ports = BTreeMap::from([(7, "veth7".to_owned()), (9, "veth9".to_owned())]);
        assert_eq!(unused(&ports, &BTreeSet::from([9])), ["veth7"]);
        assert!(unused(&ports, &BTreeSet::from([7, 9])).is_empty());
    }

    #[test]
    fn a_bridge_that_is_not_here_has_no_ports() {
        assert!(ports("br-none").is_empty());
    }
}
