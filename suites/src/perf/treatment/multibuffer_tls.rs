//! Multi-buffer TLS at a gateway: signs for eight handshakes at a time in the gateway's Envoy, and counts.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use meshproof::cluster::ProxyCount;
use meshproof::compare::{
    Bench, Counted, GATEWAY, GATEWAY_CREDENTIAL, GATEWAY_PORT, SERVER_NAMES, TLS_HANDSHAKES, Treatment,
};
use meshproof::identity::{self, ServerCertificate};
use meshproof::judge::Run;
use meshproof::record::treatment::{MULTIBUFFER_TLS, PRIVATE_KEY_PROVIDER};
use meshproof::{Error, Result, Scope, Seen, Workload, eventually, record};
use serde_json::json;

use super::batches::Batches;
use super::private_key_provider;

/// Prefix of the module's statistics in Envoy.
const PREFIX: &str = "dynamicmodulescustom.multibuffer_tls.";

/// Multi-buffer TLS in one gateway.
#[derive(Debug, Clone)]
pub(crate) struct MultibufferTls {
    gateway: Workload,
    signer: Signer,
}

/// The implementation that signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signer {
    /// The module in `fixtures/workloads/multibuffer-tls`, a complete TLS implementation.
    Module,
    /// Istio's `privateKeyProvider`, for Envoy's own TLS.
    PrivateKeyProvider,
}

/// Longest wait for a change to reach the gateway. Without a trigger, a kubelet refreshes volumes once a minute.
const CHANGED: Duration = Duration::from_secs(90);

impl MultibufferTls {
    /// Finds the multi-buffer TLS of `gateway`.
    ///
    /// # Errors
    /// [`Error::NotDeclared`]: the testbed has none, because it needs a processor with AVX-512 IFMA. [`Error::Exec`]:
    /// the gateway's Envoy lacks the declared implementation.
    pub(crate) async fn find(scope: &Scope, gateway: &Workload) -> Result<Self> {
        let declared = |name| scope.testbed.record.capabilities.has_treatment(name);
        let signer = if declared(PRIVATE_KEY_PROVIDER) {
            private_key_provider::expect(gateway).await?;
            Signer::PrivateKeyProvider
        } else if declared(MULTIBUFFER_TLS) {
            Signer::Module
        } else {
            let either = format!("the treatment {MULTIBUFFER_TLS} or {PRIVATE_KEY_PROVIDER}");
            return Err(record::Error::not_declared(either).into());
        };
        Ok(Self { gateway: gateway.clone(), signer })
    }

    /// Replaces the certificate by another self-signed certificate for the same names, and waits until new connections
    /// of the treatment arm use it. The new certificate stays: it is equivalent.
    ///
    /// # Errors
    /// [`Error::NotInTime`]: the certificate is not loaded. [`Error::Api`]. [`Error::Exec`].
    pub(crate) async fn replace_certificate(&self) -> Result<()> {
        let (cluster, namespace) = (&self.gateway.cluster, &self.gateway.namespace);
        let reloaded = async || match self.signer {
            Signer::Module => self.count("certificates_reloaded").await,
            Signer::PrivateKeyProvider => Ok(private_key_provider::certificates(&self.gateway).await?),
        };
        let before = reloaded().await?;
        let ServerCertificate { certificate_pem, key_pem } = identity::self_signed_rsa(&SERVER_NAMES)?;
        cluster
            .apply(&json!({
                "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
                "metadata": { "name": GATEWAY_CREDENTIAL, "namespace": namespace },
                "stringData": { "tls.crt": certificate_pem, "tls.key": key_pem },
            }))
            .await?;
        // Touching the pod makes the kubelet refresh its volumes.
        let touch = json!({ "metadata": { "annotations": { "meshproof.dev/certificate": before.to_string() } } });
        let pods = cluster.api::<Pod>(namespace);
        let touched = pods.patch(&self.gateway.pod, &PatchParams::default(), &Patch::Merge(&touch)).await;
        touched.map_err(cluster.failed(format!("annotate {}", self.gateway)))?;
        self.grows("certificates read again", before, reloaded).await
    }

    /// Changes the listener under load, until the test ends. Envoy rebuilds the filter chain and the module's
    /// configuration, and drains the connections of the old filter chain.
    ///
    /// # Errors
    /// [`Error::NotInTime`]: Envoy does not load the change. [`Error::Api`]. [`Error::Exec`].
    pub(crate) async fn change_listener(&self, scope: &Scope) -> Result<()> {
        let updates = async || {
            let counts = self.gateway.proxy_counts("listener_manager.listener_in_place_updated").await?;
            Ok::<_, Error>(counts.first().map_or(0, |count| count.value))
        };
        let before = updates().await?;
        let treated = json!({ "portNumber": GATEWAY_PORT, "filterChain": { "sni": SERVER_NAMES[1] } });
        let filter = json!({
            "apiVersion": "networking.istio.io/v1alpha3", "kind": "EnvoyFilter",
            "metadata": { "name": "multibuffer-tls-changed", "namespace": self.gateway.namespace },
            "spec": {
                "workloadSelector": { "labels": { "istio": GATEWAY } },
                "configPatches": [{
                    "applyTo": "FILTER_CHAIN",
                    "match": { "context": "GATEWAY", "listener": treated },
                    "patch": { "operation": "MERGE", "value": { "transport_socket_connect_timeout": "14s" } },
                }],
            },
        });
        scope.place(&self.gateway.cluster, filter).await?;
        self.grows("updates of a listener in place", before, updates).await
    }

    /// Waits until the counter `now` is above `before`.
    async fn grows(&self, what: &str, before: u64, now: impl AsyncFn() -> Result<u64>) -> Result<()> {
        Ok(eventually(format!("more {what} at {}", self.gateway), CHANGED, async || {
            let now = now().await?;
            Ok::<_, Error>(if now > before { Seen::Yes(()) } else { Seen::NotYet(format!("{now}, as before")) })
        })
        .await?)
    }

    /// One of the module's counters.
    async fn count(&self, name: &str) -> Result<u64> {
        let counts = self.gateway.proxy_counts(PREFIX).await?;
        self.statistic(&counts, name)
    }

    /// Reads the counters. The module updates Envoy's statistics when a request is logged, in either arm. So counts
    /// appear only after a further request.
    ///
    /// # Errors
    /// [`Error::Exec`]: the gateway's statistics cannot be read, or lack those of the implementation.
    pub(crate) async fn batches(&self) -> Result<Batches> {
        if self.signer == Signer::PrivateKeyProvider {
            return Ok(private_key_provider::batches(&self.gateway).await?);
        }
        let counts = self.gateway.proxy_counts(PREFIX).await?;
        let count = |name: &str| self.statistic(&counts, name);
        Ok(Batches {
            all: count("batches")?,
            full: count("batches_full")?,
            alone: count("signatures_alone")?,
            handshakes: count("handshakes")?,
            failures: count("handshakes_failed")? + count("signatures_failed")? + count("fallback_signatures")?,
        })
    }

    fn statistic(&self, counts: &[ProxyCount], name: &str) -> Result<u64> {
        let found = counts.iter().find(|count| count.name.strip_prefix(PREFIX) == Some(name));
        found.map(|count| count.value).ok_or_else(|| {
            let reason =
                "there is no such statistic: the gateway has not loaded the module, or did not keep what it counts";
            self.gateway.unusable(format!("reading {PREFIX}{name}"), reason).into()
        })
    }
}

impl Treatment for MultibufferTls {
    type Counters = Batches;

    async fn count(&self, _: &Bench) -> Result<Batches> {
        self.batches().await
    }

    fn receipts(&self, counted: &Counted<Batches>, run: &mut Run) {
        let batches = counted.after.since(counted.before);
        if let (Signer::PrivateKeyProvider, Some(handshakes)) = (self.signer, run.receipts.get_mut(TLS_HANDSHAKES)) {
            // Envoy includes these in the handshakes of its own TLS.
            *handshakes = (*handshakes - batches.handshakes as f64).max(0.0);
        }
        // Each signature is made in a batch or alone.
        let times = batches.all + batches.alone;
        let full_share = batches.full as f64 / times.max(1) as f64;
        let mut add = |name: &str, value: f64| run.receipts.insert(name.into(), value);
        add("batches", batches.all as f64);
        add("batches_full_share", full_share);
        add("signatures_alone", batches.alone as f64);
        add("multibuffer_handshakes", batches.handshakes as f64);
        add("multibuffer_failures", batches.failures as f64);
    }
}
