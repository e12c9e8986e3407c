//! Tests of the page, with real verdicts on synthetic runs, and with text that contains markup.

use std::collections::BTreeMap;

use crate::host::Host;
use crate::judge::growth::Point;
use crate::judge::simulate::NOISES;
use crate::judge::tests::{runs, trial};
use crate::judge::{Comparison, Growth, Reference};
use crate::judge::{Judge, Limit, recorded};
use crate::report::diagnosis::tests::cause;
use crate::report::truth::tests::{cell, table};
use crate::report::{
    Claim, Concluded, Conclusion, Diagnosis, Edge, Judgement, Layer, OPEN_LINES, Report, SCHEMA, State, Table, html,
    junit, markdown,
};

use super::{Beside, Picture};

const HOSTILE: &str = "<script>alert('x')</script> & \"quoted\" | *bold*";

fn comparisons() -> Vec<Comparison> {
    let mut random = fastrand::Rng::with_seed(60);
    let mut trial = trial();
    trial.metrics[0].reference = Some(Reference { control: 2556.0, treatment: 2428.0 });
    let of = |(id, effect): (&str, f64), random: &mut fastrand::Rng| {
        let mut runs = runs(&NOISES[0].runs(20, random), effect);
        let mut trial = trial.clone();
        trial.id = id.into();
        runs.iter_mut().for_each(|run| run.comparison = id.into());
        recorded::judge(&runs, &mut Judge::new(&trial)).unwrap()
    };
    [("bypass/16", 0.85), ("bypass/32", 1.3), ("bypass/64", 1.0)].map(|one| of(one, &mut random)).concat()
}

fn claim(id: &str, verdict: Judgement, observed: &str) -> Claim {
    let stated = Claim::about(id, "every service reaches those that it calls").from(HOSTILE).expects("");
    let claim = match verdict {
        Judgement::Error => stated.not_judged(observed),
        verdict => stated.observes(observed, str::to_owned, |_| verdict == Judgement::Pass),
    };
    let edge = id.strip_prefix("edge/").and_then(|edge| edge.split_once('/'));
    let (caller, callee) = edge.expect("an edge");
    let answered_by = observed.strip_prefix("answered by ").map(|by| by.split('/').next().unwrap_or_default().into());
    let edge = Edge { caller: caller.into(), callee: callee.into(), answered_by };
    let claim = claim.with_evidence(HOSTILE).with_edge(edge);
    if verdict == Judgement::Fail { claim.with_fault(HOSTILE) } else { claim }
}

fn report() -> Report {
    Report {
        schema: SCHEMA.into(),
        suite: "example".into(),
        run: "1".into(),
        revision: "abc".into(),
        host: Host { name: "here".into(), cpus: 2, ..Host::default() },
        versions: BTreeMap::from([("mesh".into(), "1.31".into())]),
        claims: vec![
            claim("edge/frontend/cart", Judgement::Pass, "answered by cluster2/cart-1"),
            claim("edge/frontend/ads", Judgement::Fail, "not answered"),
            claim("edge/cart/redis", Judgement::Error, HOSTILE),
        ],
        comparisons: comparisons(),
        tables: vec![Table {
            title: format!("New connections {HOSTILE}"),
            header: vec!["generator".into(), "requests/s".into()],
            rows: vec![vec!["fortio".into(), HOSTILE.into()]],
        }],
        growths: vec![Growth {
            id: "services/memory".into(),
            figure: HOSTILE.into(),
            unit: "bytes".into(),
            per: HOSTILE.into(),
            points: [(10, 2e6), (100, 3e6), (1000, 12e6)].map(|(size, value)| Point { size, value }).to_vec(),
            at_most: 2e4,
            source: HOSTILE.into(),
        }],
        diagnoses: vec![Diagnosis {
            cause: cause(Layer::RemoteSecret, HOSTILE),
            claims: vec!["edge/frontend/ads".into()],
        }],
        tests: Vec::new(),
        conclusions: Vec::new(),
    }
}

fn with_truth() -> Beside {
    let cells = vec![
        cell("strict/plain", "naked/http1", State::Holds, "reset"),
        cell("strict/plain", "meshed/http1", State::Holds, "mutual TLS"),
        cell("open/plain", "naked/tcp", State::Red, HOSTILE),
        cell("open/plain", "naked/udp", State::NotMade, ""),
    ];
    Beside { truth: Some(table("one", cells)), ..Beside::default() }
}

/// Red if a cell that is not as it must be looks like one that is, or cannot be found by its filters.
#[test]
fn a_truth_table_is_one_picture_with_filters_and_evidence() {
    let page = html::page(&report(), &with_truth());
    assert!(page.contains(">M</a>") && page.contains("wrong\"><a"), "{page}");
    assert_eq!(page.matches(">✗</a>").count(), 1);
    assert_eq!(page.matches("class=\"proof\"").count(), 4, "each cell has its evidence");
    for filter in ["cluster", "namespace", "protocol", "client"] {
        let has = page.contains(&format!("<legend>{filter}</legend>"));
        assert_eq!(has, filter != "cluster", "{filter}: a choice of one is none");
    }
    assert!(page.contains(":has(#f-tp0:checked) .col:not(.tp0) { display: none; }"));
    assert!(!page.contains("<script>alert") && !page.contains("because <b>"));
}

#[test]
fn a_claims_text_is_never_markup() {
    let report = report();
    let shots = [Picture { caption: HOSTILE.into(), media_type: "image/png", bytes: vec![1, 2, 3] }];
    let page =
        html::page(&report, &Beside { screenshots: shots.to_vec(), profiles: shots.to_vec(), ..Beside::default() });
    assert!(!page.contains("<script>alert") && page.contains("&lt;script&gt;alert"), "{page}");
    assert!(page.contains("src=\"data:image/png;base64,AQID\""));
    let (xml, text) = (junit(&report).unwrap(), markdown(&report, OPEN_LINES));
    assert!(!xml.contains("<script>") && !text.contains("<script>"), "{xml}\n{text}");
    assert!(text.contains("\\*bold\\*") && text.contains("\" \\| "), "{text}");
}

#[test]
fn the_page_needs_nothing_but_itself() {
    let page = html::page(&report(), &with_truth());
    for outside in ["http://", "https://", "<script", "<link", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn a_cell_of_the_matrix_says_who_answered_without_colour() {
    let page = html::page(&report(), &Beside::default());
    for cell in [">✓ cluster2<", ">✗ no answer<", ">? no answer<", ">·<"] {
        assert!(page.contains(cell), "{cell}: {page}");
    }
}

#[test]
fn what_does_not_hold_comes_first_and_is_open() {
    let page = html::page(&report(), &Beside::default());
    let place = |text: &str| page.find(text).unwrap();
    assert!(place("<code>edge/frontend/ads</code>") < place("<code>edge/frontend/cart</code>"));
    assert_eq!(page.matches("<details open>").count(), 1, "a claim that a cause explains is folded");
    assert!(place("has no remote secret") < place("<code>edge/frontend/ads</code>"), "the cause comes first");
}

#[test]
fn what_has_a_bound_comes_first_and_what_has_none_is_folded_away() {
    let mut report = report();
    let mut other = report.comparisons[0].clone();
    (other.metric, other.bound.gate, other.bound.goal) = ("unbounded".into(), None, None);
    other.reference = None;
    report.comparisons.insert(0, other);
    let page = html::page(&report, &Beside::default());
    let (before, folded) = page.split_once(" metrics have no bound").unwrap();
    assert!(!before.contains("unbounded") && folded.contains("unbounded"), "{page}");
    assert!(before.contains("<details class=\"many\">") && before.contains(">bypass/16<"), "{page}");
}

#[test]
fn an_interval_says_how_sure_it_is_where_that_is_not_what_the_column_says() {
    let mut comparisons = comparisons();
    comparisons.truncate(1);
    let text = |comparisons: &[Comparison]| crate::report::table::comparisons(comparisons).to_string();
    assert!(!text(&comparisons).contains("95 %)"));
    (comparisons[0].confidence, comparisons[0].interval) = (0.98, [Some(0.5), Some(0.75)]);
    assert!(text(&comparisons).contains("0.500 to 0.750 (98 %)"), "{}", text(&comparisons));
}

#[test]
fn a_table_that_was_measured_is_in_the_page_and_in_the_summary() {
    let report = report();
    let page = html::page(&report, &Beside::default());
    for text in [page, markdown(&report, OPEN_LINES)] {
        assert!(text.contains("New connections") && text.contains("fortio"), "{text}");
    }
}

#[test]
fn every_claim_and_comparison_is_one_test_case() {
    let report = report();
    let xml = junit(&report).unwrap();
    assert_eq!(xml.matches("<testcase ").count(), 3 + report.comparisons.len());
    assert_eq!((xml.matches("<failure ").count(), xml.matches("<error ").count()), (1 + 2, 1));
    let all = xml.lines().find(|line| line.starts_with("<testsuites ")).unwrap();
    let tests = format!(" tests=\"{}\"", 3 + report.comparisons.len());
    for count in [&tests, " skipped=\"0\"", " failures=\"3\"", " errors=\"1\""] {
        assert!(all.contains(count), "{count}: {all}");
    }
    // XML does not allow control characters.
    let mut report = report;
    report.claims[0] = claim("edge/frontend/cart", Judgement::Fail, "\u{1b}[31m");
    assert!(!junit(&report).unwrap().contains('\u{1b}'));
}

#[test]
fn a_cause_is_in_full_once_and_each_of_its_claims_names_it() {
    let xml = junit(&report()).unwrap();
    assert_eq!(xml.matches("cluster1 has no remote secret of cluster2").count(), 1, "{xml}");
    let failure = xml.lines().find(|line| line.contains("<failure ") && line.contains("not answered")).unwrap();
    assert!(failure.contains("remote secret: "), "{failure}");
    let page = html::page(&report(), &Beside::default());
    assert_eq!(page.matches("cluster1 has no remote secret of cluster2").count(), 1);
}

#[test]
fn a_summary_names_what_does_not_hold_and_what_it_needs() {
    let mut report = report();
    report.claims.clear();
    report.diagnoses.clear();
    report.tables.clear();
    insta::assert_snapshot!(markdown(&report, OPEN_LINES));
}

#[test]
fn every_verdict_can_be_drawn() {
    let mut all = comparisons();
    all[0].bound.gate = Some(Limit::Within(1.1));
    all[0].interval = [None, None];
    all[0].ratios = vec![1.0];
    all[1].bound.goal = Some(Limit::AtLeast(5.0));
    let report = Report { comparisons: all, ..report() };
    let page = html::page(&report, &Beside::default());
    assert!(!page.contains("NaN") && !page.contains("inf"), "{page}");
}

#[test]
fn a_drawing_keeps_its_shape() {
    let picture = |bytes: &[u8]| Picture { caption: String::new(), media_type: "image/svg+xml", bytes: bytes.to_vec() };
    let drawn =
        picture(br#"<svg width="1200" height="950" viewBox="0 0 1200 950" xmlns="http://www.w3.org/2000/svg">"#);
    assert_eq!(drawn.shape().as_deref(), Some("aspect-ratio: 1200 / 950"));
    for without in ["<svg>", r#"<svg viewBox="0 0 1200">"#, r#"<svg viewBox="0 0 0 x; color: red">"#, ""] {
        assert_eq!(picture(without.as_bytes()).shape(), None, "{without}");
    }
}

#[test]
fn a_page_of_a_comparison_that_did_not_pass_does_not_say_that_all_hold() {
    let of = |verdict| {
        let why = "p99_us 1.163".to_owned();
        let conclusion = Conclusion { comparison: "proxies".into(), verdict, why, may_be_inconclusive: true };
        let (claims, comparisons) = (Vec::new(), Vec::new());
        html::page(&Report { claims, comparisons, conclusions: vec![conclusion], ..report() }, &Beside::default())
    };
    assert!(of(Concluded::Pass).contains("All hold"));
    assert!(of(Concluded::Unchanged).contains("All that was judged holds"));
    for verdict in Concluded::NO_PASS {
        let page = of(verdict);
        assert!(page.contains("Not all hold") && page.contains(&format!("proxies {verdict}")), "{verdict}");
    }
}
