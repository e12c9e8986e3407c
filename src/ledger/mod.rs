//! What became of each test on each commit: a file that only grows, the flakes in it, quarantine, and the gate of a
//! change.

mod entry;
mod error;
mod flake;
mod gate;
mod known;
mod quarantine;
mod summary;

pub use entry::{Entry, Ledger, VERSION};
pub use error::{Error, Result};
pub use flake::{History, Rate, histories};
pub use gate::{Gate, GateVerdict, Red};
pub use known::Known;
pub use quarantine::{Quarantine, Quarantined};
pub use summary::{flakes, markdown};
