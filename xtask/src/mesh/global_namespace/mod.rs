//! A global namespace: services of several clusters under one domain, derived from one declaration.

mod converge;
mod declaration;
mod derive;

pub(crate) use converge::{converge, withdraw};
pub(crate) use declaration::Declaration;

/// Label on every derived object, with the global namespace's name as its value. `converge` finds obsolete objects by
/// this label.
pub(crate) const LABEL: &str = "meshproof.dev/global-namespace";
