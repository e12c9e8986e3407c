//! Makes the images that run inside the clusters from the artifacts.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::REPOSITORY;
use super::archive::{Image, Layer, LayerFile};
use super::go::POLICY_AGENT;
use super::workload::Program;
use crate::versions::Versions;

/// Directories of the artifacts in the platform's images.
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

/// Directories of the artifacts in the images of the declared agents.
#[derive(Debug, Clone)]
pub(crate) struct AgentParts {
    /// Istio's programs, if its CNI agent is declared.
    pub(crate) cni: Option<PathBuf>,
    pub(crate) network_policies: Option<PathBuf>,
}

impl AgentParts {
    /// Whether no agent is declared.
    pub(crate) fn is_empty(&self) -> bool {
        self.cni.is_none() && self.network_policies.is_none()
    }
}

/// File of the dynamic module in the proxies' image. Envoy looks for `multibuffer_tls` under this name.
pub(crate) const MULTIBUFFER_TLS: &str = "libmultibuffer_tls.so";

/// The images of Kubernetes and Istio. Writes their layers into `directory`.
///
/// # Errors
/// Fails if a part is missing or a layer cannot be written.
pub(crate) fn platform(parts: &Parts, versions: &Versions, directory: &Path) -> Result<Vec<Image>> {
    let base = Layer::of(parts.pod_rootfs.join("rootfs.tar"))?;
    let recipes = kubernetes(parts, versions).into_iter().chain(mesh(parts, versions)).chain(tools(parts, versions));
    recipes.map(|recipe| recipe.make(&base, directory)).collect()
}

/// The images of the declared agents. Writes their layers into `directory`.
///
/// # Errors
/// Fails as [`platform`] does.
pub(crate) fn agents(parts: &Parts, agents: &AgentParts, versions: &Versions, directory: &Path) -> Result<Vec<Image>> {
    let base = Layer::of(parts.pod_rootfs.join("rootfs.tar"))?;
    let cni = agents.cni.as_ref().map(|istio| {
        let at = "/usr/local/bin/install-cni";
        let install = Recipe::of_program("install-cni", versions.istio.version.clone(), at, istio.join("install-cni"));
        // The agent copies the plugin from here to the node, and repairs pods with the base's iptables.
        install.on_base().file(LayerFile::executable("/opt/cni/bin/istio-cni", istio.join("istio-cni")))
    });
    let policies = agents.network_policies.as_ref().map(|directory| {
        let tag = format!("v{}", versions.network_policies.version);
        let at = "/usr/local/bin/kube-network-policies";
        // Its script needs the base's iptables.
        Recipe::of_program(POLICY_AGENT, tag, at, directory.join(POLICY_AGENT)).on_base()
    });
    [cni, policies].into_iter().flatten().map(|recipe| recipe.make(&base, directory)).collect()
}

/// How to make one image.
struct Recipe {
    name: &'static str,
    tag: String,
    /// Whether the image is based on the pods' root file system, which has a shell, iptables and redis.
    on_base: bool,
    files: Vec<LayerFile>,
    entrypoint: Vec<&'static str>,
    /// Numeric user and group. `""` for root.
    user: &'static str,
}

impl Recipe {
    /// An image that contains only one program and runs the program.
    fn of_program(name: &'static str, tag: String, at: &'static str, program: PathBuf) -> Self {
        let files = vec![LayerFile::executable(at, program)];
        Self { name, tag, on_base: false, files, entrypoint: vec![at], user: "" }
    }

    fn on_base(self) -> Self {
        Self { on_base: true, ..self }
    }

    fn file(mut self, file: LayerFile) -> Self {
        self.files.push(file);
        self
    }

    fn user(self, user: &'static str) -> Self {
        Self { user, ..self }
    }

    fn entrypoint(self, entrypoint: &[&'static str]) -> Self {
        Self { entrypoint: entrypoint.to_vec(), ..self }
    }

    fn make(self, base: &Layer, directory: &Path) -> Result<Image> {
        let mut layers = Vec::new();
        if self.on_base {
            layers.push(base.clone());
        }
        if !self.files.is_empty() {
            layers.push(Layer::write(directory.join(format!("{}.tar", self.name)), &self.files)?);
        }
        Ok(Image {
            reference: format!("{REPOSITORY}/{}:{}", self.name, self.tag),
            layers,
            entrypoint: self.entrypoint.into_iter().map(str::to_owned).collect(),
            user: self.user.to_owned(),
        })
    }
}

/// The images that a Kubernetes control plane and its nodes run.
fn kubernetes(parts: &Parts, versions: &Versions) -> Vec<Recipe> {
    let tag = format!("v{}", versions.kubernetes.version);
    let component = |name, at| Recipe::of_program(name, tag.clone(), at, parts.kubernetes.join(name));
    let etcd = format!("v{}", versions.etcd.version);
    let coredns = format!("v{}", versions.coredns.version);
    vec![
        Recipe {
            name: "pause",
            tag: "1".into(),
            on_base: true,
            files: Vec::new(),
            entrypoint: vec!["/usr/bin/tini", "--", "/usr/bin/sleep", "infinity"],
            user: "65535:65535",
        },
        component("kube-apiserver", "/usr/local/bin/kube-apiserver"),
        component("kube-controller-manager", "/usr/local/bin/kube-controller-manager"),
        component("kube-scheduler", "/usr/local/bin/kube-scheduler"),
        // kube-proxy needs iptables.
        component("kube-proxy", "/usr/local/bin/kube-proxy").on_base(),
        Recipe::of_program("etcd", etcd, "/usr/local/bin/etcd", parts.etcd.join("etcd")),
        Recipe::of_program("coredns", coredns, "/coredns", parts.coredns.join("coredns")),
    ]
}

/// The images of Istio's control plane and proxies.
fn mesh(parts: &Parts, versions: &Versions) -> Vec<Recipe> {
    let tag = &versions.istio.version;
    let pilot = parts.istio.join("pilot-discovery");
    let pilot = Recipe::of_program("pilot", tag.clone(), "/usr/local/bin/pilot-discovery", pilot);
    let agent = "/usr/local/bin/pilot-agent";
    let proxy = Recipe {
        name: "proxyv2",
        tag: tag.clone(),
        on_base: true,
        files: vec![
            LayerFile::executable(agent, parts.istio.join("pilot-agent")),
            LayerFile::executable("/usr/local/bin/envoy", parts.envoy.join("envoy")),
            LayerFile::readable(
                format!("/usr/local/lib/envoy/{MULTIBUFFER_TLS}"),
                parts.multibuffer_tls.join(MULTIBUFFER_TLS),
            ),
            LayerFile::readable(
                "/var/lib/istio/envoy/envoy_bootstrap_tmpl.json",
                parts.istio.join("envoy_bootstrap_tmpl.json"),
            ),
        ],
        entrypoint: vec![agent],
        user: "1337:1337",
    };
    vec![pilot.on_base().user("1337:1337"), proxy]
}

/// The images of third-party programs for workloads or suites.
fn tools(parts: &Parts, versions: &Versions) -> Vec<Recipe> {
    let redis = Recipe {
        name: "redis",
        tag: "1".into(),
        on_base: true,
        files: Vec::new(),
        entrypoint: vec!["/usr/bin/redis-server"],
        user: "65532:65532",
    };
    let at = "/usr/bin/fortio";
    let fortio = Recipe::of_program("fortio", versions.fortio.version.clone(), at, parts.fortio.join("fortio"));
    // fortio needs the base's shell: a suite uses the shell to read the container's resource usage.
    let fortio = fortio.on_base().entrypoint(&[at, "server"]).user("1337:1337");
    let k6 = Recipe::of_program("k6", versions.k6.version.clone(), "/usr/local/bin/k6", parts.k6.join("k6"));
    // The container sleeps until a suite runs k6 in it, through the base's shell.
    let k6 = k6.on_base().entrypoint(&["/usr/bin/tini", "--", "/usr/bin/sleep", "infinity"]).user("65532:65532");
    vec![redis, fortio, k6]
}

/// The image of one of the project's own programs. The image contains only the static binary.
///
/// # Errors
/// Fails if the layer cannot be written.
pub(crate) fn workload(program: &Program, directory: &Path) -> Result<Image> {
    let path = format!("/{}", program.name);
    let layer = Layer::write(
        directory.join(format!("{}.tar", program.name)),
        &[LayerFile::executable(&path, &program.binary)],
    )?;
    Ok(Image {
        reference: program.image(),
        layers: vec![layer],
        entrypoint: vec![path],
        user: "65532:65532".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parts with stand-ins for all programs, in a directory of their own.
    fn parts(source: &Path) -> Parts {
        std::fs::create_dir(source).unwrap();
        for file in
            "rootfs.tar kube-apiserver kube-controller-manager kube-scheduler kube-proxy etcd coredns pilot-discovery \
                     pilot-agent envoy envoy_bootstrap_tmpl.json fortio k6 install-cni istio-cni kube-network-policies"
                .split_whitespace()
                .chain([MULTIBUFFER_TLS])
        {
            std::fs::write(source.join(file), file).unwrap();
        }
        let part = || source.to_owned();
        Parts {
            pod_rootfs: part(),
            kubernetes: part(),
            etcd: part(),
            coredns: part(),
            istio: part(),
            envoy: part(),
            fortio: part(),
            k6: part(),
            multibuffer_tls: part(),
        }
    }

    fn told(image: &Image) -> String {
        let name = image.reference.strip_prefix("meshproof.local/").unwrap();
        format!("{name} | {} | {} | {} layers", image.entrypoint.join(" "), image.user, image.layers.len())
    }

    #[test]
    fn only_declared_agents_have_images() {
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("parts");
        let parts = parts(&source);
        let versions = Versions::read().unwrap();
        let images = |cni: bool, network_policies: bool| {
            let part = |declared: bool| declared.then(|| source.clone());
            let declared = AgentParts { cni: part(cni), network_policies: part(network_policies) };
            let images = agents(&parts, &declared, &versions, directory.path()).unwrap();
            images.iter().map(told).collect::<Vec<_>>()
        };
        let cni = format!("install-cni:{} | /usr/local/bin/install-cni |  | 2 layers", versions.istio.version);
        let program = "/usr/local/bin/kube-network-policies";
        let tag = &versions.network_policies.version;
        let policies = format!("kube-network-policies:v{tag} | {program} |  | 2 layers");
        assert_eq!(images(true, true), [cni, policies.clone()]);
        assert_eq!(images(false, true), [policies]);
        assert_eq!(images(false, false), Vec::<String>::new());
    }

    #[test]
    fn every_image_of_the_platform_has_its_tag_its_user_and_what_it_runs() {
        let directory = tempfile::tempdir().unwrap();
        let parts = parts(&directory.path().join("parts"));
        let versions = Versions::read().unwrap();
        let images = platform(&parts, &versions, directory.path()).unwrap();
        let Versions { kubernetes, etcd, coredns, istio, fortio, k6, .. } = &versions;
        let (kubernetes, etcd, coredns) = (&kubernetes.version, &etcd.version, &coredns.version);
        let (istio, fortio, k6) = (&istio.version, &fortio.version, &k6.version);
        let sleep = "/usr/bin/tini -- /usr/bin/sleep infinity";
        let owed = [
            format!("pause:1 | {sleep} | 65535:65535 | 1 layers"),
            format!("kube-apiserver:v{kubernetes} | /usr/local/bin/kube-apiserver |  | 1 layers"),
            format!("kube-controller-manager:v{kubernetes} | /usr/local/bin/kube-controller-manager |  | 1 layers"),
            format!("kube-scheduler:v{kubernetes} | /usr/local/bin/kube-scheduler |  | 1 layers"),
            format!("kube-proxy:v{kubernetes} | /usr/local/bin/kube-proxy |  | 2 layers"),
            format!("etcd:v{etcd} | /usr/local/bin/etcd |  | 1 layers"),
            format!("coredns:v{coredns} | /coredns |  | 1 layers"),
            format!("pilot:{istio} | /usr/local/bin/pilot-discovery | 1337:1337 | 2 layers"),
            format!("proxyv2:{istio} | /usr/local/bin/pilot-agent | 1337:1337 | 2 layers"),
            "redis:1 | /usr/bin/redis-server | 65532:65532 | 1 layers".to_owned(),
            format!("fortio:{fortio} | /usr/bin/fortio server | 1337:1337 | 2 layers"),
            format!("k6:{k6} | {sleep} | 65532:65532 | 2 layers"),
        ];
        assert_eq!(images.iter().map(told).collect::<Vec<_>>(), owed);
    }
}
