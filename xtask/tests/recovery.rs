//! What can happen to a testbed's machines, and that `up` recovers from it. Each test breaks the running testbed, sees
//! that `status` names the break, and brings the testbed up again.
//!
//! Runs by name only, on a testbed that is up: `cargo test --package xtask --test recovery`. Needs the rights to stop the
//! container engine.

use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The tests take turns with the one testbed.
static TESTBED: Mutex<()> = Mutex::new(());

/// Time limit for an interrupted engine to be gone.
const GONE: Duration = Duration::from_secs(20);

#[test]
fn a_stopped_node_is_started_again() {
    let _turn = turn();
    let node = last_node();
    run("docker", &["stop", "--time", "1", &node]);
    unhealthy(&format!("container {node} is stopped"));
    recovers();
}

#[test]
fn a_killed_node_is_started_again() {
    let _turn = turn();
    let node = last_node();
    run("docker", &["kill", &node]);
    unhealthy(&format!("container {node} is stopped"));
    recovers();
}

#[test]
fn a_removed_worker_is_made_anew_and_joins() {
    let _turn = turn();
    let node = last_node();
    run("docker", &["rm", "--force", "--volumes", &node]);
    unhealthy(&node);
    recovers();
}

#[test]
fn a_killed_engine_is_started_again_with_its_nodes() {
    let _turn = turn();
    run("pkill", &["-KILL", "-x", "dockerd"]);
    let killed = Instant::now();
    while command("pgrep", &["-x", "dockerd"]).status.success() {
        assert!(killed.elapsed() < GONE, "dockerd still runs: something restarts it, so this test breaks nothing");
        std::thread::sleep(Duration::from_millis(200));
    }
    unhealthy("engine");
    recovers();
}

/// Waits for the other tests, and checks that the testbed is healthy.
fn turn() -> MutexGuard<'static, ()> {
    let turn = TESTBED.lock().unwrap_or_else(PoisonError::into_inner);
    let status = status();
    assert_eq!(
        status["healthy"], true,
        "bring the testbed up first (`cargo xtask testbed up`): {}",
        status["problems"]
    );
    turn
}

/// Brings the testbed up again, and says how long that took.
fn recovers() {
    let started = Instant::now();
    let up = command(env!("CARGO_BIN_EXE_xtask"), &["testbed", "up"]);
    assert!(up.status.success(), "`up` failed:\n{}", String::from_utf8_lossy(&up.stderr));
    println!("`up` took {:.1} s", started.elapsed().as_secs_f64());
    let status = status();
    assert_eq!(status["healthy"], true, "after `up`: {}", status["problems"]);
}

/// Checks that `status` reports a problem that names `what`.
fn unhealthy(what: &str) {
    let status = status();
    assert_eq!(status["healthy"], false, "the break has no effect");
    let problems = status["problems"].to_string();
    assert!(problems.contains(what), "no problem names `{what}`: {problems}");
}

fn status() -> Value {
    let output = command(env!("CARGO_BIN_EXE_xtask"), &["testbed", "status", "--json"]);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("`status` printed no JSON: {error}: {}", String::from_utf8_lossy(&output.stderr))
    })
}

/// The last node of the last cluster: a worker, if there is one.
fn last_node() -> String {
    let status = status();
    let nodes = status["clusters"].as_array().and_then(|clusters| clusters.last()?["nodes"].as_array());
    let node = nodes.and_then(|nodes| nodes.last()?["name"].as_str());
    node.expect("the testbed has nodes on this machine").to_owned()
}

fn run(program: &str, arguments: &[&str]) {
    let output = command(program, arguments);
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn command(program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("cannot run {program}: {error}"))
}
