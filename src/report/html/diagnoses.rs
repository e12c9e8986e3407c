//! Why claims do not hold: each cause once, with the claims that it explains.

use maud::{Markup, html};

use crate::report::{Cause, Claim, Diagnosis, Report};

pub(super) fn section(report: &Report) -> Markup {
    html! {
        section {
            h2 { "Why" }
            p.note { "The first layer of each call, from the caller to the application, that is not as it must be." }
            @for diagnosis in &report.diagnoses { (one(diagnosis, &report.claims)) }
        }
    }
}

fn one(Diagnosis { cause, claims: ids }: &Diagnosis, claims: &[Claim]) -> Markup {
    let Cause { layer, cluster, object, finding, command } = cause;
    let observed = |id: &str| claims.iter().find(|claim| claim.id() == id).map_or("", Claim::observed);
    html! {
        div.cause {
            p.finding { span.badge.bad { (layer) } " " (finding) }
            dl {
                div { dt { "object" } dd { code { (object) } " in " (cluster) } }
                div { dt { "shown by" } dd { code { (command) } } }
            }
            details {
                summary { span.badge.bad { (ids.len()) } @if ids.len() == 1 { " claim that it explains" } @else { " claims that it explains" } }
                ul.evidence { @for id in ids { li { (id) span.seen { " " (observed(id)) } } } }
            }
        }
    }
}
