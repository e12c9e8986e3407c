//! What proves that an arm had its treatment and the other had not.

use meshproof::Error;
use meshproof::compare::Bench;
use meshproof::judge::Run;
use meshproof::treatment::{Batches, Counters, MultibufferTls, TcpBypass, Traffic};

/// Receipt: the share of its one core that the gateway used.
pub(crate) const GATEWAY_BUSY: &str = "gateway_busy";

/// Receipt: handshakes by a proxy's own TLS that were not treated.
pub(crate) const TLS_HANDSHAKES: &str = "tls_handshakes";

/// Receipt: handshakes that multi-buffer TLS was at work in.
const MULTIBUFFER_HANDSHAKES: &str = "multibuffer_handshakes";

/// What is applied to one arm, and gives receipts.
#[derive(Clone, Copy)]
pub(crate) enum Applied<'a> {
    Nothing,
    Bypass(&'a TcpBypass),
    MultibufferTls(&'a MultibufferTls),
}

impl Applied<'_> {
    /// Handshakes in `run` that were treated, of those that a proxy counts as its own TLS's.
    pub(crate) fn treated_handshakes(self, run: &Run) -> f64 {
        match self {
            Self::MultibufferTls(signer) if signer.is_within_envoys() => run.receipts[MULTIBUFFER_HANDSHAKES],
            _ => 0.0,
        }
    }
}

/// What treatments count, at one time.
#[derive(Default)]
pub(crate) struct Counted {
    bypass: Counters,
    /// By the pods of one arm.
    redirected: Traffic,
    batches: Batches,
}

impl Counted {
    pub(crate) async fn by(applied: Applied<'_>, bench: &Bench) -> Result<Self, Error> {
        let mut counted = Self::default();
        match applied {
            Applied::Nothing => {}
            Applied::Bypass(bypass) => {
                (counted.bypass, counted.redirected) = bypass.counters(&bench.pods()).await?;
            }
            Applied::MultibufferTls(module) => counted.batches = module.batches().await?,
        }
        Ok(counted)
    }

    /// Adds to `run` what came after `before`.
    pub(crate) fn receipts(&self, before: &Self, run: &mut Run) {
        let mut add = |name: &str, value: f64| run.receipts.insert(name.into(), value);
        let requests = run.requests.max(1) as f64;
        let since = |after: u64, before: u64| after.saturating_sub(before) as f64;
        let redirected = since(self.redirected.messages, before.redirected.messages);
        add("redirected_messages", redirected);
        add("redirected_messages_per_request", redirected / requests);
        add("bypass_failures", since(self.bypass.failures.total(), before.bypass.failures.total()));
        let batches = self.batches.since(before.batches);
        add("batches", batches.all as f64);
        // Of all that it signed for: alone is once for each.
        let times = batches.all + batches.alone;
        add("batches_full_share", batches.full as f64 / times.max(1) as f64);
        add("signatures_alone", batches.alone as f64);
        add(MULTIBUFFER_HANDSHAKES, batches.handshakes as f64);
        add("multibuffer_failures", batches.failures as f64);
    }
}
