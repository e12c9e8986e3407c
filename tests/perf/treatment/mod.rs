//! What this suite applies to one arm of a comparison, and the receipts that prove that it did.

mod batches;
mod multibuffer_tls;
mod private_key_provider;
mod tcp_bypass;

pub(crate) use multibuffer_tls::MultibufferTls;
pub(crate) use tcp_bypass::TcpBypass;
