//! The ports to ask, in the order in which they are asked, and those that are not asked and why.

use std::collections::BTreeMap;

use super::dials::{PER_PORT, Place};
use super::inventory::Inventory;
use super::kind::Kind;
use super::pace::{Rates, Sharing};
use super::pod::{Pod, Port, PortKey, Proxy, Transport};
use crate::cluster::Cluster;

/// Most ports of one command to a probe.
const BATCH: usize = 64;

/// Longest duration of one command, by its rates, in seconds.
const BATCH_SECONDS: usize = 20;

/// Connections to the first port of a pod, which is also asked for the TLS versions.
const PER_FIRST_PORT: usize = PER_PORT + 3;

/// Why a port that a proxy declares is not asked.
pub(super) const PROXYS_OWN: &str = "the proxy's own port";

/// Why nothing is asked in a namespace that is being removed.
pub(super) const ENDING: &str = "its namespace is being removed";

/// A port to ask.
#[derive(Debug, Clone)]
pub(super) struct Target<'a> {
    pub(super) inventory: &'a Inventory,
    pub(super) pod: &'a Pod,
    /// Number of the pod, the same for all its ports.
    pub(super) index: usize,
    pub(super) key: PortKey,
    pub(super) port: &'a Port,
    pub(super) address: &'a str,
    /// Whether this port is also asked for the TLS versions.
    pub(super) versions: bool,
}

impl Target<'_> {
    pub(super) fn place(&self) -> Place {
        Place { address: self.address.into(), port: self.key.number, http2: self.port.is_http2() }
    }

    /// Number of connections.
    fn connections(&self) -> usize {
        if self.versions { PER_FIRST_PORT } else { PER_PORT }
    }
}

/// Why a pod, or one of its ports, is not asked. `None` if it is.
pub(super) fn not_asked(inventory: &Inventory, pod: &Pod, key: PortKey, port: &Port, system: bool) -> Option<Kind> {
    let why = match (&pod.proxy, key.transport) {
        _ if inventory.is_ending(&pod.namespace) => ENDING.to_owned(),
        _ if pod.absent.is_some() => pod.absent.clone().unwrap_or_default(),
        (Proxy::Ambient, _) => "ambient mode is not judged".to_owned(),
        (_, Transport::Udp) => "UDP carries no mutual TLS".to_owned(),
        (_, Transport::Sctp) => "SCTP carries no mutual TLS".to_owned(),
        _ if port.is_proxys && pod.proxy.is_sidecar() => PROXYS_OWN.to_owned(),
        (Proxy::Gateway, _) if !system => "a gateway of Istio's".to_owned(),
        _ => return None,
    };
    Some(Kind::NotJudged { why })
}

/// The ports of `inventory` to ask. Ports of different pods alternate, so that the limit of each pod holds up none.
pub(super) fn targets(inventory: &Inventory, system: bool) -> Vec<Target<'_>> {
    let mut ordered = Vec::new();
    let judged = |pod: &&Pod| system || !inventory.is_system(&pod.namespace);
    for (index, pod) in inventory.pods.iter().enumerate().filter(|(_, pod)| judged(pod)) {
        let asked = pod.ports.iter().filter(|(key, port)| not_asked(inventory, pod, **key, port, system).is_none());
        let places = asked.flat_map(|(key, port)| pod.addresses.iter().map(move |address| (key, port, address)));
        for (nth, (key, port, address)) in places.enumerate() {
            let versions = nth == 0 && pod.proxy.is_sidecar();
            ordered.push((nth, Target { inventory, pod, index, key: *key, port, address, versions }));
        }
    }
    ordered.sort_by_key(|(nth, target)| (*nth, target.index));
    ordered.into_iter().map(|(_, target)| target).collect()
}

/// Cuts targets into commands that are neither large nor, by the rates of a vantage, long.
pub(super) fn batches<'t, 'a>(targets: &'t [Target<'a>], rates: Rates, sharing: Sharing) -> Vec<&'t [Target<'a>]> {
    let most = |rate: u32, vantages: usize| {
        let share = usize::try_from(rate).unwrap_or(usize::MAX) / vantages.max(1);
        (share * BATCH_SECONDS).max(PER_FIRST_PORT)
    };
    let mut cut = Vec::new();
    let mut begin = 0;
    let (mut all, mut of_pods): (usize, BTreeMap<usize, usize>) = (0, BTreeMap::new());
    for (at, target) in targets.iter().enumerate() {
        let connections = target.connections();
        let of_pod = of_pods.get(&target.index).copied().unwrap_or(0);
        let full = at - begin == BATCH || all + connections > most(rates.in_all, sharing.all);
        if at > begin && (full || of_pod + connections > most(rates.per_pod, sharing.one_pod)) {
            cut.push(&targets[begin..at]);
            (begin, all) = (at, 0);
            of_pods.clear();
        }
        all += connections;
        *of_pods.entry(target.index).or_default() += connections;
    }
    if begin < targets.len() {
        cut.push(&targets[begin..]);
    }
    cut
}

/// Whether workloads of `to` can be dialled by their addresses from `from`.
pub(super) fn routed(from: &Cluster, to: &Cluster) -> bool {
    from.record().network == to.record().network
}

#[cfg(test)]
mod tests;
