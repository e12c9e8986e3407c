//! Installs the control planes and joins the clusters.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::future::try_join_all;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Secret, Service};
use kube::api::{Api, ObjectMeta, Patch, PatchParams};
use meshproof::Seen;
use meshproof::cluster::watch_one;
use serde_json::json;
use tokio::sync::OnceCell;

use super::authority::{Authority, FILES};
use super::target::Target;
use super::values;
use crate::artifacts::{Artifacts, REPOSITORY, Store};
use crate::command::run;
use crate::declaration::{self, Declaration, Gateway};
use crate::kubernetes::{self, Id};
use crate::paths;
use crate::progress::{self, Progress};
use crate::template::{self, Values};
use crate::versions::Versions;

/// Namespace of the control plane.
pub(crate) const SYSTEM: &str = "istio-system";

/// Istio's `privateKeyProvider` if Envoy has `cryptomb`. A signature waits for others for at most `pollDelay`. Fallback
/// is off.
const CRYPTOMB: &str = "{cryptomb: {pollDelay: 1ms, fallback: false}}";

/// Time limit for one deployment to become available, on a busy two-core machine.
pub(super) const BOUND: Duration = Duration::from_secs(180);

/// What all members of a mesh share.
pub(crate) struct Common<'a> {
    pub(crate) declaration: &'a Declaration,
    pub(crate) progress: &'a Progress,
    pub(crate) versions: &'a Versions,
    pub(crate) artifacts: &'a Artifacts,
    pub(crate) store: &'a Store,
}

/// The mesh in one cluster.
pub(crate) struct Member<'a> {
    pub(crate) target: Target,
    pub(crate) declaration: &'a Declaration,
    /// The cluster in the declaration.
    pub(crate) declared: &'a declaration::Cluster,
    pub(crate) istioctl: PathBuf,
    /// Resource definitions of the Gateway API.
    gateway_api: PathBuf,
    pub(crate) progress: &'a Progress,
    pub(super) store: &'a Store,
    pub(super) values: Values,
    /// Fixture for the treatment arm at the echo gateway.
    pub(super) multibuffer_tls: &'static str,
}

impl<'a> Member<'a> {
    pub(crate) fn new(target: Target, common: &Common<'a>, declared: &'a declaration::Cluster) -> Self {
        let Common { declaration, progress, versions, artifacts, store } = common;
        let programs = &artifacts.programs;
        let (provider, flush, multibuffer_tls) = match artifacts.cryptomb {
            true => (CRYPTOMB, "1s", "perf/private-key-provider.yaml"),
            // Istio's defaults.
            false => ("null", "5s", "perf/multibuffer-tls.yaml"),
        };
        let mut values = Values::from([
            ("CLUSTER", target.name.clone()),
            ("NETWORK", target.network.clone()),
            ("DNS_ADDRESS", target.dns_address.clone()),
            ("IMAGES", REPOSITORY.to_owned()),
            ("ISTIO_VERSION", versions.istio.version.clone()),
            ("COREDNS_VERSION", versions.coredns.version.clone()),
            ("NETWORK_POLICIES_VERSION", versions.network_policies.version.clone()),
            ("INGRESS_HTTP_PORT", target.gateways.ingress_http_node_port.to_string()),
            ("INGRESS_HTTPS_PORT", target.gateways.ingress_https_node_port.to_string()),
            ("PROBE_IMAGE", programs.probe.image()),
            ("BOUTIQUE_IMAGE", programs.boutique.image()),
            ("FORTIO_VERSION", versions.fortio.version.clone()),
            ("K6_VERSION", versions.k6.version.clone()),
            ("LOAD_IMAGE", programs.load.image()),
            ("TCP_BYPASS_IMAGE", programs.tcp_bypass.image()),
            ("CGROUP2", target.cgroup2.clone()),
            ("ECHO_STATS_FLUSH_INTERVAL", flush.to_owned()),
            ("PRIVATE_KEY_PROVIDER", provider.to_owned()),
            ("REDIS_IMAGE", format!("{REPOSITORY}/redis:1")),
        ]);
        values.extend(values::of_mesh(declaration));
        values.extend(values::of_gateways(declared));
        let istioctl = artifacts.istioctl();
        let gateway_api = artifacts.gateway_api();
        Self { target, declaration, declared, istioctl, gateway_api, progress, store, values, multibuffer_tls }
    }

    pub(super) async fn step(&self, name: &str, work: impl Future<Output = Result<()>>) -> Result<()> {
        self.progress.step(Some(&self.target.name), name, work).await
    }

    /// Writes the objects of a fixture. Every run does: a write costs milliseconds and reverts manual changes.
    pub(super) async fn apply_fixture(&self, relative: &str) -> Result<()> {
        self.apply_for(&[], relative).await.map(drop)
    }

    /// As [`Self::apply_fixture`], with further values.
    pub(super) async fn apply_for(&self, more: &[(&'static str, String)], relative: &str) -> Result<Vec<Id>> {
        let mut values = self.values.clone();
        values.extend(more.iter().cloned());
        let yaml = template::fixture(relative, &values)?;
        kubernetes::apply(&self.target.client, &yaml).await.with_context(|| format!("fixtures/{relative}"))
    }

    /// Writes what the control plane needs: DNS, namespaces and the plug-in certificates.
    pub(crate) async fn prepare(&self, authority: &Authority) -> Result<()> {
        self.step("DNS, namespaces, plug-in certificates", async {
            self.apply_fixture("mesh/namespaces.yaml").await?;
            if self.declaration.prepared {
                self.apply_fixture("mesh/suites.yaml").await?;
            }
            for namespace in self.declared.gateways().map(|gateway| &gateway.namespace).filter(|name| *name != SYSTEM) {
                self.apply_for(&[("NAMESPACE", namespace.clone())], "mesh/gateway-namespace.yaml").await?;
            }
            self.plug_in_certificates(authority).await?;
            self.apply_fixture("clusters/coredns.yaml").await?;
            self.enforce().await
        })
        .await
    }

    async fn plug_in_certificates(&self, authority: &Authority) -> Result<()> {
        let read = |name: &&str| {
            let contents = authority.read(&self.target.name, name)?;
            anyhow::Ok(((*name).to_owned(), ByteString(contents.into_bytes())))
        };
        let secret = Secret {
            metadata: ObjectMeta { name: Some("cacerts".into()), namespace: Some(SYSTEM.into()), ..Default::default() },
            data: Some(FILES.iter().map(read).collect::<Result<_>>()?),
            ..Default::default()
        };
        progress::count_command();
        let secrets: Api<Secret> = Api::namespaced(self.target.client.clone(), SYSTEM);
        let parameters = PatchParams::apply("meshproof").force();
        secrets.patch("cacerts", &parameters, &Patch::Apply(&secret)).await.context("cannot write secret cacerts")?;
        Ok(())
    }

    pub(super) fn istioctl(&self, arguments: &[&str]) -> crate::command::Run {
        let Target { kubeconfig, context, .. } = &self.target;
        run(&self.istioctl).arg("--kubeconfig").arg(kubeconfig).args(["--context", context]).args(arguments)
    }

    /// Installs istiod, and waits until it injects proxies.
    pub(crate) async fn control_plane(&self) -> Result<()> {
        self.step("istiod", async {
            let evidence = self.declaration.prepared.then_some("mesh/evidence-log.yaml");
            let files: Vec<&str> = ["mesh/control-plane.yaml"].into_iter().chain(evidence).collect();
            self.install("control-plane", &files).await?;
            let istiod = self.declaration.istio.istiod();
            let runs = kubernetes::wait_for_deployment(&self.target.client, SYSTEM, &istiod, BOUND);
            // A pod that starts before its node's agent is not redirected.
            tokio::try_join!(runs, self.defined(), self.redirects())?;
            self.injects().await
        })
        .await
    }

    /// Writes the resource definitions of the Gateway API, if the mesh is prepared for suites. Istiod takes kinds that come
    /// while it runs.
    pub(crate) async fn gateway_api(&self) -> Result<()> {
        if !self.declaration.prepared {
            return Ok(());
        }
        self.step("Gateway API", async {
            let definitions = paths::read(&self.gateway_api)?;
            kubernetes::once(&self.target.client, "gateway-api", &definitions, async {
                kubernetes::apply(&self.target.client, &definitions).await.map(drop)
            })
            .await
        })
        .await
    }

    /// Reverts changes that killed tests left. Call this after istiod is up, because istiod injects the proxies of the
    /// restored pods, and before any wait for deployments.
    pub(crate) async fn sweep(&self) -> Result<()> {
        self.step("leftovers of tests", async {
            let swept = meshproof::scope::sweep(&self.target.client, &self.target.name).await?;
            swept.iter().for_each(|_| progress::count_command());
            Ok(())
        })
        .await
    }

    /// Installs the declared gateways, with the addresses that a load balancer would assign.
    pub(crate) async fn gateways(&self) -> Result<()> {
        let declared = self.declared.gateways().map(|gateway| gateway.name.as_str()).collect::<Vec<_>>().join(", ");
        if declared.is_empty() {
            return Ok(());
        }
        self.step("gateways", async {
            let addresses = &self.target.gateways;
            let declaration::Cluster { ingress, eastwest, .. } = self.declared;
            let assigned = [(ingress, &addresses.ingress), (eastwest, &addresses.eastwest)];
            let assigning = assigned.into_iter().filter_map(|(gateway, address)| {
                let gateway = gateway.as_ref()?;
                Some(self.assign(gateway, address))
            });
            tokio::try_join!(self.install("gateways", &["mesh/gateways.yaml"]), try_join_all(assigning))?;
            for Gateway { name, namespace, .. } in self.declared.gateways() {
                kubernetes::revive(&self.target.client, namespace, name).await?;
                kubernetes::wait_for_deployment(&self.target.client, namespace, name, BOUND).await?;
            }
            Ok(())
        })
        .await
    }

    /// Assigns an address to the service, as a cloud's load balancer does. A node of the cluster holds the address.
    async fn assign(&self, gateway: &Gateway, address: &str) -> Result<()> {
        let service = gateway.name.as_str();
        let services: Api<Service> = Api::namespaced(self.target.client.clone(), &gateway.namespace);
        let exists = |found: Option<&Service>| match found {
            Some(_) => Seen::Yes(()),
            None => Seen::NotYet("no such service".into()),
        };
        watch_one(services.clone(), service, format!("service {service}"), BOUND, exists).await?;
        progress::count_command();
        let status = json!({"status": {"loadBalancer": {"ingress": [{"ip": address}]}}});
        services
            .patch_status(service, &PatchParams::default(), &Patch::Merge(status))
            .await
            .with_context(|| format!("cannot give service {service} its address {address}"))?;
        Ok(())
    }

    /// Writes the declared policies, and what suites need if they are prepared for. istiod must run already, because
    /// istiod injects the proxies.
    pub(crate) async fn workloads(&self) -> Result<()> {
        let prepared = self.declaration.prepared;
        self.step(if prepared { "policies and probes" } else { "policies" }, async {
            self.mesh_policy().await?;
            self.exposure().await?;
            if prepared { self.for_suites().await } else { Ok(()) }
        })
        .await
    }

    /// Lets other networks reach services through the east-west gateway.
    async fn exposure(&self) -> Result<()> {
        match self.declared.eastwest {
            Some(_) => self.apply_fixture("mesh/eastwest.yaml").await,
            None => Ok(()),
        }
    }

    /// Lets the istiods of `peers` read this cluster's services: writes a remote secret of this cluster into each.
    pub(crate) async fn join(&self, peers: &[&Member<'_>]) -> Result<()> {
        // Two commands at once would both make the token of the cluster's service account.
        let secret = OnceCell::new();
        try_join_all(peers.iter().map(|peer| self.join_one(peer, &secret))).await.map(drop)
    }

    async fn join_one(&self, peer: &Member<'_>, secret: &OnceCell<String>) -> Result<()> {
        peer.step(&format!("remote secret of {}", self.target.name), async {
            let server = &self.target.api_server;
            let name = format!("remote-secret-{}", self.target.name);
            // A new certificate authority of the API server needs a new secret.
            let identity = self.target.identity()?;
            kubernetes::once(&peer.target.client, &name, &format!("{server} {identity}"), async {
                let arguments = ["create-remote-secret", "--name", &self.target.name, "--server", server];
                let secret = secret.get_or_try_init(|| self.istioctl(&arguments).stdout()).await?;
                kubernetes::apply(&peer.target.client, secret).await.map(drop)
            })
            .await
        })
        .await
    }

    /// The version that istiod reports.
    pub(crate) async fn version(&self) -> Result<String> {
        let mut command = self.istioctl(&["version", "--short=false", "--output=json"]);
        // Without it, istioctl knows only the revision of the tag `default`.
        if let Some(revision) = &self.declaration.istio.revision {
            command = command.args(["--revision", revision]);
        }
        let text = command.stdout().await?;
        let json: serde_json::Value = serde_json::from_str(&text).with_context(|| {
            format!(
                "istiod of {} tells no version; istioctl printed:\n{}",
                self.target.name,
                crate::command::tail(&text)
            )
        })?;
        json.pointer("/meshVersion/0/Info/version")
            .and_then(serde_json::Value::as_str)
            .map(str::to_owned)
            .with_context(|| format!("istiod of {} reports no version: {text}", self.target.name))
    }
}
