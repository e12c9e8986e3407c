//! The images that run inside the clusters, made of the artifacts.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::archive::{Image, Layer};
use crate::versions::Versions;

/// Repository of every image made here. It resolves nowhere, on purpose: an image that is not baked in must fail.
pub(crate) const REPOSITORY: &str = "meshproof.local";

/// Directories of the artifacts that the platform's images are made of.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    pub(crate) pod_rootfs: PathBuf,
    pub(crate) kubernetes: PathBuf,
    pub(crate) etcd: PathBuf,
    pub(crate) coredns: PathBuf,
    pub(crate) istio: PathBuf,
    pub(crate) envoy: PathBuf,
    pub(crate) fortio: PathBuf,
    pub(crate) k6: PathBuf,
    pub(crate) multibuffer_tls: PathBuf,
}

/// File of the module that the proxies' image carries, by the name under which Envoy looks for `multibuffer_tls`.
pub(crate) const MULTIBUFFER_TLS: &str = "libmultibuffer_tls.so";

/// The images of Kubernetes and Istio; layers are written into `directory`.
///
/// # Errors
/// Where a part is missing or a layer cannot be written.
pub(crate) fn platform(parts: &Parts, versions: &Versions, directory: &Path) -> Result<Vec<Image>> {
    let base = Layer::of(parts.pod_rootfs.join("rootfs.tar"))?;
    let mut images = Vec::new();
    let mut add =
        |name: &str, tag: &str, base: Option<&Layer>, files: &[(&str, &Path, u32)], entrypoint: &[&str], user: &str| {
            let mut layers: Vec<Layer> = base.cloned().into_iter().collect();
            if !files.is_empty() {
                layers.push(Layer::write(directory.join(format!("{name}.tar")), files)?);
            }
            images.push(Image {
                reference: format!("{REPOSITORY}/{name}:{tag}"),
                layers,
                entrypoint: entrypoint.iter().map(|&word| word.to_owned()).collect(),
                user: user.to_owned(),
            });
            anyhow::Ok(())
        };

    add("pause", "1", Some(&base), &[], &["/usr/bin/tini", "--", "/usr/bin/sleep", "infinity"], "65535:65535")?;

    let kubernetes = format!("v{}", versions.kubernetes.version);
    for name in ["kube-apiserver", "kube-controller-manager", "kube-scheduler"] {
        let path = format!("/usr/local/bin/{name}");
        add(name, &kubernetes, None, &[(&path, &parts.kubernetes.join(name), 0o755)], &[&path], "")?;
    }
    // The one that needs iptables.
    let path = "/usr/local/bin/kube-proxy";
    add("kube-proxy", &kubernetes, Some(&base), &[(path, &parts.kubernetes.join("kube-proxy"), 0o755)], &[path], "")?;

    let path = "/usr/local/bin/etcd";
    add("etcd", &format!("v{}", versions.etcd.version), None, &[(path, &parts.etcd.join("etcd"), 0o755)], &[path], "")?;
    let path = "/coredns";
    let tag = format!("v{}", versions.coredns.version);
    add("coredns", &tag, None, &[(path, &parts.coredns.join("coredns"), 0o755)], &[path], "")?;

    let istio = &versions.istio.version;
    let path = "/usr/local/bin/pilot-discovery";
    let binary = parts.istio.join("pilot-discovery");
    add("pilot", istio, Some(&base), &[(path, &binary, 0o755)], &[path], "1337:1337")?;
    let path = "/usr/local/bin/pilot-agent";
    let module = format!("/usr/local/lib/envoy/{MULTIBUFFER_TLS}");
    let proxy: [(&str, &Path, u32); 4] = [
        (path, &parts.istio.join("pilot-agent"), 0o755),
        ("/usr/local/bin/envoy", &parts.envoy.join("envoy"), 0o755),
        (&module, &parts.multibuffer_tls.join(MULTIBUFFER_TLS), 0o644),
        ("/var/lib/istio/envoy/envoy_bootstrap_tmpl.json", &parts.istio.join("envoy_bootstrap_tmpl.json"), 0o644),
    ];
    add("proxyv2", istio, Some(&base), &proxy, &[path], "1337:1337")?;

    add("redis", "1", Some(&base), &[], &["/usr/bin/redis-server"], "65532:65532")?;

    let path = "/usr/bin/fortio";
    let binary = parts.fortio.join("fortio");
    // On the base for its shell, by which a suite reads what the container has used.
    let tag = &versions.fortio.version;
    add("fortio", tag, Some(&base), &[(path, &binary, 0o755)], &[path, "server"], "1337:1337")?;

    // Waits to be told; what tells it needs a shell.
    let (path, binary) = ("/usr/local/bin/k6", parts.k6.join("k6"));
    let waiting = ["/usr/bin/tini", "--", "/usr/bin/sleep", "infinity"];
    add("k6", &versions.k6.version, Some(&base), &[(path, &binary, 0o755)], &waiting, "65532:65532")?;
    Ok(images)
}

/// The image of one of our own workloads: its static binary and nothing else.
///
/// # Errors
/// Where the layer cannot be written.
pub(crate) fn workload(name: &str, tag: &str, binary: &Path, directory: &Path) -> Result<Image> {
    let path = format!("/{name}");
    let layer = Layer::write(directory.join(format!("{name}.tar")), &[(&path, binary, 0o755)])?;
    Ok(Image {
        reference: format!("{REPOSITORY}/{name}:{tag}"),
        layers: vec![layer],
        entrypoint: vec![path],
        user: "65532:65532".to_owned(),
    })
}
