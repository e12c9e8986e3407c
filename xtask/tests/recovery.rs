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
        #[allow(clippy::disallowed_methods, reason = "the wait for a process that is not a child")]
        std::thread::sleep(Duration::from_millis(200));
    }
    unhealthy("engine");
    recovers();
    // A port beside those of the nodes is of a container that ended with the engine. It has a node's address.
    let ports =
        std::fs::read_dir(format!("/sys/class/net/{}/brif", bridge())).expect("the testbed's network is a bridge");
    assert_eq!(ports.count(), nodes().len(), "ports on the bridge, for as many nodes");
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
    nodes().pop().expect("the testbed has nodes on this machine")
}

/// The names of all nodes' containers.
fn nodes() -> Vec<String> {
    let status = status();
    let nodes = status["clusters"].as_array().into_iter().flatten().flat_map(|cluster| cluster["nodes"].as_array());
    nodes.flatten().filter_map(|node| Some(node["name"].as_str()?.to_owned())).collect()
}

/// The bridge of the testbed's network, as Docker names it.
fn bridge() -> String {
    let output = command("docker", &["network", "inspect", "--format", "{{.Id}}", "meshproof"]);
    format!("br-{}", String::from_utf8_lossy(&output.stdout).chars().take(12).collect::<String>())
}

fn run(program: &str, arguments: &[&str]) {
    let output = command(program, arguments);
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn command(program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("cannot run {program}: {error}"))
}
