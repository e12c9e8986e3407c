//! The steps from the caches' keys to the gate.

use std::collections::BTreeMap;

use meshproof::report::{self, Claim, Kind, Outcome, Tested};

use crate::runner::{Runner, root, yaml};

/// A report of the suite `mtls` in the workspace's directory `reports`: `claim-3` holds, or does not.
pub(crate) fn suite(runner: &Runner, reports: &str, holds: bool) {
    let directory = runner.path("workspace").join(reports).join("mtls");
    let claims = (0..20).map(|n| Claim::about(format!("claim-{n}"), "").equals(&true, &(n != 3 || holds))).collect();
    report::record_tables(&directory, "mtls", BTreeMap::new(), claims, Vec::new()).unwrap();
    let good = Tested::now("a_good_test", Outcome::Passed);
    let other = match holds {
        true => Tested::now("another_test", Outcome::Passed),
        false => Tested::now("another_test", Outcome::Failed(Kind::Assertion)).with_red(vec!["claim-3".into()]),
    };
    [good, other].into_iter().for_each(|test| report::record_test(&directory, "mtls", test).unwrap());
}

fn judged(inputs: &[(&str, &str)], holds: bool) -> (Runner, crate::runner::Ended) {
    let mut runner = Runner::new(&[&[("mesh", "none"), ("suites", "mtls")][..], inputs].concat());
    suite(&runner, "meshproof", holds);
    suite(&runner, "earlier", true);
    assert_eq!(runner.step("build the program").code, Some(0));
    assert_eq!(runner.step("mesh").code, Some(0));
    let ended = runner.step("gate");
    (runner, ended)
}

#[test]
fn a_change_that_moves_nothing_holds_and_its_outcomes_are_kept() {
    let (runner, ended) = judged(&[("base", "earlier")], true);
    assert_eq!(ended.code, Some(0), "{}", ended.text);
    assert_eq!(runner.output("gate", "verdict"), "holds");
    let summary = runner.read("GITHUB_STEP_SUMMARY");
    assert!(summary.starts_with("## ✅ meshproof: holds\n\n2 tests passed. [The run]("), "{summary}");
    assert!(summary.contains("https://example.com/team/mesh/actions/runs/77"), "{summary}");
    assert_eq!(summary, runner.read("workspace/meshproof/pull-request.md"));
    for file in ["junit.xml", "report.html", "changes.html"] {
        assert!(runner.path("workspace/meshproof/mtls").join(file).is_file(), "{file}");
    }
    let outcomes = runner.read("workspace/meshproof/outcomes.jsonl");
    assert_eq!(outcomes.lines().filter(|line| line.contains(r#""commit":"4c1d0b6""#)).count(), 2, "{outcomes}");
    assert!(runner.path("temp/meshproof/base/mtls/report.json").is_file(), "for a later run to compare with");
}

#[test]
fn a_change_that_breaks_a_claim_does_not_hold_and_the_summary_names_it() {
    let (runner, ended) = judged(&[("base", "earlier")], false);
    assert_eq!(ended.code, Some(1), "{}", ended.text);
    assert_eq!(runner.output("gate", "verdict"), "does-not-hold");
    let summary = runner.read("GITHUB_STEP_SUMMARY");
    assert!(summary.starts_with("## ❌ meshproof: does not hold\n\n1 tests passed, 1 failed."), "{summary}");
    assert!(summary.contains("| mtls/another\\_test | failed (assertion) | claim-3 |"), "{summary}");
    assert!(summary.contains("meshproof: what changed") && summary.contains("| mtls | 1 | – |"), "{summary}");
    assert!(summary.lines().count() <= 60 && summary.len() <= 10_000, "{summary}");
}

const QUARANTINE: &str = r#"
[[quarantine]]
suite = "mtls"
test = "another_test"
owner = "@mesh"
until = 2999-12-31
reason = "the gateway restarts"
"#;

#[test]
fn a_quarantined_test_is_shown_and_does_not_fail_the_job() {
    for (file, code, verdict) in [
        (QUARANTINE.to_owned(), 0, "holds"),
        (QUARANTINE.replace("2999", "2020"), 1, "does-not-hold"),
        (QUARANTINE.replace("another_test", "no_such_test"), 2, "nothing-judged"),
        (QUARANTINE.replace("owner", "# owner"), 2, "nothing-judged"),
    ] {
        let mut runner = Runner::new(&[("mesh", "none"), ("suites", "mtls"), ("quarantine", "quarantine.toml")]);
        suite(&runner, "meshproof", false);
        std::fs::write(runner.path("workspace/quarantine.toml"), &file).unwrap();
        let ended = runner.step("gate");
        assert_eq!((ended.code, runner.output("gate", "verdict")), (Some(code), verdict), "{}", ended.text);
        match code {
            0 => assert!(runner.read("GITHUB_STEP_SUMMARY").contains("2999-12-31, @mesh: the gateway restarts")),
            2 => {
                assert!(ended.text.contains("quarantine.toml:2: "), "{}", ended.text);
                let summary = runner.read("GITHUB_STEP_SUMMARY");
                assert!(summary.contains("nothing was judged") && summary.contains("quarantine.toml:2: "), "{summary}");
            }
            _ => assert!(ended.text.contains("its quarantine ended on 2020-12-31, @mesh"), "{}", ended.text),
        }
    }
}

#[test]
fn a_suite_without_a_report_was_not_judged() {
    let (runner, ended) = judged(&[("suites", "mtls audit")], true);
    assert_eq!((ended.code, runner.output("gate", "verdict")), (Some(3), "nothing-judged"), "{}", ended.text);
    assert!(ended.text.contains("not judged: the report meshproof/audit/report.json"), "{}", ended.text);
    // What is red stays red.
    assert_eq!(judged(&[("suites", "mtls audit")], false).1.code, Some(1));
    let mut empty = Runner::new(&[("mesh", "none"), ("suites", "")]);
    assert_eq!(empty.step("gate").code, Some(3));
}

/// What runs a command where a value is read as shell: bare, in double quotes, in single quotes, or anywhere.
const HOSTILE: [&str; 4] =
    ["x; touch pwned; x", "x\"; touch pwned; \"x", "x'; touch pwned; 'x", "$(touch pwned)`touch pwned`"];

#[test]
fn an_input_is_data_and_never_a_command() {
    let names =
        ["suites", "reports", "base", "quarantine", "ledger-branch", "own-suite", "not-declared", "configuration"];
    let names = names.into_iter().chain(["comparisons", "base-revision"]);
    for (name, hostile) in names.flat_map(|name| HOSTILE.map(|hostile| (name, hostile))) {
        let compared = [("comparisons", "comparisons.toml"), ("base-revision", "HEAD")];
        let mut runner = Runner::new(&[&[("mesh", "none")][..], &compared, &[(name, hostile)]].concat());
        suite(&runner, "meshproof", true);
        runner.set("MESHPROOF_TESTBED", "none");
        for step in ["mesh", "suites", "comparisons", "gate"] {
            runner.step(step);
        }
        let ran =
            ["workspace", "workspace/suite", "checkout", "temp"].map(|place| runner.path(place).join("pwned").exists());
        assert_eq!(ran, [false; 4], "{name}: {hostile}");
    }
}

#[test]
fn an_unknown_suite_or_mesh_is_an_invalid_command_line() {
    let mut runner = Runner::new(&[("suites", "mtsl")]);
    let ended = runner.step("suites");
    assert_eq!(ended.code, Some(2), "{}", ended.text);
    let ended = Runner::new(&[("mesh", "upp")]).step("mesh");
    assert_eq!(ended.code, Some(2));
    assert!(ended.text.contains("it must be up, testbed, attach or none"), "{}", ended.text);
    let ended = Runner::new(&[("mesh", "none"), ("configuration", ".")]).step("mesh");
    assert_eq!(ended.code, Some(2));
    assert!(ended.text.contains("never to a mesh that is attached"), "{}", ended.text);
}

#[test]
fn a_suite_is_run_whole_or_by_the_tests_that_are_named() {
    let with = |suites: &str| {
        let mut runner = Runner::new(&[("mesh", "testbed"), ("suites", suites)]);
        std::fs::remove_file(runner.path("temp/meshproof/bin/meshproof")).unwrap();
        runner.stand_in("temp/meshproof/bin/meshproof", r#"echo "$*" >> "$HOME/called""#);
        let ended = runner.step("suites");
        (runner, ended)
    };
    let (mut runner, ended) = with("hidden audit/every_port,apart::a_pod");
    assert_eq!(ended.code, Some(0), "{}", ended.text);
    let called = runner.read("home/called");
    let owed = "test --output meshproof hidden\ntest --output meshproof audit every_port apart::a_pod\n";
    assert_eq!(called, owed);
    // The gate misses both reports, by the names of their suites.
    let text = runner.step("gate").text;
    assert!(
        !text.contains("every_port") && runner.read("home/called").contains("gate meshproof/hidden meshproof/audit ")
    );
    for (suites, said) in [
        ("audit mtls audit/every_port", "audit is there twice: name several of its tests as audit/TEST,TEST"),
        ("mtls audit/--ignored", "`audit/--ignored`: write SUITE, or SUITE/TEST,TEST"),
        ("audit/", "`audit/`: write SUITE"),
        ("audit/../mtls", "`audit/../mtls`: write SUITE"),
    ] {
        let (runner, ended) = with(suites);
        assert_eq!(ended.code, Some(2), "{suites}: {}", ended.text);
        assert!(ended.text.contains(said) && runner.read("home/called").is_empty(), "{suites}: {}", ended.text);
    }
}

#[test]
fn up_brings_a_testbed_up_and_applies_the_configuration_to_every_cluster() {
    let mut runner = Runner::new(&[("configuration", "mesh"), ("declaration", "clusters.toml")]);
    std::fs::create_dir_all(runner.path("workspace/mesh")).unwrap();
    std::fs::write(runner.path("workspace/clusters.toml"), "").unwrap();
    runner.stand_in("bin/cargo", r#"echo "cargo $*" >> "$HOME/called""#);
    runner.stand_in("bin/sudo", r#"while [[ $1 == --* ]]; do shift; done; exec "$@""#);
    let kubectl =
        r#"case "$*" in *get-contexts*) printf 'east\nwest\n' ;; *) echo "kubectl $*" >> "$HOME/called" ;; esac"#;
    runner.stand_in("checkout/target/testbed/bin/kubectl", kubectl);
    let ended = runner.step("mesh");
    assert_eq!(ended.code, Some(0), "{}", ended.text);
    let called = runner.read("home/called");
    let lines: Vec<&str> = called.lines().collect();
    assert_eq!(lines.len(), 3, "{called}");
    assert!(lines[0].starts_with("cargo xtask testbed up --declaration /"), "{called}");
    for (line, context) in lines[1..].iter().zip(["east", "west"]) {
        assert!(line.ends_with(&format!("--context {context} apply --recursive --filename mesh")), "{line}");
    }
    // The next step finds the testbed.
    let shown = runner.shell("none", "echo \"$MESHPROOF_TESTBED\"", &BTreeMap::new());
    assert_eq!(shown.text.trim(), runner.path("checkout/target/testbed").to_str().unwrap());
}

#[test]
fn attach_writes_the_kubeconfig_where_only_its_user_reads_it_and_leave_removes_it() {
    use std::os::unix::fs::PermissionsExt;
    let inputs =
        [("mesh", "attach"), ("contexts", "east west"), ("kubeconfig", "secret: 1"), ("probe-image", "r/probe:1")];
    let mut runner = Runner::new(&inputs);
    std::fs::remove_file(runner.path("temp/meshproof/bin/meshproof")).unwrap();
    runner.stand_in("temp/meshproof/bin/meshproof", r#"echo "$* with $KUBECONFIG" >> "$HOME/called""#);
    let ended = runner.step("mesh");
    assert_eq!(ended.code, Some(0), "{}", ended.text);
    let called = runner.read("home/called");
    assert!(called.starts_with("attach --context east --context west --probe-image r/probe:1 with /"), "{called}");
    let file = runner.path("temp/meshproof/kubeconfig");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!ended.text.contains("secret"), "{}", ended.text);
    runner.step("leave the mesh");
    assert!(!file.exists());
}

#[test]
fn a_suite_of_the_readers_own_is_reported_with_the_others_and_must_leave_a_report() {
    let mut runner = Runner::new(&[("mesh", "testbed"), ("suites", ""), ("own-suite", "suite")]);
    std::fs::create_dir_all(runner.path("workspace/suite")).unwrap();
    runner.set("CARGO_TARGET_DIR", runner.path("built").to_str().unwrap());
    runner.stand_in("bin/cargo", "exit 101");
    let ended = runner.step("suites");
    assert_eq!(ended.code, Some(3), "{}", ended.text);
    // One that leaves a green report and fails all the same.
    suite(&runner, "recorded", true);
    let recorded = runner.path("workspace/recorded");
    let copy = r#"mkdir -p "$CARGO_TARGET_DIR/meshproof"; cp -R RECORDED/. "$CARGO_TARGET_DIR/meshproof/"; exit CODE"#;
    for code in ["101", "0"] {
        let script = copy.replace("RECORDED", recorded.to_str().unwrap()).replace("CODE", code);
        runner.stand_in("bin/cargo", &script);
        let ended = runner.step("suites");
        assert_eq!(ended.code, Some(0), "{}", ended.text);
        let ended = runner.step("gate");
        let owed = if code == "0" { Some(0) } else { Some(1) };
        assert_eq!(ended.code, owed, "{}", ended.text);
    }
}

#[test]
fn the_keys_of_the_caches_change_with_the_sources() {
    let mut runner = Runner::new(&[]);
    for path in ["fixtures/versions.toml", "Cargo.lock", "Cargo.toml", "src/lib.rs", "program/a.rs", "suites/a.rs"] {
        let path = runner.path("checkout").join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "1").unwrap();
    }
    for directory in ["fixtures/toolchain", "fixtures/clusters/node", "fixtures/workloads"] {
        std::fs::create_dir_all(runner.path("checkout").join(directory)).unwrap();
    }
    let mut keys = || {
        let ended = runner.step("keys of the caches");
        assert_eq!(ended.code, Some(0), "{}", ended.text);
        let keys = ["artifacts", "program"].map(|name| runner.output("keys", name).to_owned());
        (keys, runner.path("checkout"))
    };
    let (first, checkout) = keys();
    assert!(first[0].starts_with("artifacts-") && first[0].len() > 40, "{first:?}");
    std::fs::write(checkout.join("src/lib.rs"), "2").unwrap();
    let (second, _) = keys();
    assert!(second[0] == first[0] && second[1] != first[1]);
    std::fs::write(checkout.join("fixtures/workloads/a.rs"), "2").unwrap();
    let (third, _) = keys();
    assert!(third[0] != second[0] && third[1] != second[1]);
}

#[test]
fn gitlab_runs_the_same_steps() {
    let template = yaml(&root().join("ci/gitlab.yml"));
    let lines = template[".meshproof"]["script"].as_array().unwrap();
    let script: String = lines.iter().map(|line| format!("{}\n", line.as_str().unwrap())).collect();
    for (holds, code) in [(true, 0), (false, 1)] {
        let mut runner = Runner::new(&[]);
        suite(&runner, "meshproof", holds);
        std::os::unix::fs::symlink(runner.path("checkout"), runner.path("workspace/.meshproof")).unwrap();
        // GitLab has no files for outputs, and every line of the script is in one shell.
        let variables =
            [("MESHPROOF_MESH", "none"), ("MESHPROOF_SUITES", ""), ("CI_COMMIT_SHA", "abc"), ("GITHUB_SHA", "")];
        let files = ["GITHUB_OUTPUT", "GITHUB_ENV", "GITHUB_STEP_SUMMARY", "RUNNER_TEMP", "GITHUB_RUN_ATTEMPT"];
        let mut own: BTreeMap<String, String> = files.map(|name| (name.to_owned(), String::new())).into();
        own.extend(variables.map(|(name, value)| (name.to_owned(), value.to_owned())));
        own.insert("MESHPROOF_STATE".into(), runner.path("temp/meshproof").display().to_string());
        let ended = runner.shell("none", &script, &own);
        assert_eq!(ended.code, Some(code), "{}", ended.text);
        assert!(runner.read("workspace/meshproof/outcomes.jsonl").contains(r#""commit":"abc""#), "{}", ended.text);
        assert!(runner.path("workspace/meshproof/mtls/junit.xml").is_file());
    }
}
