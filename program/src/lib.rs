//! The commands of `meshproof`. `cargo xtask` has most of them too, for the testbed of a checkout.

mod attach;
mod audit;
mod compare;
mod detach;
mod ended;
pub mod files;
mod gate;
mod judge;
mod ledger;
mod load;
mod place;
pub mod progress;
mod reading;
mod report;
#[cfg(feature = "suites")]
mod test;
mod visit;

pub use attach::{Attach, Wanted};
pub use audit::Audit;
pub use compare::Compare;
pub use detach::Detach;
pub use ended::{Ended, exit_code, log};
pub use gate::Gate;
pub use judge::Judge;
pub use ledger::Ledger;
pub use load::Load;
pub use place::{Place, Words};
pub use report::Report;
#[cfg(feature = "suites")]
pub use test::Test;
