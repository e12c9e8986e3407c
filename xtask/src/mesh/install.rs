//! Installing and joining the control planes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Secret, Service};
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use meshproof::treatment::MultibufferTls;
use meshproof::{Seen, eventually, identity};
use serde_json::json;

use super::authority::{Authority, FILES};
use crate::artifacts::Artifacts;
use crate::artifacts::images::REPOSITORY;
use crate::command::run;
use crate::kubernetes;
use crate::local::node::{INGRESS_HTTP_PORT, INGRESS_HTTPS_PORT, Node};
use crate::progress::{self, Progress};
use crate::template::{self, Values};
use crate::versions::Versions;

/// Istio's `meshID`.
pub(crate) const MESH: &str = "mesh1";

/// Istio's default trust domain.
pub(crate) const TRUST_DOMAIN: &str = "cluster.local";

/// Namespace of the control plane and the gateways.
pub(crate) const SYSTEM: &str = "istio-system";

/// Namespace of what is timed, where it has proxies.
const PERF: &str = "meshproof-perf";

/// Istio's `privateKeyProvider` where Envoy has `cryptomb`: how long a signature waits for others at most, and no falling back.
const CRYPTOMB: &str = "{cryptomb: {pollDelay: 1ms, fallback: false}}";

/// Bound on one deployment becoming available, on a busy two-core machine.
pub(super) const BOUND: Duration = Duration::from_secs(180);

/// The mesh's side of one cluster.
pub(crate) struct Member<'a> {
    pub(crate) node: &'a Node,
    pub(crate) client: kube::Client,
    pub(crate) istioctl: PathBuf,
    pub(crate) progress: &'a Progress,
    pub(super) values: Values,
    /// Fixture of the treated arm at the echo gateway.
    multibuffer_tls: &'static str,
}

impl<'a> Member<'a> {
    pub(crate) fn new(
        node: &'a Node,
        client: kube::Client,
        progress: &'a Progress,
        versions: &Versions,
        artifacts: &Artifacts,
    ) -> Self {
        let (images, istioctl) = (&artifacts.images, artifacts.istioctl.clone());
        let (provider, flush, multibuffer_tls) = match artifacts.cryptomb {
            true => (CRYPTOMB, "1s", "perf/private-key-provider.yaml"),
            // As Istio has it.
            false => ("null", "5s", "perf/multibuffer-tls.yaml"),
        };
        let values = Values::from([
            ("CLUSTER", node.definition.name.clone()),
            ("NETWORK", node.definition.network.clone()),
            ("DNS_ADDRESS", node.definition.dns_address.clone()),
            ("MESH", MESH.to_owned()),
            ("IMAGES", REPOSITORY.to_owned()),
            ("ISTIO_VERSION", versions.istio.version.clone()),
            ("COREDNS_VERSION", versions.coredns.version.clone()),
            ("INGRESS_HTTP_PORT", INGRESS_HTTP_PORT.to_string()),
            ("INGRESS_HTTPS_PORT", INGRESS_HTTPS_PORT.to_string()),
            ("PROBE_IMAGE", images.probe.clone()),
            ("BOUTIQUE_IMAGE", images.boutique.clone()),
            ("FORTIO_VERSION", versions.fortio.version.clone()),
            ("K6_VERSION", versions.k6.version.clone()),
            ("LOAD_IMAGE", images.load.clone()),
            ("TCP_BYPASS_IMAGE", images.tcp_bypass.clone()),
            // Where a node's control groups of version 2 are, below /sys/fs/cgroup.
            ("CGROUP2", "/unified".to_owned()),
            ("ECHO_STATS_FLUSH_INTERVAL", flush.to_owned()),
            ("PRIVATE_KEY_PROVIDER", provider.to_owned()),
            ("REDIS_IMAGE", format!("{REPOSITORY}/redis:1")),
        ]);
        Self { node, client, istioctl, progress, values, multibuffer_tls }
    }

    pub(super) async fn step(&self, name: &str, work: impl Future<Output = Result<()>>) -> Result<()> {
        self.progress.step(Some(self.node.name()), name, work).await
    }

    pub(super) async fn apply_fixture(&self, relative: &str) -> Result<()> {
        // Every time: it costs milliseconds, and what was changed by hand is put right.
        let yaml = template::fixture(relative, &self.values)?;
        kubernetes::apply(&self.client, &yaml).await.with_context(|| format!("fixtures/{relative}"))?;
        Ok(())
    }

    /// DNS, namespaces and the plug-in certificates: all that the control plane expects to find.
    pub(crate) async fn prepare(&self, authority: &Authority) -> Result<()> {
        self.step("DNS, namespaces, plug-in certificates", async {
            self.apply_fixture("mesh/namespaces.yaml").await?;
            self.plug_in_certificates(authority).await?;
            self.apply_fixture("clusters/coredns.yaml").await
        })
        .await
    }

    async fn plug_in_certificates(&self, authority: &Authority) -> Result<()> {
        let read = |name: &&str| {
            let contents = authority.read(self.node.name(), name)?;
            anyhow::Ok(((*name).to_owned(), ByteString(contents.into_bytes())))
        };
        let secret = Secret {
            metadata: ObjectMeta { name: Some("cacerts".into()), namespace: Some(SYSTEM.into()), ..Default::default() },
            data: Some(FILES.iter().map(read).collect::<Result<_>>()?),
            ..Default::default()
        };
        progress::count_command();
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), SYSTEM);
        let parameters = PatchParams::apply("meshproof").force();
        secrets.patch("cacerts", &parameters, &Patch::Apply(&secret)).await.context("cannot write secret cacerts")?;
        Ok(())
    }

    /// The certificate of the gateway at whose end of TLS something is timed: RSA-2048, as in the seed. Made once.
    async fn echo_credential(&self) -> Result<()> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), PERF);
        if secrets.get_opt(MultibufferTls::CREDENTIAL).await?.is_some() {
            return Ok(());
        }
        let (certificate, key) = identity::self_signed_rsa(&MultibufferTls::NAMES)?;
        let file = |name: &str, pem: String| (name.to_owned(), ByteString(pem.into_bytes()));
        let secret = Secret {
            metadata: ObjectMeta { name: Some(MultibufferTls::CREDENTIAL.into()), ..Default::default() },
            type_: Some("kubernetes.io/tls".into()),
            data: Some([file("tls.crt", certificate), file("tls.key", key)].into()),
            ..Default::default()
        };
        progress::count_command();
        secrets
            .create(&PostParams::default(), &secret)
            .await
            .with_context(|| format!("cannot write secret {}", MultibufferTls::CREDENTIAL))?;
        Ok(())
    }

    /// `istioctl install` of one IstioOperator file.
    async fn install(&self, relative: &str) -> Result<()> {
        let operator = template::fixture(relative, &self.values)?;
        let name = relative.rsplit('/').next().unwrap_or(relative);
        kubernetes::once(&self.client, name, &operator, async {
            let file = self.node.kubeconfig().with_file_name(name);
            std::fs::write(&file, &operator).with_context(|| format!("cannot write {}", file.display()))?;
            self.istioctl(&["install", "--skip-confirmation", "--readiness-timeout", "3m", "--filename"])
                .arg(&file)
                .ok()
                .await
        })
        .await
    }

    fn istioctl(&self, arguments: &[&str]) -> crate::command::Run {
        run(&self.istioctl).arg("--kubeconfig").arg(self.node.kubeconfig()).args(arguments)
    }

    /// istiod.
    pub(crate) async fn control_plane(&self) -> Result<()> {
        self.step("istiod", async {
            self.install("mesh/control-plane.yaml").await?;
            kubernetes::wait_for_deployment(&self.client, SYSTEM, "istiod", BOUND).await
        })
        .await
    }

    /// Puts right what tests left whose process ended before it could. After istiod, which injects the proxies of the pods that
    /// come back; before all that waits for deployments.
    pub(crate) async fn sweep(&self) -> Result<()> {
        self.step("leftovers of tests", async {
            let swept = meshproof::scope::sweep(&self.client, self.node.name()).await?;
            swept.iter().for_each(|_| progress::count_command());
            Ok(())
        })
        .await
    }

    /// Both gateways, with the addresses that a load balancer would give them.
    pub(crate) async fn gateways(&self) -> Result<()> {
        self.step("ingress and east-west gateway", async {
            let addresses = &self.node.addresses;
            tokio::try_join!(
                self.install("mesh/gateways.yaml"),
                self.assign("istio-ingressgateway", &addresses.ingress),
                self.assign("istio-eastwestgateway", &addresses.eastwest),
            )?;
            for gateway in ["istio-ingressgateway", "istio-eastwestgateway"] {
                kubernetes::revive(&self.client, SYSTEM, gateway).await?;
                kubernetes::wait_for_deployment(&self.client, SYSTEM, gateway, BOUND).await?;
            }
            Ok(())
        })
        .await
    }

    /// Does what a cloud's load balancer does: gives the service an address (one that the node has taken).
    async fn assign(&self, service: &str, address: &str) -> Result<()> {
        let services: Api<Service> = Api::namespaced(self.client.clone(), SYSTEM);
        eventually(format!("service {service}"), BOUND, async || -> Result<Seen<()>> {
            let found = services.get_opt(service).await?;
            Ok(found.map_or_else(|| Seen::NotYet("no such service".into()), |_| Seen::Yes(())))
        })
        .await?;
        progress::count_command();
        let status = json!({"status": {"loadBalancer": {"ingress": [{"ip": address}]}}});
        services
            .patch_status(service, &PatchParams::default(), &Patch::Merge(status))
            .await
            .with_context(|| format!("cannot give service {service} its address {address}"))?;
        Ok(())
    }

    /// Policies and probes; istiod must be there to inject the proxies.
    pub(crate) async fn workloads(&self) -> Result<()> {
        self.step("policies and probes", async {
            for fixture in ["mesh/policy.yaml", "mesh/evidence.yaml", "mesh/probe.yaml", "mesh/probe-naked.yaml"] {
                self.apply_fixture(fixture).await?;
            }
            for (namespace, injection, bypass) in [
                (PERF, "enabled", "on"),
                ("meshproof-perf-twin", "enabled", "off"),
                ("meshproof-perf-naked", "disabled", "on"),
                ("meshproof-perf-naked-twin", "disabled", "off"),
            ] {
                let mut values = self.values.clone();
                values.insert("PERF_NAMESPACE", namespace.to_owned());
                values.insert("PERF_INJECTION", injection.to_owned());
                values.insert("PERF_BYPASS", bypass.to_owned());
                kubernetes::apply(&self.client, &template::fixture("perf/workloads.yaml", &values)?).await?;
            }
            self.apply_fixture("perf/k6.yaml").await?;
            self.apply_fixture("perf/tcp-bypass.yaml").await?;
            self.echo_credential().await?;
            self.apply_fixture("perf/echo-gateway.yaml").await?;
            self.apply_fixture(self.multibuffer_tls).await?;
            for (namespace, name) in [("pinnacle", "probe"), ("pinnacle", "caller"), ("meshproof-naked", "probe")] {
                kubernetes::wait_for_deployment(&self.client, namespace, name, BOUND).await?;
            }
            Ok(())
        })
        .await
    }

    /// Lets `peer`'s istiod read this cluster's services: a remote secret of this cluster, written to the other.
    pub(crate) async fn join(&self, peer: &Member<'_>) -> Result<()> {
        peer.step(&format!("remote secret of {}", self.node.name()), async {
            let server = format!("https://{}:6443", self.node.addresses.node);
            let name = format!("remote-secret-{}", self.node.name());
            // Another API server certificate makes another secret necessary.
            let identity = paths_identity(&self.node.kubeconfig())?;
            kubernetes::once(&peer.client, &name, &format!("{server} {identity}"), async {
                let secret = self
                    .istioctl(&["create-remote-secret", "--name", self.node.name(), "--server", &server])
                    .stdout()
                    .await?;
                kubernetes::apply(&peer.client, &secret).await.map(drop)
            })
            .await
        })
        .await
    }

    /// Version that istiod reports of itself.
    pub(crate) async fn version(&self) -> Result<String> {
        let text = self.istioctl(&["version", "--short=false", "--output=json"]).stdout().await?;
        let json: serde_json::Value = serde_json::from_str(&text).with_context(|| {
            format!(
                "istiod of {} tells no version; istioctl printed:\n{}",
                self.node.name(),
                crate::command::tail(&text)
            )
        })?;
        json.pointer("/meshVersion/0/Info/version")
            .and_then(serde_json::Value::as_str)
            .map(str::to_owned)
            .with_context(|| format!("istiod of {} reports no version: {text}", self.node.name()))
    }
}

/// What tells one incarnation of a cluster from the next: its certificate authority.
fn paths_identity(kubeconfig: &Path) -> Result<String> {
    let kubeconfig = kube::config::Kubeconfig::read_from(kubeconfig)?;
    let authority = kubeconfig.clusters.into_iter().find_map(|cluster| cluster.cluster?.certificate_authority_data);
    authority.context("the kubeconfig has no certificate authority")
}
