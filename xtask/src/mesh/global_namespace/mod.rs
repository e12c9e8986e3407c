//! A global namespace: services of several clusters under one domain, all of it derived from one declaration.

mod converge;
mod declaration;
mod derive;

pub(crate) use converge::{converge, withdraw};
pub(crate) use declaration::Declaration;

/// Label on everything that is derived; its value is the global namespace. What no longer follows from the declaration
/// is found by it.
pub(crate) const LABEL: &str = "meshproof.dev/global-namespace";
