//! How a proxy takes connections, as it says itself: the mode of mutual TLS of each port, by its listener's filter chains.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::proxy_config::{Dump, INBOUND, dumped};
use crate::cluster::{Result, Seen, Workload, eventually};
use crate::policy::Mode;

/// Longest wait for a policy to reach a proxy.
const TAKEN_UP: Duration = Duration::from_secs(30);

/// The mode of each port for which the workload's proxy has filter chains.
///
/// # Errors
/// The errors of [`Workload::proxy_admin`]. The answer cannot be parsed.
pub async fn inbound_modes(workload: &Workload) -> Result<BTreeMap<u16, Mode>> {
    Ok(modes(&dumped(workload, INBOUND).await?))
}

/// Waits until the workload's proxy takes connections to `port` in this mode.
///
/// # Errors
/// [`NotInTime`](crate::cluster::Error::NotInTime), with the mode that it has.
pub async fn await_mode(workload: &Workload, port: u16, mode: Mode) -> Result<()> {
    eventually(format!("the proxy of {workload} to take port {port} in mode {mode}"), TAKEN_UP, async || {
        let known = inbound_modes(workload).await?;
        Ok::<_, crate::cluster::Error>(match known.get(&port) {
            Some(seen) if *seen == mode => Seen::Yes(()),
            Some(seen) => Seen::NotYet(format!("it is {seen}")),
            None => Seen::NotYet("it has no filter chain for the port".into()),
        })
    })
    .await
}

/// The modes in a dump of listeners.
fn modes(dump: &Dump) -> BTreeMap<u16, Mode> {
    // For each port: whether a chain takes plaintext, and whether a chain takes TLS of the mesh.
    let mut ports: BTreeMap<u16, (bool, bool)> = BTreeMap::new();
    let chains =
        dump.configs.iter().filter_map(|one| one.pointer("/active_state/listener/filter_chains")?.as_array()).flatten();
    for chain in chains {
        let port = chain.pointer("/filter_chain_match/destination_port").and_then(Value::as_u64);
        let Some(port) = port.and_then(|port| u16::try_from(port).ok()) else { continue };
        let (plain, tls) = ports.entry(port).or_default();
        let is_tls = chain.pointer("/filter_chain_match/transport_protocol").is_some_and(|name| name == "tls");
        *tls |= chain.get("transport_socket").is_some();
        *plain |= !is_tls;
    }
    let mode = |(plain, tls)| match (plain, tls) {
        (true, true) => Mode::Permissive,
        (false, true) => Mode::Strict,
        _ => Mode::Disable,
    };
    ports.into_iter().map(|(port, takes)| (port, mode(takes))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_chains_of_a_port_tell_its_mode() {
        let chain = |port: u16, transport: &str, secured: bool| {
            let mut chain =
                json!({ "filter_chain_match": { "destination_port": port, "transport_protocol": transport } });
            if secured {
                chain["transport_socket"] = json!({ "name": "envoy.transport_sockets.tls" });
            }
            chain
        };
        let chains = [
            chain(8080, "tls", true),
            chain(8081, "tls", true),
            chain(8081, "raw_buffer", false),
            chain(8082, "raw_buffer", false),
            // TLS of the application's own is passed on in PERMISSIVE mode.
            chain(8083, "tls", true),
            chain(8083, "tls", false),
            chain(8083, "raw_buffer", false),
        ];
        let dump = Dump { configs: vec![json!({ "active_state": { "listener": { "filter_chains": chains } } })] };
        let owed = [(8080, Mode::Strict), (8081, Mode::Permissive), (8082, Mode::Disable), (8083, Mode::Permissive)];
        assert_eq!(modes(&dump), owed.into());
    }
}
