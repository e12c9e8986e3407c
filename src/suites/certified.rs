//! A probe whose certificates a test makes and replaces, in place of istiod. A container puts them where the agent looks
//! before it asks istiod, and the agent reads them again when they change.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::cluster::{Cluster, Seen, Workload, eventually};
use crate::identity::{Certificate, ClientCertificate, SpiffeId};
use crate::istio::secrets;
use crate::probe;
use crate::scope::{CopiedProbe, Error, Result};

/// Where the agent looks for certificates, and the volume that the injector mounts there.
const CREDENTIALS: &str = "/var/run/secrets/workload-spiffe-credentials";
const VOLUME: &str = "workload-certs";

/// Container that replaces certificates.
const CONTAINER: &str = "certificates";

/// Does nothing until the end of the pod.
pub const IDLE: &str = "trap exit TERM; sleep 86400 & wait";

/// Longest wait for a proxy to use new certificates.
const USED: Duration = Duration::from_secs(20);

/// The certificates of a proxy.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The proxy's own chain, leaf first, PEM.
    pub chain_pem: String,
    /// Its private key, PEM.
    pub key_pem: String,
    /// The roots that it trusts, PEM.
    pub roots_pem: String,
}

impl fmt::Debug for Credentials {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("chain_pem", &self.chain_pem).finish_non_exhaustive()
    }
}

impl Credentials {
    /// A certificate, and the roots that its owner trusts.
    pub fn new(ClientCertificate { chain_pem, key_pem }: ClientCertificate, roots_pem: impl Into<String>) -> Self {
        Self { chain_pem, key_pem, roots_pem: roots_pem.into() }
    }

    /// The three files. The chain is last: the agent reads the key when the chain changes.
    fn files(&self) -> [(&'static str, &str); 3] {
        [("root-cert.pem", &self.roots_pem), ("key.pem", &self.key_pem), ("cert-chain.pem", &self.chain_pem)]
    }

    /// Replaces the certificates of a [certified](certify) probe, and waits until its proxy uses them. Connections that
    /// are open stay as they are.
    ///
    /// # Errors
    /// [`Error::Cluster`]: the files cannot be written, or the proxy does not use them in time.
    pub async fn replace(&self, of: &Workload) -> Result<()> {
        for (name, text) in self.files() {
            // The agent watches the file and not its name, so the file stays.
            let write = format!("cat > {CREDENTIALS}/{name}");
            of.cluster.exec(of.container(CONTAINER), &["sh", "-c", &write], Some(text.as_bytes())).await?;
        }
        self.used_by(of).await
    }

    /// Waits until the proxy of a workload uses these certificates.
    ///
    /// # Errors
    /// [`NotInTime`](crate::cluster::Error::NotInTime).
    pub async fn used_by(&self, of: &Workload) -> Result<()> {
        let chain = Certificate::all_from_pem("a chain", &self.chain_pem)?;
        let roots = Certificate::all_from_pem("roots", &self.roots_pem)?;
        let used = eventually(format!("the proxy of {of} to use its new certificates"), USED, async || {
            let now = secrets(of).await?;
            // The agent sorts a bundle of roots.
            let has_roots = now.roots.len() == roots.len() && roots.iter().all(|root| now.roots.contains(root));
            let has_chain = now.chain == chain;
            let seen = || format!("it {} its chain and {} its roots", has(has_chain), has(has_roots));
            Ok::<_, crate::cluster::Error>(if has_chain && has_roots { Seen::Yes(()) } else { Seen::NotYet(seen()) })
        });
        Ok(used.await?)
    }
}

fn has(new: bool) -> &'static str {
    if new { "has" } else { "has not" }
}

/// The identity of a copied probe.
pub fn identity_of(copy: &CopiedProbe, trust_domain: &str) -> SpiffeId {
    let text = |pointer: &str| copy.account.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    SpiffeId::workload(trust_domain, &text("/metadata/namespace"), &text("/metadata/name"))
}

/// The image of a cluster's proxies: it has a shell.
#[derive(Debug, Clone)]
pub struct ProxyImage {
    image: Option<String>,
    pull_policy: Option<String>,
}

impl ProxyImage {
    /// The image of the proxy beside the cluster's meshed probe.
    ///
    /// # Errors
    /// [`Error::Cluster`].
    pub async fn of(cluster: &Arc<Cluster>) -> Result<Self> {
        let Workload { namespace, pod, .. } = probe::meshed(cluster).await?;
        let found = cluster.api::<Pod>(&namespace).get(&pod).await;
        let found = found.map_err(cluster.failed(format!("read pod {namespace}/{pod}")))?;
        let proxy = &cluster.record().istio.proxy.container;
        let spec = found.spec.unwrap_or_default();
        let mut containers = spec.init_containers.into_iter().flatten().chain(spec.containers);
        let model = containers.find(|container| container.name == *proxy);
        let model = model.ok_or_else(|| Error::suite(format!("pod {namespace}/{pod} has no container {proxy}")))?;
        Ok(Self { image: model.image, pull_policy: model.image_pull_policy })
    }

    /// A container `name` that runs `command` in a shell. It complies with Pod Security `restricted`.
    pub fn container(&self, name: &str, command: &str) -> Value {
        json!({
            "name": name, "image": self.image, "imagePullPolicy": self.pull_policy, "command": ["sh", "-c", command],
            "securityContext": {
                "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] },
                "runAsNonRoot": true, "runAsUser": 1337, "seccompProfile": { "type": "RuntimeDefault" },
            },
        })
    }
}

/// Gives the probe these certificates, before it is deployed.
pub fn certify(copy: &mut CopiedProbe, image: &ProxyImage, credentials: &Credentials) {
    let files = credentials.files();
    let variable = |name: &str| name.to_uppercase().replace(['-', '.'], "_");
    let environment: Vec<Value> =
        files.iter().map(|(name, text)| json!({ "name": variable(name), "value": text })).collect();
    let writes = files.map(|(name, _)| format!("printf %s \"${}\" > {CREDENTIALS}/{name}", variable(name)));
    let template = &mut copy.deployment["spec"]["template"];
    // A native sidecar starts before all other init containers, and looks for certificates once.
    template["metadata"]["annotations"]["sidecar.istio.io/nativeSidecar"] = "false".into();
    // With certificates of its own, the agent must be told by what root it knows istiod.
    let metadata = json!({ "proxyMetadata": { "XDS_ROOT_CA": "/var/run/secrets/istio/root-cert.pem" } });
    template["metadata"]["annotations"]["proxy.istio.io/config"] = metadata.to_string().into();
    let template = &mut template["spec"];
    let mut first = image.container("certificates-first", &writes.join(" && "));
    first["env"] = environment.into();
    let mut standing = image.container(CONTAINER, IDLE);
    for container in [&mut first, &mut standing] {
        container["volumeMounts"] = json!([{ "name": VOLUME, "mountPath": CREDENTIALS }]);
    }
    template["initContainers"] = json!([first]);
    if let Some(containers) = template["containers"].as_array_mut() {
        containers.push(standing);
    }
    // The injector adds the same volume, and leaves this one as it is.
    template["volumes"] = json!([{ "name": VOLUME, "emptyDir": {} }]);
}
