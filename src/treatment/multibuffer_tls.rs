//! Multi-buffer TLS at a gateway: a module in its Envoy that signs for eight handshakes at a time, and counts what it did.

use super::MULTIBUFFER_TLS;
use crate::cluster::Workload;
use crate::error::{Error, Result};
use crate::scope::Scope;

/// Where Envoy has the module's statistics.
const PREFIX: &str = "dynamicmodulescustom.multibuffer_tls.";

/// The module in one gateway.
#[derive(Debug, Clone)]
pub struct MultibufferTls {
    gateway: Workload,
}

/// What the module has done since its gateway began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Batches {
    /// Batches of signatures.
    pub all: u64,
    /// Those of eight.
    pub full: u64,
    /// Handshakes that were completed.
    pub handshakes: u64,
    /// Handshakes that failed, and signatures that could not be made in a batch.
    pub failures: u64,
}

impl MultibufferTls {
    /// That of `gateway`.
    ///
    /// # Errors
    /// [`Error::NotDeclared`] where the testbed has none: it needs a processor with AVX-512 IFMA.
    pub fn of(scope: &Scope, gateway: &Workload) -> Result<Self> {
        if !scope.testbed.record.declares_treatment(MULTIBUFFER_TLS) {
            return Err(scope.testbed.not_declared("the treatment multibuffer-tls"));
        }
        Ok(Self { gateway: gateway.clone() })
    }

    /// What it has done. It tells Envoy when a request is logged, in either arm, so there has to be one after what is
    /// to be seen.
    ///
    /// # Errors
    /// [`Error::Exec`] where the gateway's statistics cannot be read, or the module is not in it.
    pub async fn batches(&self) -> Result<Batches> {
        let counts = self.gateway.proxy_counts(PREFIX).await?;
        let count = |name: &str| {
            let found = counts.iter().find(|(full, _)| full.strip_prefix(PREFIX) == Some(name));
            found.map(|(_, count)| *count).ok_or_else(|| Error::Exec {
                cluster: self.gateway.cluster.name().into(),
                namespace: self.gateway.namespace.clone(),
                pod: self.gateway.pod.clone(),
                command: format!("reading {PREFIX}{name}"),
                reason:
                    "there is no such statistic: the gateway has not loaded the module, or did not keep what it counts"
                        .into(),
            })
        };
        Ok(Batches {
            all: count("batches")?,
            full: count("batches_full")?,
            handshakes: count("handshakes")?,
            failures: count("handshakes_failed")? + count("signatures_failed")? + count("fallback_signatures")?,
        })
    }
}

impl Batches {
    /// What came after `before`.
    pub fn since(self, before: Self) -> Self {
        Self {
            all: self.all.saturating_sub(before.all),
            full: self.full.saturating_sub(before.full),
            handshakes: self.handshakes.saturating_sub(before.handshakes),
            failures: self.failures.saturating_sub(before.failures),
        }
    }
}
