//! Claims: a matrix of callers and callees, then all claims by requirement, failures first.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, html};

use super::parts::Tone;
use crate::report::{Claim, Diagnosis, Judgement};

/// If more claims of one requirement hold, they are folded.
const MANY: usize = 12;

pub(super) fn section(claims: &[Claim], diagnoses: &[Diagnosis]) -> Markup {
    let mut requirements: BTreeMap<&str, Vec<&Claim>> = BTreeMap::new();
    for claim in claims {
        requirements.entry(claim.requirement()).or_default().push(claim);
    }
    let failed = |claims: &[&Claim]| claims.iter().filter(|claim| !claim.holds()).count();
    let mut requirements: Vec<(&str, Vec<&Claim>)> = requirements.into_iter().collect();
    requirements.iter_mut().for_each(|(_, claims)| claims.sort_by_key(|claim| claim.holds()));
    requirements.sort_by_key(|(_, claims)| failed(claims) == 0);
    let one = |claim| one(claim, diagnoses);
    html! {
        (matrix(claims))
        section {
            h2 { "Claims" }
            @for (requirement, claims) in &requirements {
                h3 { (requirement) }
                @let failed = failed(claims);
                p.note {
                    @if failed == 0 { "all " (claims.len()) " hold" }
                    @else { (failed) " of " (claims.len()) " do not hold" }
                }
                @let holding = claims.len() - failed;
                @for claim in &claims[..failed] { (one(claim)) }
                @if holding > MANY {
                    details.many {
                        summary { span.badge.good { (holding) " hold" } }
                        @for claim in &claims[failed..] { (one(claim)) }
                    }
                } @else {
                    @for claim in &claims[failed..] { (one(claim)) }
                }
            }
        }
    }
}

fn tone(verdict: Judgement) -> (Tone, &'static str) {
    match verdict {
        Judgement::Pass => (Tone::Good, "holds"),
        Judgement::Fail => (Tone::Bad, "does not hold"),
        Judgement::Error => (Tone::Unsure, "not judged"),
        Judgement::NotDeclared => (Tone::Unsure, "not declared"),
    }
}

/// A claim. It is open if it does not hold, and no cause above explains it.
fn one(claim: &Claim, diagnoses: &[Diagnosis]) -> Markup {
    let is_open = !claim.holds() && !diagnoses.iter().any(|diagnosis| diagnosis.explains(claim));
    let (tone, word) = tone(claim.verdict());
    let row = |name: &str, value: &str| {
        html! { @if !value.is_empty() { div { dt { (name) } dd { (value) } } } }
    };
    html! {
        details open[is_open] {
            summary {
                span.badge.(tone.class()) { (word) }
                code { (claim.id()) }
                span.seen { (claim.observed()) }
            }
            dl {
                (row("from", claim.source()))
                (row("to", claim.destination()))
                (row("expected", claim.expected()))
                (row("seen", claim.observed()))
                (list("against", "against", claim.faults()))
                (list("evidence", "", claim.evidence()))
            }
        }
    }
}

fn list(name: &str, class: &str, lines: &[String]) -> Markup {
    html! {
        @if !lines.is_empty() {
            div { dt { (name) } dd { ul.evidence { @for line in lines { li class=(class) { (line) } } } } }
        }
    }
}

/// The claim with its caller and callee, if the claim is about a call between workloads.
fn edge(claim: &Claim) -> Option<((&str, &str), &Claim)> {
    let edge = claim.edge()?;
    Some(((&edge.caller, &edge.callee), claim))
}

fn matrix(claims: &[Claim]) -> Markup {
    let edges: BTreeMap<(&str, &str), &Claim> = claims.iter().filter_map(edge).collect();
    if edges.is_empty() {
        return html! {};
    }
    let callers: BTreeSet<&str> = edges.keys().map(|(caller, _)| *caller).collect();
    let callees: BTreeSet<&str> = edges.keys().map(|(_, callee)| *callee).collect();
    html! {
        section {
            h2 { "Who reaches whom" }
            p.note { "A cell names the cluster that answered, as the answering pod says itself; a dot is no call of the application." }
            div.scroll {
                table.matrix {
                    thead {
                        tr {
                            th scope="col" { "from ↓ to →" }
                            @for callee in &callees { th scope="col" { span { (callee) } } }
                        }
                    }
                    tbody {
                        @for caller in &callers {
                            tr {
                                th scope="row" { (caller) }
                                @for callee in &callees {
                                    @match edges.get(&(*caller, *callee)) {
                                        None => td.none { "·" },
                                        Some(claim) => {
                                            @let (tone, _) = tone(claim.verdict());
                                            td.(tone.class()) title=(claim.observed()) { (cell(claim)) }
                                        },
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Text that is clear without colour.
fn cell(claim: &Claim) -> String {
    let mark = match claim.verdict() {
        Judgement::Pass => "✓",
        Judgement::Fail => "✗",
        Judgement::Error => "?",
        Judgement::NotDeclared => "–",
    };
    let silent = if claim.holds() { "answered" } else { "no answer" };
    format!("{mark} {}", claim.edge().and_then(|edge| edge.answered_by.as_deref()).unwrap_or(silent))
}
