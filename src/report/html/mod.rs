//! The report as one HTML file, for light and dark mode, and for narrow screens. The page loads nothing, and has no
//! scripts outside of sandboxed flame graphs.

mod claims;
mod comparisons;
mod diagnoses;
mod growths;
mod parts;
mod percentiles;
mod ratios;
mod truth;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use self::parts::{Tone, table};
use super::{Against, Concluded, Judgement, Report, TruthTable};
use crate::judge::{Recording, Verdict};

/// A picture embedded in the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Caption.
    pub caption: String,
    /// Media type, for example `image/png`.
    pub media_type: &'static str,
    /// Content of the file.
    pub bytes: Vec<u8>,
}

impl Picture {
    /// The picture as a data URL.
    fn data(&self) -> String {
        format!("data:{};base64,{}", self.media_type, STANDARD.encode(&self.bytes))
    }

    /// CSS aspect ratio of an SVG drawing. A frame of another shape would shrink the drawing.
    fn shape(&self) -> Option<String> {
        let head = String::from_utf8_lossy(self.bytes.get(..1024).unwrap_or(&self.bytes));
        let (_, rest) = head.split_once("viewBox=\"0 0 ")?;
        let (width, height) = rest.split_once('"')?.0.split_once(' ')?;
        let number = |text: &str| text.parse::<f64>().ok().filter(|number| *number > 0.0);
        Some(format!("aspect-ratio: {} / {}", number(width)?, number(height)?))
    }
}

/// What stands beside a report, and is shown with it.
#[derive(Debug, Clone, Default)]
pub struct Beside {
    /// Recorded runs of the comparisons.
    pub runs: Recording,
    /// The truth table.
    pub truth: Option<TruthTable>,
    /// Screenshots.
    pub screenshots: Vec<Picture>,
    /// Flame graphs.
    pub profiles: Vec<Picture>,
}

/// The page.
pub fn page(report: &Report, beside: &Beside) -> String {
    let Beside { runs, truth, screenshots, profiles } = beside;
    let host = &report.host;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            (head(&report.suite))
            body {
                header {
                    p.brand { "meshproof" }
                    h1 { (report.suite) }
                    (summary(report))
                    @for one in &report.conclusions { p { strong { (one.comparison) " " (one.verdict) } ": " (one.why) } }
                }
                main {
                    @if !report.comparisons.is_empty() { (comparisons::section(&report.comparisons, runs)) }
                    @if !report.tables.is_empty() {
                        section {
                            h2 { "Measured" }
                            @for measured in &report.tables { (table(measured)) }
                        }
                    }
                    (growths::section(&report.growths))
                    @if !report.diagnoses.is_empty() { (diagnoses::section(report)) }
                    @if !report.claims.is_empty() { (claims::section(&report.claims, &report.diagnoses)) }
                    @if let Some(truth) = truth { (truth::section(truth)) }
                    (pictures("Screenshots", "shots", screenshots, |shot| html! { img src=(shot.data()) alt=(shot.caption); }))
                    (pictures("Where processor time went", "profiles", profiles, |profile| {
                        html! { iframe src=(profile.data()) style=[profile.shape()] title=(profile.caption) sandbox="allow-scripts" {} }
                    }))
                }
                footer {
                    h2 { "Made on" }
                    dl {
                        (fact("host", &host.name))
                        (fact("processor", &format!("{} × {}", host.cpus, host.cpu_model)))
                        @if !host.cpu_flags.is_empty() { (fact("flags", &host.cpu_flags.join(" "))) }
                        (fact("memory", &format!("{} MiB", host.memory_mib)))
                        (fact("kernel", &host.kernel))
                        (fact("governor", if host.governor.is_empty() { "not said" } else { &host.governor }))
                        @if !host.virtualization.is_empty() { (fact("guest of", &host.virtualization)) }
                        (fact("revision", &report.revision))
                        (fact("run", &report.run))
                        @for (name, version) in &report.versions { (fact(name, version)) }
                    }
                }
            }
        }
    };
    page.into_string()
}

/// The change of a suite as one page: all that changed, what is worse first.
pub fn changes(against: &Against) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            (head(&against.head.suite))
            body {
                header {
                    p.brand { "meshproof" }
                    h1 { (against.head.suite) ", what changed" }
                    p { (against.counts()) }
                    @if let Some(base) = against.base { p { "From revision " (base.revision) " to " (against.head.revision) "." } }
                    @else { p { "The earlier run does not have this suite." } }
                    @if let Some(reason) = &against.not_compared { p { (reason) } }
                }
                main {
                    section { @for changed in &against.tables() { (table(changed)) } }
                }
            }
        }
    };
    page.into_string()
}

fn head(suite: &str) -> Markup {
    html! {
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="color-scheme" content="light dark";
            title { "meshproof: " (suite) }
            style { (PreEscaped(include_str!("style.css"))) }
        }
    }
}

fn fact(name: &str, value: &str) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}

fn pictures(title: &str, class: &str, pictures: &[Picture], embed: impl Fn(&Picture) -> Markup) -> Markup {
    html! {
        @if !pictures.is_empty() {
            section {
                h2 { (title) }
                div.(class) {
                    @for picture in pictures {
                        figure {
                            (embed(picture))
                            figcaption { (picture.caption) }
                        }
                    }
                }
            }
        }
    }
}

/// Counts of claims and comparisons, and whether all of them hold.
fn summary(report: &Report) -> Markup {
    let claims = |verdict| report.claims.iter().filter(|claim| claim.verdict() == verdict).count();
    let lost = report.comparisons.iter().filter(|comparison| !comparison.holds);
    let unsure = lost.clone().filter(|comparison| comparison.verdict == Verdict::Inconclusive).count();
    let gates = report.comparisons.iter().filter(|comparison| comparison.verdict != Verdict::Reported).count();
    let (failed, errors, lost) = (claims(Judgement::Fail), claims(Judgement::Error), lost.count());
    let undeclared = claims(Judgement::NotDeclared);
    let tiles = [
        (claims(Judgement::Pass), "claims hold", Tone::Good),
        (failed, "claims do not hold", Tone::Bad),
        (errors, "claims were not judged", Tone::Unsure),
        (undeclared, "claims are not declared: the mesh does not offer what they need", Tone::Unsure),
        (gates - lost, "gates hold", Tone::Good),
        (lost - unsure, "gates do not hold", Tone::Bad),
        (unsure, "gates are inconclusive", Tone::Unsure),
        (report.comparisons.len() - gates, "metrics are reported only", Tone::Plain),
    ];
    let not_passed = report.ended(&Concluded::NO_PASS);
    let (tone, word) = match (failed + errors + lost + not_passed, undeclared + report.ended(&[Concluded::Unchanged])) {
        (0, 0) => (Tone::Good, "All hold"),
        (0, _) => (Tone::Unsure, "All that was judged holds"),
        _ => (Tone::Bad, "Not all hold"),
    };
    html! {
        p.overall.(tone.class()) { (word) }
        ul.tiles {
            @for (count, what, tone) in tiles.into_iter().filter(|(count, ..)| *count > 0) {
                li.(tone.class()) { b { (count) } " " (what) }
            }
        }
    }
}

#[cfg(test)]
mod tests;
