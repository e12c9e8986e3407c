//! Addresses on the container network. A cluster's certificates and remote secrets need fixed addresses. The engine
//! assigns addresses in the order in which containers start, so each node sets its own address.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, bail};
use ipnet::Ipv4Net;

use crate::declaration::MOST_NODES;

/// Number of addresses of a cluster: the control plane, the gateways, and the workers.
const ADDRESSES: usize = 10;

/// Number of addresses of gateways.
const GATEWAYS: usize = 2;

/// The addresses of one cluster, as written into its nodes' containers. They are part of a node's specification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClusterAddresses {
    /// Addresses that nodes can have. The first is the control plane's.
    pub(crate) nodes: Vec<String>,
    /// Address of the ingress gateway's service.
    pub(crate) ingress: String,
    /// Address of the east-west gateway's service.
    pub(crate) eastwest: String,
    /// Length of the subnet's prefix.
    pub(crate) prefix: u8,
}

/// The two halves of the container network's subnet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Halves {
    /// The nodes' addresses come from this half.
    nodes: Ipv4Net,
    /// The engine assigns addresses from this half.
    pub(crate) engine: Ipv4Net,
    prefix: u8,
}

impl Halves {
    /// Splits the subnet into two halves.
    ///
    /// # Errors
    /// Fails if the subnet holds a single address.
    pub(crate) fn of(subnet: Ipv4Net) -> Result<Self> {
        let prefix = subnet.prefix_len();
        let mut halves = subnet.subnets(prefix + 1).with_context(|| format!("{subnet} holds a single address"))?;
        let halves = halves.next().zip(halves.next()).with_context(|| format!("{subnet} has no halves"))?;
        Ok(Self { nodes: halves.0, engine: halves.1, prefix })
    }

    /// Addresses of the cluster with this number, counted from 0.
    ///
    /// # Errors
    /// Fails if the subnet is too small for so many clusters.
    pub(crate) fn cluster(self, number: usize) -> Result<ClusterAddresses> {
        let base = number.checked_add(1).and_then(|count| count.checked_mul(ADDRESSES));
        let host = |offset: usize| {
            let host = base.and_then(|base| u32::try_from(base.checked_add(offset)?).ok());
            let address = host.and_then(|host| u32::from(self.nodes.network()).checked_add(host)).map(Ipv4Addr::from);
            let address = address.filter(|address| self.nodes.contains(address));
            let address = address.with_context(|| {
                format!(
                    "{} is too small for {} clusters: declare a larger subnet in `networks`",
                    self.nodes,
                    number + 1
                )
            })?;
            anyhow::Ok(address.to_string())
        };
        let workers = (1..MOST_NODES).map(|worker| host(GATEWAYS + worker));
        let nodes = std::iter::once(host(0)).chain(workers).collect::<Result<_>>()?;
        Ok(ClusterAddresses { nodes, ingress: host(1)?, eastwest: host(2)?, prefix: self.prefix })
    }
}

/// The first of `candidates` that overlaps none of this machine's routes.
///
/// # Errors
/// Fails if all candidates are in use. The error lists the conflicting routes.
pub(crate) fn free(candidates: &[Ipv4Net]) -> Result<Ipv4Net> {
    let routes = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    pick(candidates, &routes)
}

fn pick(candidates: &[Ipv4Net], routes: &str) -> Result<Ipv4Net> {
    let used = routes_of(routes);
    let mut clashes = Vec::new();
    for candidate in candidates {
        match used.iter().find(|route| overlap(route.subnet, *candidate)) {
            None => return Ok(*candidate),
            Some(Route { subnet, interface }) => clashes.push(format!("{candidate} by {subnet} on {interface}")),
        }
    }
    bail!(
        "every address range for the container network is in use ({}): add a free one to `networks` in the \
         declaration",
        clashes.join(", ")
    )
}

/// Whether two subnets share an address. If so, one subnet contains the other.
fn overlap(one: Ipv4Net, other: Ipv4Net) -> bool {
    one.contains(&other) || other.contains(&one)
}

/// A route of this machine.
struct Route {
    subnet: Ipv4Net,
    interface: String,
}

/// Parses the format of `/proc/net/route`. Leaves out the default route.
fn routes_of(text: &str) -> Vec<Route> {
    let little_endian = |hex: &str| u32::from_str_radix(hex, 16).ok().map(u32::swap_bytes);
    let lines = text.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let address = Ipv4Addr::from(little_endian(fields.get(1)?)?);
        let mask = Ipv4Addr::from(little_endian(fields.get(7)?)?);
        let subnet = Ipv4Net::with_netmask(address, mask).ok()?;
        Some(Route { subnet, interface: (*fields.first()?).to_owned() })
    });
    lines.filter(|route| route.subnet.prefix_len() > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTES: &str = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
                          eth0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                          vpn0\t0000E70A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n";

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    #[test]
    fn a_range_that_a_route_uses_is_passed_over() {
        let candidates = [net("10.231.0.0/24"), net("10.232.0.0/24")];
        assert_eq!(pick(&candidates, ROUTES).unwrap(), candidates[1]);
        let error = pick(&candidates[..1], ROUTES).unwrap_err().to_string();
        assert!(error.contains("10.231.0.0/16 on vpn0"), "{error}");
    }

    #[test]
    fn a_route_inside_a_candidate_counts_as_well() {
        let error = pick(&[net("10.0.0.0/8")], ROUTES).unwrap_err().to_string();
        assert!(error.contains("10.0.0.0/8 by 10.231.0.0/16"), "{error}");
    }

    #[test]
    fn nodes_and_the_engine_take_from_different_halves() {
        let halves = Halves::of(net("10.231.0.0/24")).unwrap();
        assert_eq!(halves.engine.to_string(), "10.231.0.128/25");
        let ClusterAddresses { nodes, ingress, eastwest, prefix } = halves.cluster(1).unwrap();
        assert_eq!((ingress.as_str(), eastwest.as_str(), prefix), ("10.231.0.21", "10.231.0.22", 24));
        assert_eq!(nodes[..2], ["10.231.0.20", "10.231.0.23"]);
        assert_eq!(nodes.last().unwrap(), "10.231.0.29");
        let error = halves.cluster(12).unwrap_err().to_string();
        assert!(error.contains("10.231.0.0/25 is too small for 13 clusters"), "{error}");
        assert!(Halves::of(net("10.0.0.1/32")).is_err());
    }
}
