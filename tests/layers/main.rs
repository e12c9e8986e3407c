//! Checks the layers of the library, the program and xtask: a module uses only earlier modules, and no files of one
//! layer form a circle. Also checks the lengths of functions and files.

mod limits;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use source::{Arrow, Sources};

/// Modules of the library. Each module uses only earlier modules.
const LIBRARY: &[&str] = &[
    "record",
    "host",
    "judge",
    "report",
    "ledger",
    "identity",
    "policy",
    "cluster",
    "probe",
    "istio",
    "diagnosis",
    "scope",
    "attach",
    "audit",
    "compare",
    "suites",
];

/// Modules of xtask. Each module uses only earlier modules.
const XTASK: &[&str] = &[
    "paths",
    "dns",
    "declaration",
    "ledger",
    "command",
    "versions",
    "template",
    "lock",
    "bundle",
    "artifacts",
    "cache",
    "image",
    "kubernetes",
    "mesh",
    "provider",
    "testbed",
    "load",
    "check",
];

/// Modules of the program. Each module uses only earlier modules.
const PROGRAM: &[&str] = &[
    "files", "progress", "ended", "place", "report", "gate", "ledger", "reading", "visit", "audit", "compare",
    "attach", "detach", "judge", "load", "test",
];

/// Modules of the suites. Each module uses only earlier modules, and no suite uses another.
const SUITES: &[&str] = &[
    "trial",
    "analyze",
    "audit",
    "authorization",
    "bench",
    "boutique",
    "diagnosis",
    "growth",
    "hidden",
    "identity",
    "modes",
    "mtls",
    "perf",
    "traffic",
];

/// A permitted arrow to a later module.
struct Exception {
    from: &'static str,
    to: &'static str,
    reason: &'static str,
}

const EXCEPTIONS: &[Exception] = &[];

#[test]
fn no_function_has_more_than_60_lines_and_no_file_more_than_400_without_a_reason() {
    let directories = ["src", "suites/src", "suites/tests", "program/src", "xtask/src", "tests", "fixtures/workloads"];
    let sources = directories.into_iter().flat_map(limits::sources);
    let faults: Vec<String> = sources.flat_map(|(name, text)| limits::faults(&name, &text)).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_tutorials_code_is_the_suite_that_runs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    let (tutorial, suite) = (read("docs/tutorial/first-suite.md"), read("tests/tutorial.rs"));
    let blocks: Vec<&str> =
        tutorial.split("```rust\n").skip(1).map(|block| block.split("```").next().unwrap_or_default()).collect();
    assert!(blocks.len() > 2, "the tutorial holds {} blocks of Rust", blocks.len());
    for block in blocks {
        assert!(suite.contains(block), "tests/tutorial.rs does not hold this block of the tutorial:\n{block}");
    }
}

/// Arrows of `sources` to a later module of `order`, and modules that are not in `order`.
fn back(sources: &Sources, order: &[&str]) -> Vec<String> {
    let place = |layer: &str| order.iter().position(|one| *one == layer);
    let unplaced = sources.layers().into_iter().filter(|layer| place(layer).is_none());
    let unplaced = unplaced.map(|layer| format!("{}/{layer} has no place in the order of tests/layers", sources.root));
    let back = sources.arrows.iter().filter(|arrow| match (place(&arrow.from_layer), place(&arrow.to_layer)) {
        (Some(from), Some(to)) => to > from && !is_excepted(arrow),
        _ => false,
    });
    let back = back.map(|arrow| {
        format!(
            "{}:{} uses {}: `{}` comes before `{}`",
            arrow.from, arrow.line, arrow.to, arrow.from_layer, arrow.to_layer
        )
    });
    unplaced.chain(back).collect()
}

fn is_excepted(arrow: &Arrow) -> bool {
    EXCEPTIONS.iter().any(|exception| exception.from == arrow.from && exception.to == arrow.to)
}

/// Circles of files within a layer, each as the list of its files. Unit tests may use their whole layer, and are left
/// out.
fn circles(sources: &Sources) -> Vec<String> {
    let mut uses: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
    let within = |arrow: &&Arrow| arrow.from_layer == arrow.to_layer && arrow.from != arrow.to && !arrow.in_test;
    for arrow in sources.arrows.iter().filter(within).filter(|arrow| !is_excepted(arrow)) {
        uses.entry(&arrow.from).or_default().entry(&arrow.to).or_insert(arrow.line);
    }
    let mut found = Vec::new();
    let mut told: BTreeSet<&str> = BTreeSet::new();
    for &start in uses.keys() {
        let Some(files) = shortest_circle(start, &uses).filter(|files| !files.iter().all(|file| told.contains(file)))
        else {
            continue;
        };
        let steps = files.iter().zip(files.iter().cycle().skip(1));
        let steps: Vec<String> = steps.map(|(from, to)| format!("{from}:{} uses {to}", uses[from][to])).collect();
        found.push(format!("a circle: {}", steps.join(", ")));
        told.extend(files);
    }
    found
}

/// The shortest circle through `start`.
fn shortest_circle<'a>(start: &'a str, uses: &BTreeMap<&'a str, BTreeMap<&'a str, usize>>) -> Option<Vec<&'a str>> {
    let mut ways = vec![vec![start]];
    let mut seen = BTreeSet::new();
    while !ways.is_empty() {
        let mut longer = Vec::new();
        for way in ways {
            let last = way[way.len() - 1];
            for &next in uses.get(last).into_iter().flat_map(BTreeMap::keys) {
                if next == start {
                    return Some(way);
                }
                if seen.insert(next) {
                    longer.push(way.iter().copied().chain([next]).collect());
                }
            }
        }
        ways = longer;
    }
    None
}

#[test]
fn no_module_of_the_library_uses_a_layer_below_it() {
    let found = back(&Sources::read("src"), LIBRARY);
    assert!(found.is_empty(), "arrows that run back:\n{}", found.join("\n"));
}

#[test]
fn no_module_of_xtask_uses_a_layer_below_it() {
    let found = back(&Sources::read("xtask/src"), XTASK);
    assert!(found.is_empty(), "arrows that run back:\n{}", found.join("\n"));
}

#[test]
fn no_module_of_the_program_uses_a_layer_below_it() {
    let found = back(&Sources::read("program/src"), PROGRAM);
    assert!(found.is_empty(), "arrows that run back:\n{}", found.join("\n"));
}

#[test]
fn no_suite_uses_another() {
    let sources = Sources::read("suites/src");
    let between = |arrow: &&Arrow| arrow.from_layer != arrow.to_layer && arrow.to_layer != SUITES[0];
    let mut found = back(&sources, SUITES);
    found.extend(sources.arrows.iter().filter(between).map(|arrow| format!("{} uses {}", arrow.from, arrow.to)));
    assert!(found.is_empty(), "arrows between suites:\n{}", found.join("\n"));
}

#[test]
fn only_up_names_a_provider_and_other_commands_ask_whichever_the_record_names() {
    let sources = Sources::read("xtask/src");
    let inside = "xtask/src/provider/";
    let named = sources.arrows.iter().filter(|arrow| {
        let one = arrow.to.strip_prefix(inside).is_some_and(|rest| rest.contains('/'));
        one && !arrow.from.starts_with(inside) && arrow.from != "xtask/src/testbed/up.rs"
    });
    let named: Vec<String> = named.map(|arrow| format!("{}:{} uses {}", arrow.from, arrow.line, arrow.to)).collect();
    assert!(named.is_empty(), "these depend on one provider:\n{}", named.join("\n"));
}

#[test]
fn no_files_of_one_layer_of_the_library_form_a_circle() {
    let found = circles(&Sources::read("src"));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn every_exception_is_still_needed() {
    let sources = [Sources::read("src"), Sources::read("xtask/src")];
    let needed = |exception: &&Exception| {
        let same = |arrow: &Arrow| arrow.from == exception.from && arrow.to == exception.to;
        sources.iter().any(|sources| sources.arrows.iter().any(same))
    };
    let stale = EXCEPTIONS.iter().filter(|exception| !needed(exception));
    let stale: Vec<String> =
        stale.map(|one| format!("{} no longer uses {} ({})", one.from, one.to, one.reason)).collect();
    assert!(stale.is_empty(), "remove these exceptions:\n{}", stale.join("\n"));
}

#[test]
fn arrows_are_read_from_groups_reexports_macros_and_nested_modules() {
    let files = [
        ("lib.rs", "pub mod low; pub mod high; pub use high::Thing;"),
        (
            "low/mod.rs",
            "mod part;\n// crate::high::Comment\nuse crate::{\n    std_like,\n    high::deep::{self, More},\n};",
        ),
        ("low/part.rs", "fn f() { println!(\"{}\", crate::Thing); }\nmod tests { use super::super::super::high; }"),
        ("high/mod.rs", "mod deep; pub struct Thing; /// [`crate::low`]\nfn g() { deep::h() }"),
        ("high/deep.rs", "use super::Thing;"),
    ];
    let files = files.map(|(name, text)| (name.to_owned(), text.to_owned()));
    let sources = Sources::parse("root", files.into_iter().collect());
    let arrow = |arrow: &Arrow| format!("{}:{} {}", arrow.from, arrow.line, arrow.to);
    let mut seen: Vec<String> = sources.arrows.iter().map(arrow).collect();
    seen.dedup();
    let owed = [
        "root/high/deep.rs:1 root/high/mod.rs",
        "root/high/mod.rs:2 root/high/deep.rs",
        "root/low/mod.rs:5 root/high/deep.rs",
        "root/low/part.rs:1 root/high/mod.rs",
        "root/low/part.rs:2 root/high/mod.rs",
    ];
    assert_eq!(seen, owed);
    assert_eq!(back(&sources, &["low", "high"]).len(), 4, "one for `deep`, one for `More`, two in part.rs");
    assert_eq!(back(&sources, &["low"]), ["root/high has no place in the order of tests/layers"]);
    assert_eq!(
        circles(&sources),
        ["a circle: root/high/deep.rs:1 uses root/high/mod.rs, root/high/mod.rs:2 uses root/high/deep.rs"]
    );
}
