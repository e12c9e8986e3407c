//! The program in an empty directory, as somebody without a checkout has it: its exit codes, and what it says.

use std::path::Path;
use std::process::{Command, Output};

use meshproof::host::Host;
use meshproof::judge::{Arm, Run};
use meshproof_suites::SUITES;

/// Runs the program in `directory`, without what cargo sets.
fn meshproof(directory: &Path, arguments: &[&str]) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_meshproof"));
    for variable in ["CARGO_MANIFEST_DIR", "CARGO_TARGET_DIR", "MESHPROOF_TESTBED", "KUBECONFIG", "RUST_MIN_STACK"] {
        program.env_remove(variable);
    }
    program.current_dir(directory).args(arguments).output().unwrap()
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Runs of two arms whose treatment is `slower` times as slow, and bounds that permit 1.5.
fn recorded(directory: &Path, slower: f64) {
    let bounds = include_str!("../../fixtures/perf/two-arms.toml")
        .replace("\"one\"", "\"sidecar\"")
        .replace("receipts", "# receipts")
        .replace("max_pairs = 10", "max_pairs = 4")
        .replace("at_most = 1.0", "at_most = 1.5")
        .replace("goal", "# goal");
    std::fs::create_dir_all(directory.join("bounds")).unwrap();
    std::fs::write(directory.join("bounds/bounds.toml"), bounds).unwrap();
    for order in 0..8 {
        let mut run = Run::new("sidecar", order, Host::default(), serde_json::json!({ "mode": "quick" }));
        (run.started, run.duration, run.requests) = (10.0 * f64::from(order), 10.0, 1_000);
        let p99 = if run.arm == Arm::Treatment { slower * 1_000.0 } else { 1_000.0 };
        run.measure("p99_us", p99 + f64::from(order), "us");
        run.record(&directory.join("runs")).unwrap();
    }
}

#[test]
fn exit_code_0_what_holds() {
    let directory = tempfile::tempdir().unwrap();
    recorded(&directory.path().join("perf"), 1.1);
    let output = meshproof(directory.path(), &["judge", "perf"]);
    assert_eq!(code(&output), Some(0), "{}", text(&output));
}

#[test]
fn exit_code_1_what_does_not_hold() {
    let directory = tempfile::tempdir().unwrap();
    recorded(&directory.path().join("perf"), 2.0);
    let output = meshproof(directory.path(), &["judge", "perf"]);
    assert_eq!(code(&output), Some(1), "{}", text(&output));
    assert!(text(&output).contains("1 of 1 comparisons do not hold"), "{}", text(&output));
}

#[test]
fn exit_code_2_the_command_line() {
    let directory = tempfile::tempdir().unwrap();
    for (arguments, said) in [
        (&["tset"][..], "unrecognized subcommand"),
        (&["test", "mtsl"], "there is no suite `mtsl`: name one of analyze, audit, authorization, bench"),
        (&["test", "mtls", "no_such_test"], "no test of mtls is named no_such_test"),
        (&["test", "mtls", "--no-such-flag"], "--no-such-flag"),
        (&["attach", "--context", "east"], "--probe-image"),
        (&["audit", "--expected", "none.toml"], "none.toml"),
        (&["audit", "--context", "east"], "--probe-image"),
        (&["audit", "--probe-image", "probe"], "--context"),
        (&["audit", "--kubeconfig", "east.yaml"], "--context"),
        (&["plan", "--context", "east", "--probe-image", ""], "it is no name of an image"),
        (&["plan", "--context", "east", "--probe-image", "https://registry/probe"], "without a scheme"),
        (&["compare", "--control", "none", "--treatment", "none"], "none: it is no directory: give one with"),
        (&["compare", "--control", "none", "--treatment", "none", "--service", "cart"], "--port"),
    ] {
        let output = meshproof(directory.path(), arguments);
        assert_eq!(code(&output), Some(2), "{arguments:?}: {}", text(&output));
        assert!(text(&output).contains(said), "{arguments:?}: {}", text(&output));
    }
}

#[test]
fn exit_code_2_a_service_that_the_manifests_do_not_declare() {
    let directory = tempfile::tempdir().unwrap();
    let service = "{apiVersion: v1, kind: Service, metadata: {name: cart}, spec: {ports: [{name: http, port: 80}]}}";
    for (side, manifest) in [("one", service.to_owned()), ("other", service.replace("80", "8080"))] {
        std::fs::create_dir(directory.path().join(side)).unwrap();
        std::fs::write(directory.path().join(side).join("cart.yaml"), manifest).unwrap();
    }
    let sides = ["compare", "--control", "one", "--treatment", "other", "--service"];
    for (service, said) in [
        (
            ["cart", "--port", "70"],
            "service cart of the control cannot be measured: Service/cart in its manifests has 80 (http), and must",
        ),
        (
            ["card", "--port", "80"],
            "service card of the control cannot be measured: its manifests declare Service/cart",
        ),
    ] {
        // There is no mesh, and none is missed.
        let output = meshproof(directory.path(), &[&sides[..], &service].concat());
        assert_eq!(code(&output), Some(2), "{}", text(&output));
        assert!(text(&output).contains(said), "{}", text(&output));
    }
    assert!(!directory.path().join("meshproof").exists(), "a report was written");
}

#[test]
fn exit_code_3_nothing_was_judged() {
    let directory = tempfile::tempdir().unwrap();
    for (arguments, said) in [
        (&["test", "mtls"][..], "attach a mesh with `meshproof attach`"),
        (&["audit"], "no testbed"),
        (&["judge", "nowhere"], "nowhere"),
        (&["report", "nowhere"], "nowhere"),
        (&["plan", "--context", "east", "--read-only", "--kubeconfig", "none"], "none"),
        (&["detach"], "no record at"),
        (&["ledger", "show", "none"], "no ledger at none: `meshproof ledger add` makes one"),
        (&["audit", "--context", "east", "--probe-image", "probe", "--kubeconfig", "none"], "none"),
    ] {
        let output = meshproof(directory.path(), arguments);
        assert_eq!(code(&output), Some(3), "{arguments:?}: {}", text(&output));
        assert!(text(&output).contains(said), "{arguments:?}: {}", text(&output));
    }
    for side in ["one", "other"] {
        std::fs::create_dir(directory.path().join(side)).unwrap();
    }
    let equal = meshproof(directory.path(), &["compare", "--control", "one", "--treatment", "other"]);
    assert_eq!(code(&equal), Some(3), "{}", text(&equal));
    assert!(text(&equal).contains("both sides declare the same: 0 objects"), "{}", text(&equal));
    for side in ["one", "other"] {
        std::fs::remove_dir(directory.path().join(side)).unwrap();
    }
    let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().collect();
    assert!(left.is_empty(), "nothing was judged, and yet something was written: {left:?}");
}

#[test]
fn suites_and_their_tests_are_listed_without_a_mesh() {
    let directory = tempfile::tempdir().unwrap();
    let suites = meshproof(directory.path(), &["test"]);
    assert_eq!(code(&suites), Some(0), "{}", text(&suites));
    for suite in SUITES.iter().map(|suite| suite.name).chain(["attach a mesh with"]) {
        assert!(text(&suites).contains(suite), "{suite}: {}", text(&suites));
    }
    let tests = meshproof(directory.path(), &["test", "mtls", "tls_below_1_2", "permissive", "--list"]);
    let listed = String::from_utf8_lossy(&tests.stdout).into_owned();
    let owed = "tls_below_1_2_is_refused::at_1_0: test\ntls_below_1_2_is_refused::at_1_1: test\nplaintext_is_answered_under_permissive: test\n";
    assert!(listed.starts_with(owed), "{}", text(&tests));
}

#[test]
fn completions_name_every_command() {
    let directory = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = meshproof(directory.path(), &["completions", shell]);
        assert_eq!(code(&output), Some(0), "{}", text(&output));
        let all = ["attach", "plan", "audit", "compare", "test", "load", "judge", "report", "gate", "ledger", "detach"];
        for command in all {
            assert!(text(&output).contains(command), "{shell}: {command}");
        }
    }
}
