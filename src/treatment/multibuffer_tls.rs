//! Multi-buffer TLS at a gateway: what signs for eight handshakes at a time in its Envoy, and counts what it did.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::{MULTIBUFFER_TLS, PRIVATE_KEY_PROVIDER, private_key_provider};
use crate::cluster::Workload;
use crate::cluster::{Seen, eventually};
use crate::identity;
use crate::record;
use crate::scope::Scope;
use crate::scope::{Error, Result};

/// Where Envoy has the module's statistics.
const PREFIX: &str = "dynamicmodulescustom.multibuffer_tls.";

/// It, in one gateway.
#[derive(Debug, Clone)]
pub struct MultibufferTls {
    gateway: Workload,
    signer: Signer,
}

/// What signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signer {
    /// The module of `fixtures/workloads/multibuffer-tls`, which is all of the TLS.
    Module,
    /// Istio's `privateKeyProvider`, for Envoy's own TLS.
    PrivateKeyProvider,
}

/// Bound on a change being at the gateway: a kubelet looks at volumes once a minute, if nothing makes it look earlier.
const CHANGED: Duration = Duration::from_secs(90);

/// What it has done since its gateway began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Batches {
    /// Batches of signatures, of two or more.
    pub all: u64,
    /// Those of eight.
    pub full: u64,
    /// Signatures that were made alone, because too few waited for a batch.
    pub alone: u64,
    /// Handshakes that it was at work in: those that the module completed, or that the provider signed for.
    pub handshakes: u64,
    /// Handshakes that failed, signatures that could not be made, and those of a module that cannot make batches.
    pub failures: u64,
}

impl MultibufferTls {
    /// Secret of the gateway's certificate, which both arms read: one from istiod, the other from a volume.
    pub const CREDENTIAL: &str = "echo-credential";

    /// Names in that certificate: of the control arm, and of the treated one.
    pub const NAMES: [&str; 2] = ["control.echo.test", "treatment.echo.test"];

    /// That of `gateway`.
    ///
    /// # Errors
    /// [`NotDeclared`](crate::record::Error::NotDeclared) where the testbed has none: it needs a processor with AVX-512 IFMA. [`Exec`](crate::cluster::Error::Exec) where the
    /// gateway's Envoy is not one that has what is declared.
    pub async fn of(scope: &Scope, gateway: &Workload) -> Result<Self> {
        let declared = |name| scope.testbed.record.capabilities.has_treatment(name);
        let signer = if declared(PRIVATE_KEY_PROVIDER) {
            private_key_provider::expect(gateway).await?;
            Signer::PrivateKeyProvider
        } else if declared(MULTIBUFFER_TLS) {
            Signer::Module
        } else {
            let either = format!("the treatment {MULTIBUFFER_TLS} or {PRIVATE_KEY_PROVIDER}");
            return Err(record::Error::not_declared(&either).into());
        };
        Ok(Self { gateway: gateway.clone(), signer })
    }

    /// Replaces the certificate by another one for the same names, also signed by itself, and waits until it is used for new
    /// connections of the treated arm. It stays: one is as good as another.
    ///
    /// # Errors
    /// [`NotInTime`](crate::cluster::Error::NotInTime) where it is not read; [`Api`](crate::cluster::Error::Api); [`Exec`](crate::cluster::Error::Exec).
    pub async fn replace_certificate(&self) -> Result<()> {
        let (cluster, namespace) = (&self.gateway.cluster, &self.gateway.namespace);
        let reloaded = async || match self.signer {
            Signer::Module => self.count("certificates_reloaded").await,
            Signer::PrivateKeyProvider => Ok(private_key_provider::certificates(&self.gateway).await?),
        };
        let before = reloaded().await?;
        let (certificate, key) = identity::self_signed_rsa(&Self::NAMES)?;
        cluster
            .apply(&json!({
                "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
                "metadata": { "name": Self::CREDENTIAL, "namespace": namespace },
                "stringData": { "tls.crt": certificate, "tls.key": key },
            }))
            .await?;
        // A pod that has changed has its volumes looked at.
        let touch = json!({ "metadata": { "annotations": { "meshproof.dev/certificate": before.to_string() } } });
        let pods = cluster.api::<Pod>(namespace);
        let touched = pods.patch(&self.gateway.pod, &PatchParams::default(), &Patch::Merge(&touch)).await;
        touched.map_err(cluster.failed(format!("annotate {}", self.gateway)))?;
        self.grows("certificates read again", before, reloaded).await
    }

    /// Changes the listener while it is in use, until the test ends: Envoy makes its filter chain, and the module's
    /// configuration, anew, and lets go of the connections of the older one.
    ///
    /// # Errors
    /// [`NotInTime`](crate::cluster::Error::NotInTime) where Envoy does not take it; [`Api`](crate::cluster::Error::Api); [`Exec`](crate::cluster::Error::Exec).
    pub async fn change_listener(&self, scope: &Scope) -> Result<()> {
        let updates = async || {
            let counts = self.gateway.proxy_counts("listener_manager.listener_in_place_updated").await?;
            Ok::<_, Error>(counts.first().map_or(0, |(_, count)| *count))
        };
        let before = updates().await?;
        let treated = json!({ "portNumber": 8443, "filterChain": { "sni": Self::NAMES[1] } });
        let filter = json!({
            "apiVersion": "networking.istio.io/v1alpha3", "kind": "EnvoyFilter",
            "metadata": { "name": "multibuffer-tls-changed", "namespace": self.gateway.namespace },
            "spec": {
                "workloadSelector": { "labels": { "istio": "echo-gateway" } },
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

    /// Whether Envoy counts the handshakes that it is at work in as those of its own TLS.
    pub fn is_within_envoys(&self) -> bool {
        self.signer == Signer::PrivateKeyProvider
    }

    /// Waits until what `now` counts is above `before`.
    async fn grows(&self, what: &str, before: u64, now: impl AsyncFn() -> Result<u64>) -> Result<()> {
        Ok(eventually(format!("more {what} at {}", self.gateway), CHANGED, async || {
            let now = now().await?;
            Ok::<_, Error>(if now > before { Seen::Yes(()) } else { Seen::NotYet(format!("{now}, as before")) })
        })
        .await?)
    }

    /// One of its counts.
    async fn count(&self, name: &str) -> Result<u64> {
        let counts = self.gateway.proxy_counts(PREFIX).await?;
        self.find(&counts, name)
    }

    /// What it has done. The module tells Envoy when a request is logged, in either arm, so there has to be one after what is
    /// to be seen.
    ///
    /// # Errors
    /// [`Exec`](crate::cluster::Error::Exec) where the gateway's statistics cannot be read, or what signs is not in it.
    pub async fn batches(&self) -> Result<Batches> {
        if self.signer == Signer::PrivateKeyProvider {
            return Ok(private_key_provider::batches(&self.gateway).await?);
        }
        let counts = self.gateway.proxy_counts(PREFIX).await?;
        let count = |name: &str| self.find(&counts, name);
        Ok(Batches {
            all: count("batches")?,
            full: count("batches_full")?,
            alone: count("signatures_alone")?,
            handshakes: count("handshakes")?,
            failures: count("handshakes_failed")? + count("signatures_failed")? + count("fallback_signatures")?,
        })
    }

    fn find(&self, counts: &[(String, u64)], name: &str) -> Result<u64> {
        let found = counts.iter().find(|(full, _)| full.strip_prefix(PREFIX) == Some(name));
        found.map(|(_, count)| *count).ok_or_else(|| {
            let reason =
                "there is no such statistic: the gateway has not loaded the module, or did not keep what it counts";
            self.gateway.unusable(format!("reading {PREFIX}{name}"), reason).into()
        })
    }
}

impl Batches {
    /// What came after `before`.
    pub fn since(self, before: Self) -> Self {
        Self {
            all: self.all.saturating_sub(before.all),
            full: self.full.saturating_sub(before.full),
            alone: self.alone.saturating_sub(before.alone),
            handshakes: self.handshakes.saturating_sub(before.handshakes),
            failures: self.failures.saturating_sub(before.failures),
        }
    }
}
