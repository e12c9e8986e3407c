//! What a testbed can apply to one arm of a comparison, and the receipts that prove that it did.

mod multibuffer_tls;
mod tcp_bypass;

pub use meshproof_tcp_bypass::{Counters, Traffic};
pub use multibuffer_tls::{Batches, MultibufferTls};
pub use tcp_bypass::TcpBypass;

/// Name of the TCP bypass in the testbed's record.
pub const TCP_BYPASS: &str = "tcp-bypass";

/// Name of multi-buffer TLS in the testbed's record.
pub const MULTIBUFFER_TLS: &str = "multibuffer-tls";

/// Label of the nodes where the bypass runs.
pub const TCP_BYPASS_LABEL: &str = "meshproof.dev/tcp-bypass";
