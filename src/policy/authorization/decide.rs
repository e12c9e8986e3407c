//! The decision about a call, from all policies that are about the called workload.

use std::fmt;

use super::call::{Answer, Call};
use super::fields::{Context, OnTcp};
use super::mesh::{AuthorizerKind, Mesh, Over};
use super::spec::{Action, Policy, Rule};

/// What becomes of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The workload gets it.
    Allowed,
    /// The workload's proxy denies it.
    Denied(Denier),
    /// The workload's proxy answers 400 before it asks any policy.
    Malformed,
}

/// Why a call is denied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denier {
    /// A DENY policy of this name matches.
    Policy(String),
    /// There are ALLOW policies, and none matches.
    NoneAllows,
    /// The external authorizer that a CUSTOM policy of this name asks.
    Authorizer(String),
    /// A CUSTOM policy of this name asks an external authorizer, which does not answer.
    NoAnswer(String),
    /// A CUSTOM policy of this name matches, and the mesh configuration does not have its provider.
    NoProvider(String),
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allowed => f.write_str("allowed"),
            Self::Denied(Denier::Policy(name)) => write!(f, "denied by policy {name}"),
            Self::Denied(Denier::NoneAllows) => f.write_str("denied because no ALLOW policy matches"),
            Self::Denied(Denier::Authorizer(name)) => write!(f, "denied by the authorizer of policy {name}"),
            Self::Denied(Denier::NoAnswer(name)) => {
                write!(f, "denied because the authorizer of policy {name} does not answer")
            }
            Self::Denied(Denier::NoProvider(name)) => {
                write!(f, "denied because the mesh has no provider of the name in policy {name}")
            }
            Self::Malformed => f.write_str("rejected as malformed"),
        }
    }
}

/// Decides about `call` by `policies`, all of which are about the called workload: CUSTOM first, then DENY, then ALLOW.
pub fn decide<'a>(mesh: &Mesh, policies: impl IntoIterator<Item = &'a Policy>, call: &Call) -> Decision {
    if call.http.as_ref().is_some_and(|http| mesh.normalization.path(&http.path).is_err()) {
        return Decision::Malformed;
    }
    let policies: Vec<&Policy> = policies.into_iter().filter(|policy| !policy.dry_run).collect();
    let of = |action: Action| policies.iter().copied().filter(move |policy| policy.spec.action == action);
    let first = |action: Action| of(action).find(|policy| is_matched(mesh, policy, call));
    let mut asking = of(Action::Custom).filter(|policy| is_matched(mesh, policy, call));
    if let Some(denier) = asking.find_map(|policy| denied_by_authorizer(mesh, policy, call)) {
        return Decision::Denied(denier);
    }
    if let Some(policy) = first(Action::Deny) {
        return Decision::Denied(Denier::Policy(policy.name.clone()));
    }
    if of(Action::Allow).next().is_some() && first(Action::Allow).is_none() {
        return Decision::Denied(Denier::NoneAllows);
    }
    Decision::Allowed
}

/// Why a CUSTOM policy that matches denies the call, if it does.
fn denied_by_authorizer(mesh: &Mesh, policy: &Policy, call: &Call) -> Option<Denier> {
    let name = policy.name.clone();
    let provider = policy.spec.provider.as_ref().and_then(|provider| mesh.authorizers.get(&provider.name));
    let Some(AuthorizerKind { over, fails_open }) = provider else { return Some(Denier::NoProvider(name)) };
    if *over == Over::Http && call.http.is_none() {
        return None;
    }
    match call.authorizer {
        Answer::Allows => None,
        Answer::Denies => Some(Denier::Authorizer(name)),
        Answer::Nothing => (!fails_open).then_some(Denier::NoAnswer(name)),
    }
}

fn is_matched(mesh: &Mesh, policy: &Policy, call: &Call) -> bool {
    let on_tcp = match policy.spec.action {
        Action::Allow => OnTcp::Never,
        _ => OnTcp::Ignored,
    };
    let context = Context { mesh, call, namespace: &policy.namespace, on_tcp };
    let matches = |Rule { from, to, when }: &Rule| {
        (from.is_empty() || from.iter().any(|from| context.source(from)))
            && (to.is_empty() || to.iter().any(|to| context.operation(to)))
            && when.iter().all(|condition| context.condition(condition))
    };
    policy.spec.rules.iter().any(matches)
}
