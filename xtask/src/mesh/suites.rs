//! What suites need in a cluster: probes, routes to them, evidence logs, and the workloads of performance comparisons.

use anyhow::{Context, Result};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ObjectMeta, PostParams};
use meshproof::compare::{GATEWAY_CREDENTIAL, SERVER_NAMES};
use meshproof::identity::{self, ServerCertificate};

use super::application::NAMESPACE;
use super::install::{BOUND, Member};
use super::values;
use crate::{kubernetes, progress};

/// Namespace of the timed workloads with proxies.
pub(crate) const PERF: &str = "meshproof-perf";

/// As [`PERF`], for the twin workloads that opt out of the bypass.
pub(crate) const PERF_TWIN: &str = "meshproof-perf-twin";

/// Namespace of the timed workloads without proxies.
pub(crate) const PERF_NAKED: &str = "meshproof-perf-naked";

/// As [`PERF_NAKED`], for the twin workloads that opt out of the bypass.
pub(crate) const PERF_NAKED_TWIN: &str = "meshproof-perf-naked-twin";

/// A namespace with timed workloads. The fields are values for `fixtures/perf/workloads.yaml`.
struct Bench {
    namespace: &'static str,
    /// Whether the workloads have proxies.
    injected: bool,
    /// Whether the TCP bypass may serve the workloads: `on` or `off`.
    bypass: &'static str,
}

const BENCHES: [Bench; 4] = [
    Bench { namespace: PERF, injected: true, bypass: "on" },
    Bench { namespace: PERF_TWIN, injected: true, bypass: "off" },
    Bench { namespace: PERF_NAKED, injected: false, bypass: "on" },
    Bench { namespace: PERF_NAKED_TWIN, injected: false, bypass: "off" },
];

/// Agents of the TCP bypass. The fields are values for `fixtures/perf/tcp-bypass.yaml`.
struct Bypass {
    name: &'static str,
    /// Value of the label of the agents' nodes.
    label: &'static str,
    between_pods_only: bool,
}

const BYPASSES: [Bypass; 2] = [
    Bypass { name: "tcp-bypass", label: "on", between_pods_only: false },
    Bypass { name: "tcp-bypass-between-pods", label: "between-pods", between_pods_only: true },
];

/// A deployment that both dials and accepts connections.
struct Probe {
    namespace: &'static str,
    deployment: &'static str,
}

const PROBES: [Probe; 3] = [
    Probe { namespace: NAMESPACE, deployment: "probe" },
    Probe { namespace: NAMESPACE, deployment: "caller" },
    Probe { namespace: "meshproof-naked", deployment: "probe" },
];

impl Member<'_> {
    /// Installs namespaces' policies, probes, and the workloads of performance comparisons. istiod must run already,
    /// because istiod injects the proxies.
    pub(super) async fn for_suites(&self) -> Result<()> {
        for fixture in ["mesh/policy.yaml", "mesh/evidence.yaml", "mesh/probe.yaml", "mesh/probe-naked.yaml"] {
            self.apply_fixture(fixture).await?;
        }
        for peer in self.declaration.names() {
            self.apply_for(&[("PEER", peer.to_owned())], "mesh/probe-service.yaml").await?;
        }
        self.routes().await?;
        self.benches().await?;
        for Probe { namespace, deployment } in &PROBES {
            kubernetes::wait_for_deployment(&self.target.client, namespace, deployment, BOUND).await?;
        }
        Ok(())
    }

    /// Writes the gateways' routes to the probes, and their evidence logs.
    async fn routes(&self) -> Result<()> {
        if self.declared.eastwest.is_some() {
            self.apply_fixture("mesh/evidence-eastwest.yaml").await?;
        }
        if self.declared.ingress.is_none() {
            return Ok(());
        }
        self.apply_fixture("mesh/evidence-ingress.yaml").await?;
        self.apply_fixture("mesh/probe-ingress.yaml").await?;
        for peer in self.declaration.names() {
            self.apply_for(&[("PEER", peer.to_owned())], "mesh/probe-route.yaml").await?;
        }
        Ok(())
    }

    /// Installs the workloads of performance comparisons.
    async fn benches(&self) -> Result<()> {
        for Bench { namespace, injected, bypass } in &BENCHES {
            let values = [
                ("PERF_NAMESPACE", (*namespace).to_owned()),
                ("PERF_LABELS", values::injection(&self.declaration.istio, *injected)),
                ("PERF_BYPASS", (*bypass).to_owned()),
            ];
            self.apply_for(&values, "perf/workloads.yaml").await?;
        }
        self.apply_fixture("perf/k6.yaml").await?;
        for Bypass { name, label, between_pods_only } in BYPASSES {
            let values = [
                ("BYPASS_NAME", name.to_owned()),
                ("BYPASS_LABEL", label.to_owned()),
                ("BETWEEN_PODS_ONLY", between_pods_only.to_string()),
            ];
            self.apply_for(&values, "perf/tcp-bypass.yaml").await?;
        }
        self.echo_credential().await?;
        self.apply_fixture("perf/echo-gateway.yaml").await?;
        self.apply_fixture(self.multibuffer_tls).await
    }

    /// Writes the certificate of the gateway whose TLS is timed: RSA-2048, as in the seed. Generated once.
    async fn echo_credential(&self) -> Result<()> {
        let secrets: Api<Secret> = Api::namespaced(self.target.client.clone(), PERF);
        if secrets.get_opt(GATEWAY_CREDENTIAL).await?.is_some() {
            return Ok(());
        }
        let ServerCertificate { certificate_pem, key_pem } = identity::self_signed_rsa(&SERVER_NAMES)?;
        let file = |name: &str, pem: String| (name.to_owned(), ByteString(pem.into_bytes()));
        let secret = Secret {
            metadata: ObjectMeta { name: Some(GATEWAY_CREDENTIAL.into()), ..Default::default() },
            type_: Some("kubernetes.io/tls".into()),
            data: Some([file("tls.crt", certificate_pem), file("tls.key", key_pem)].into()),
            ..Default::default()
        };
        progress::count_command();
        secrets
            .create(&PostParams::default(), &secret)
            .await
            .with_context(|| format!("cannot write secret {}", GATEWAY_CREDENTIAL))?;
        Ok(())
    }
}
