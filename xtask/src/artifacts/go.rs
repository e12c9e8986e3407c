//! Builds components from pinned Go modules: `fixtures/toolchain/*/go.mod`.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{Key, Store};
use crate::command::{Run, run};
use crate::paths;
use crate::versions::Versions;

/// One directory of `fixtures/toolchain`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Component {
    Coredns,
    Etcd,
    Fortio,
    Istio,
    Kubernetes,
    NetworkPolicies,
}

impl Component {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Coredns => "coredns",
            Self::Etcd => "etcd",
            Self::Fortio => "fortio",
            Self::Istio => "istio",
            Self::Kubernetes => "kubernetes",
            Self::NetworkPolicies => "network-policies",
        }
    }

    /// Linker arguments, which set the versions of Kubernetes and Istio.
    fn linker_flags(self, versions: &Versions) -> String {
        let stripped = "-s -w";
        match self {
            Self::Kubernetes => {
                let version = &versions.kubernetes.version;
                let mut parts = version.split('.');
                let (major, minor) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
                let package = "k8s.io/component-base/version";
                format!(
                    "{stripped} -X {package}.gitVersion=v{version} -X {package}.gitMajor={major} \
                     -X {package}.gitMinor={minor}"
                )
            }
            Self::Istio => format!("{stripped} -X istio.io/istio/pkg/version.buildVersion={}", versions.istio.version),
            Self::Coredns | Self::Etcd | Self::Fortio | Self::NetworkPolicies => stripped.to_owned(),
        }
    }
}

/// Name of the program of [`Component::NetworkPolicies`].
pub(crate) const POLICY_AGENT: &str = "kube-network-policies";

/// Group of the Gateway API.
const GROUP: &str = "gateway.networking.k8s.io";

/// The kinds of the Gateway API that the suites use, and grants, which Istio reads with them.
const DEFINED: [&str; 6] = ["gatewayclasses", "gateways", "httproutes", "grpcroutes", "tlsroutes", "referencegrants"];

/// The oldest Go version that fetches another Go version if a module requires it.
const OLDEST_BOOTSTRAP: (u32, u32) = (1, 21);

/// A Go that can fetch the pinned Go: the Go of this machine, or Debian's in the cache.
///
/// # Errors
/// Fails if this machine has no such Go and Debian's cannot be fetched.
pub(crate) async fn bootstrap(store: &Store, versions: &Versions) -> Result<PathBuf> {
    let local = run("go").args(["env", "GOVERSION"]).env("GOTOOLCHAIN", "local").stdout().await;
    if local.is_ok_and(|version| release(version.trim()) >= Some(OLDEST_BOOTSTRAP)) {
        return Ok("go".into());
    }
    super::debian::go(store, &versions.debian.suite).await
}

/// Major and minor number of a version such as `go1.26.8`.
fn release(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.strip_prefix("go")?.split('.');
    let minor: String = numbers.clone().nth(1)?.chars().take_while(char::is_ascii_digit).collect();
    Some((numbers.next()?.parse().ok()?, minor.parse().ok()?))
}

/// Builds every tool of `component`, and returns the directory of the tools.
///
/// # Errors
/// Fails if Go is missing, a module cannot be fetched, or the component does not compile.
pub(crate) async fn build(
    store: &Store,
    versions: &Versions,
    bootstrap: &Path,
    component: Component,
) -> Result<PathBuf> {
    let source = paths::fixture("toolchain").join(component.name());
    let flags = component.linker_flags(versions);
    let key = Key::new("go 2").directory(&source)?.text(&versions.go.version).text(&flags).finish();
    store
        .get(component.name(), &key, |output| async move {
            let go = |arguments: &[&str]| go(bootstrap, versions, &source, arguments);
            go(&["build", "-trimpath", "-ldflags", &flags, "-o"])
                .arg(format!("{}/", output.display()))
                .arg("tool")
                .ok()
                .await?;
            // Go names a binary after its package.
            match component {
                Component::Etcd => std::fs::rename(output.join("server"), output.join("etcd"))?,
                Component::NetworkPolicies => std::fs::rename(output.join("cmd"), output.join(POLICY_AGENT))?,
                _ => {}
            }
            if component == Component::Istio {
                // The agent fills in this Envoy bootstrap. The file belongs to the module and is not in a binary.
                let module = go(&["list", "-m", "-f", "{{.Dir}}", "istio.io/istio"]).stdout().await?;
                let template = PathBuf::from(module.trim()).join("tools/packaging/common/envoy_bootstrap.json");
                std::fs::write(output.join("envoy_bootstrap_tmpl.json"), paths::read(&template)?)?;
            }
            Ok(())
        })
        .await
}

/// Name of the file of [`gateway_api`].
pub(crate) const GATEWAY_API: &str = "gateway-api.yaml";

/// The resource definitions of the Gateway API's standard channel, of the version that Istio is built with. Returns the
/// directory of [`GATEWAY_API`].
///
/// # Errors
/// Fails if the module cannot be fetched.
pub(crate) async fn gateway_api(store: &Store, versions: &Versions, bootstrap: &Path) -> Result<PathBuf> {
    let source = paths::fixture("toolchain").join(Component::Istio.name());
    let key = Key::new("gateway api 1").directory(&source)?.text(&versions.go.version).finish();
    store
        .get("gateway-api", &key, |output| async move {
            let module = "sigs.k8s.io/gateway-api";
            go(bootstrap, versions, &source, &["mod", "download", module]).ok().await?;
            let module = go(bootstrap, versions, &source, &["list", "-m", "-f", "{{.Dir}}", module]).stdout().await?;
            let directory = PathBuf::from(module.trim()).join("config/crd/standard");
            let definitions = DEFINED.map(|kinds| paths::read(&directory.join(format!("{GROUP}_{kinds}.yaml"))));
            let definitions = definitions.into_iter().collect::<Result<Vec<_>>>()?;
            std::fs::write(output.join(GATEWAY_API), definitions.join("\n---\n"))?;
            Ok(())
        })
        .await
}

/// A command of the pinned Go, in the directory of a component.
fn go(bootstrap: &Path, versions: &Versions, source: &Path, arguments: &[&str]) -> Run {
    run(bootstrap)
        .args(arguments)
        .current_dir(source)
        .env("GOTOOLCHAIN", format!("go{}", versions.go.version))
        .env("GOFLAGS", "-mod=readonly")
        .env("GOWORK", "off")
        .env("CGO_ENABLED", "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_go_that_cannot_fetch_another_is_told_from_one_that_can() {
        assert!(release("go1.26.8") >= Some(OLDEST_BOOTSTRAP));
        assert!(release("go1.27rc1") >= Some(OLDEST_BOOTSTRAP));
        assert!(release("go1.19.8") < Some(OLDEST_BOOTSTRAP));
        assert_eq!(release("devel"), None);
    }
}
