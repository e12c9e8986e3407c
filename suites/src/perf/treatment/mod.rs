//! The treatments of this suite, and the receipts that prove their effect.

mod batches;
mod multibuffer_tls;
mod private_key_provider;
mod tcp_bypass;

pub(crate) use multibuffer_tls::MultibufferTls;
pub(crate) use tcp_bypass::{TcpBypass, Treated};
