//! Addresses on the container network. The engine hands out addresses in the order in which containers start; a
//! cluster's certificates and remote secrets need ones that never change, so nodes take their own.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, bail};

/// An IPv4 subnet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subnet {
    address: Ipv4Addr,
    prefix: u8,
}

/// The addresses of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeAddresses {
    /// Of the node itself.
    pub(crate) node: String,
    /// Of the ingress gateway's service.
    pub(crate) ingress: String,
    /// Of the east-west gateway's service.
    pub(crate) eastwest: String,
    /// Length of the subnet's prefix.
    pub(crate) prefix: u8,
}

impl Subnet {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let parse = || Some((text.split_once('/')?.0.parse().ok()?, text.split_once('/')?.1.parse().ok()?));
        let (address, prefix): (Ipv4Addr, u8) =
            parse().with_context(|| format!("`{text}` is not a subnet such as 10.0.0.0/24"))?;
        if prefix > 32 {
            bail!("`{text}` is not a subnet: its prefix is longer than 32");
        }
        Ok(Self { address, prefix })
    }

    fn bounds(self) -> (u32, u32) {
        let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
        let first = u32::from(self.address) & mask;
        (first, first | !mask)
    }

    fn overlaps(self, other: Self) -> bool {
        let ((first, last), (other_first, other_last)) = (self.bounds(), other.bounds());
        first <= other_last && other_first <= last
    }

    fn host(self, number: u32) -> String {
        Ipv4Addr::from(self.bounds().0 + number).to_string()
    }

    /// The half of the subnet from which the engine assigns addresses; nodes take theirs from the other.
    pub(crate) fn engine_range(self) -> String {
        let (first, last) = self.bounds();
        format!("{}/{}", Ipv4Addr::from(first + (last - first).div_ceil(2)), self.prefix + 1)
    }

    /// Addresses of the node with this number, counted from 0.
    pub(crate) fn node(self, number: usize) -> NodeAddresses {
        let base = 10 * (u32::try_from(number).unwrap_or(0) + 1);
        NodeAddresses {
            node: self.host(base),
            ingress: self.host(base + 1),
            eastwest: self.host(base + 2),
            prefix: self.prefix,
        }
    }
}

/// The first of `candidates` that overlaps none of this machine's routes.
///
/// # Errors
/// Where all of them are in use, with the routes at fault.
pub(crate) fn free(candidates: &[String]) -> Result<String> {
    let routes = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    pick(candidates, &routes)
}

fn pick(candidates: &[String], routes: &str) -> Result<String> {
    let used = routes_of(routes);
    let mut clashes = Vec::new();
    for candidate in candidates {
        let subnet = Subnet::parse(candidate)?;
        match used.iter().find(|(route, _)| route.overlaps(subnet)) {
            None => return Ok(candidate.clone()),
            Some((route, interface)) => {
                clashes.push(format!("{candidate} by {}/{} on {interface}", route.address, route.prefix));
            }
        }
    }
    bail!(
        "every address range for the container network is in use ({}): add a free one to `networks` in \
         fixtures/clusters/local.toml",
        clashes.join(", ")
    )
}

/// The routes in the format of `/proc/net/route`, without the default one.
fn routes_of(text: &str) -> Vec<(Subnet, String)> {
    let little_endian = |hex: &str| u32::from_str_radix(hex, 16).ok().map(u32::swap_bytes);
    let lines = text.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let address = Ipv4Addr::from(little_endian(fields.get(1)?)?);
        let prefix = u8::try_from(little_endian(fields.get(7)?)?.count_ones()).ok()?;
        Some((Subnet { address, prefix }, (*fields.first()?).to_owned()))
    });
    lines.filter(|(subnet, _)| subnet.prefix > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTES: &str = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
                          eth0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                          vpn0\t0000E70A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n";

    #[test]
    fn a_range_that_a_route_uses_is_passed_over() {
        let candidates = ["10.231.0.0/24".to_owned(), "10.232.0.0/24".to_owned()];
        assert_eq!(pick(&candidates, ROUTES).unwrap(), "10.232.0.0/24");
        let error = pick(&candidates[..1], ROUTES).unwrap_err().to_string();
        assert!(error.contains("10.231.0.0/16 on vpn0"), "{error}");
    }

    #[test]
    fn nodes_and_the_engine_take_from_different_halves() {
        let subnet = Subnet::parse("10.231.0.0/24").unwrap();
        assert_eq!(subnet.engine_range(), "10.231.0.128/25");
        assert_eq!(subnet.node(1).eastwest, "10.231.0.22");
        assert!(Subnet::parse("10.231.0.0/33").is_err());
        assert!(Subnet::parse("here").is_err());
    }
}
