//! The comparisons of a change with its base, and the gate that takes their verdicts.

use meshproof::report::{self, Concluded, Conclusion, Kind, Outcome, Tested};

use crate::runner::{Ended, Runner, git};
use crate::steps::suite;

const FILE: &str = "[[comparison]]\nname = \"proxies\"\ncontrol = \"git:BASE:mesh\"\ntreatment = \"mesh\"\n";

const MAP: &str = "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}\n";

/// A job of a pull request whose base has `mesh/`, and whose suite passed.
fn job(file: &str) -> Runner {
    let runner = Runner::new(&[("mesh", "testbed"), ("suites", "mtls"), ("comparisons", "comparisons.toml")]);
    let workspace = runner.path("workspace");
    std::fs::create_dir_all(workspace.join("mesh")).unwrap();
    std::fs::write(workspace.join("mesh/map.yaml"), MAP).unwrap();
    std::fs::write(workspace.join("comparisons.toml"), file).unwrap();
    git(&workspace, &["init", "--quiet", "--initial-branch", "main"]);
    git(&workspace, &["add", "--all"]);
    git(&workspace, &["commit", "--quiet", "--message", "base"]);
    let base = git(&workspace, &["rev-parse", "HEAD"]).trim().to_owned();
    let event = format!(r#"{{"pull_request": {{"number": 5, "base": {{"sha": "{base}"}}}}}}"#);
    std::fs::write(runner.path("event.json"), event).unwrap();
    suite(&runner, "meshproof", true);
    runner
}

/// Puts a comparison that ended like this in the place of one that needs a mesh. The other commands are the real ones.
fn ended_like(runner: &Runner, verdict: Concluded, outcome: Outcome, may_be_inconclusive: bool, code: i32) {
    let recorded = runner.path("recorded");
    let why = "p99_us 1.163 (1.101 to 1.228), bound at most 1.05".into();
    let conclusion = Conclusion { comparison: "proxies".into(), verdict, why, may_be_inconclusive };
    report::record_test(&recorded, "compare", Tested::now("proxies", outcome)).unwrap();
    report::record_conclusion(&recorded, "compare", conclusion).unwrap();
    let program = runner.path("temp/meshproof/bin/meshproof");
    std::fs::remove_file(&program).unwrap();
    let script = format!(
        r#"if [ "$1" = compare ]; then
    echo "$*" >> "$HOME/called"
    mkdir -p meshproof && cp -R "{}" meshproof/compare-proxies
    exit {code}
fi
exec "{}" "$@""#,
        recorded.display(),
        env!("CARGO_BIN_EXE_meshproof")
    );
    runner.stand_in("temp/meshproof/bin/meshproof", &script);
}

fn gated(runner: &mut Runner) -> (Ended, String) {
    runner.set("MESHPROOF_TESTBED", "none");
    let ended = runner.step("comparisons");
    assert_eq!(ended.code, Some(0), "{}", ended.text);
    let ended = runner.step("gate");
    let summary = runner.read("GITHUB_STEP_SUMMARY");
    (ended, summary)
}

#[test]
fn the_verdict_of_a_comparison_is_that_of_the_gate() {
    let open = Outcome::Failed(Kind::Infrastructure);
    for (verdict, outcome, may_be_open, code) in [
        (Concluded::Pass, Outcome::Passed, false, 0),
        (Concluded::Regressed, Outcome::Failed(Kind::Assertion), true, 1),
        (Concluded::Inconclusive, open, false, 1),
        (Concluded::Inconclusive, open, true, 0),
        (Concluded::NotJudged, open, true, 1),
    ] {
        let mut runner = job(FILE);
        ended_like(&runner, verdict, outcome, may_be_open, code);
        let (ended, summary) = gated(&mut runner);
        assert_eq!(ended.code, Some(code), "{verdict}: {}", ended.text);
        let line = format!("| proxies | {verdict} | p99\\_us 1.163 (1.101 to 1.228), bound at most 1.05 |");
        assert!(summary.contains(&line), "no `{line}` in:\n{summary}");
        assert!(!summary.contains("compare | – "), "what changed since an earlier run is another question:\n{summary}");
        // What the comparison was called with: the base of the event.
        let base = git(&runner.path("workspace"), &["rev-parse", "HEAD"]).trim().to_owned();
        let called = runner.read("home/called");
        assert!(called.contains(&format!("--declared comparisons.toml --base {base} ")), "{called}");
    }
}

#[test]
fn a_change_that_leaves_the_compared_configuration_as_it_is_needs_no_mesh() {
    let mut runner = job(FILE);
    let (ended, summary) = gated(&mut runner);
    assert_eq!((ended.code, runner.output("gate", "verdict")), (Some(0), "holds"), "{}", ended.text);
    assert!(summary.contains("| proxies | unchanged | "), "{summary}");
    assert!(runner.path("workspace/meshproof/compare-proxies/report.html").is_file());
}

#[test]
fn a_change_that_cannot_be_compared_does_not_hold() {
    let mut runner = job(FILE);
    std::fs::write(runner.path("workspace/mesh/map.yaml"), MAP.replace("name: a", "name: b")).unwrap();
    runner.set("MESHPROOF_TESTBED", "none");
    let ended = runner.step("comparisons");
    assert_eq!(ended.code, Some(3), "{}", ended.text);
    assert!(ended.text.contains("no comparison left a report"), "{}", ended.text);
}

#[test]
fn an_unusable_file_of_comparisons_is_an_invalid_command_line() {
    for (file, said) in [
        (FILE.replace("treatment", "treatmnt"), "comparisons.toml: line 4: unknown field `treatmnt`"),
        (FILE.replace("git:BASE:mesh", "git:BASE:mash"), "the revision has no directory mash"),
        (String::new(), "it has no [[comparison]]"),
    ] {
        let ended = job(&file).step("comparisons");
        assert_eq!(ended.code, Some(2), "{}", ended.text);
        assert!(ended.text.contains(said), "{}", ended.text);
    }
}

#[test]
fn what_is_no_pull_request_compares_nothing_and_an_unknown_base_is_named() {
    let mut runner = job(FILE);
    std::fs::write(runner.path("event.json"), r#"{"ref": "refs/heads/main"}"#).unwrap();
    let (ended, summary) = gated(&mut runner);
    assert_eq!(ended.code, Some(0), "{}", ended.text);
    assert!(!summary.contains("Compared"), "{summary}");
    std::fs::write(runner.path("event.json"), r#"{"pull_request": {"base": {"sha": "4c1d0b6"}}}"#).unwrap();
    let ended = runner.step("comparisons");
    assert_eq!(ended.code, Some(3), "{}", ended.text);
    assert!(ended.text.contains("the base 4c1d0b6 is not in the checkout"), "{}", ended.text);
}
