//! What authorization policies decide about a call to a workload.
//!
//! Sources: Istio's reference pages *Authorization Policy*, *Authorization Policy Conditions* and *Authorization Policy
//! Normalization*, the task *Authorization for TCP traffic*, and the concept page *Security* (order of the actions). What
//! becomes of a CUSTOM policy whose provider is missing or speaks HTTP only is from istiod's code
//! (`pilot/pkg/security/authz/builder`): the reference does not say.

mod call;
mod decide;
mod fields;
mod mesh;
mod normalization;
mod pattern;
mod spec;

pub use call::{Answer, Call, HttpRequest, Token};
pub use decide::{Decision, Denier, decide};
pub use mesh::{AuthorizerKind, Mesh, Over};
pub use normalization::{Normalization, Rejected};
pub use spec::{Action, Condition, From, OperationField, Policy, Provider, Rule, Selector, SourceField, Spec, To};

#[cfg(test)]
mod tests;
