//! What a testbed can apply to one arm of a comparison, and the receipts that prove that it did.

mod multibuffer_tls;
mod private_key_provider;
mod tcp_bypass;

pub use meshproof_tcp_bypass::{Counters, Traffic};
pub use multibuffer_tls::{Batches, MultibufferTls};
pub use tcp_bypass::TcpBypass;

/// Name of the TCP bypass in the testbed's record.
pub const TCP_BYPASS: &str = "tcp-bypass";

/// Name of multi-buffer TLS by a module in stock Envoy, in the testbed's record.
pub const MULTIBUFFER_TLS: &str = "multibuffer-tls";

/// Name of multi-buffer TLS by Istio's `privateKeyProvider`, in the testbed's record: `cryptomb`, which an Envoy has that was built
/// with contrib extensions. A testbed has one of the two.
pub const PRIVATE_KEY_PROVIDER: &str = "private-key-provider";

/// Label of the nodes where the bypass runs.
pub const TCP_BYPASS_LABEL: &str = "meshproof.dev/tcp-bypass";
