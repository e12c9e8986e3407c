//! Judges what already runs in a mesh: every port of every workload, from outside the mesh, by what is seen on the wire.
//!
//! [`audit()`] reads what runs in all clusters, and dials each port from the naked probe of each cluster that is routed
//! there: in plaintext, over TLS without a certificate, with a certificate of a foreign authority, and with one of the
//! mesh's. The [`Kind`] of a port is told by what comes back. Policies, annotations and missing sidecars only explain it.

mod cell;
mod dials;
mod error;
mod expected;
mod explain;
mod inventory;
mod kind;
mod outcome;
mod pace;
mod pod;
mod run;
mod services;
mod table;
mod targets;

pub use cell::{Cell, Standing};
pub use error::{Error, Result};
pub use expected::{Allowed, AllowedMode, Basis, Expectations, Expected, Unused};
pub use inventory::{Inventory, NamespaceFacts, Restriction, ServiceFacts, ServicePort};
pub use kind::{Kind, Wire};
pub use outcome::{Audit, LeftOut};
pub use pace::Rates;
pub use pod::{Owner, Pod, Port, PortKey, Proxy, Transport, Uncaptured};
pub use run::{Options, audit};
pub use services::{Got, ServiceCell};
pub use table::{Style, table};
