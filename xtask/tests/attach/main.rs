//! Attaches to the testbed as to a mesh of somebody else, from its kubeconfig alone, and leaves it as it was: all objects
//! of all clusters are compared before and after.
//!
//! Runs by name only, on a testbed that is up (`cargo xtask testbed up --declaration
//! fixtures/clusters/foreign.toml`): `cargo test --package xtask --test attach -- --test-threads 1`.

mod objects;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use meshproof::probe::PROBES_LABEL;
use meshproof::{Seen, eventually};
use objects::{Objects, differences};
use serde_json::Value;

/// Time limit for a test to have created what it is killed for.
const CREATED: Duration = Duration::from_secs(90);

#[tokio::test]
async fn after_a_suite_and_detach_every_object_is_as_it_was() {
    let mesh = Mesh::find();
    let before = mesh.untouched().await;
    let attached = mesh.attach();
    let judged = mesh.suite(&attached, "meshed_reaches_meshed").output().unwrap();
    assert!(judged.status.success(), "the suite failed:\n{}", text(&judged));
    assert!(!differences(&before, &mesh.objects().await).is_empty(), "the suite has created nothing to remove");
    let detached = mesh.xtask(&attached, &["detach"]);
    assert!(detached.status.success(), "{}", text(&detached));
    assert!(!attached.join("testbed.json").exists(), "the record is still there");
    mesh.unchanged(&before).await;
    let again = mesh.xtask(&attached, &[&["detach"][..], &mesh.flags()].concat());
    assert!(again.status.success() && text(&again).contains("nothing of ours"), "{}", text(&again));
}

#[tokio::test]
async fn after_a_killed_run_and_detach_from_elsewhere_every_object_is_as_it_was() {
    let mesh = Mesh::find();
    let before = mesh.untouched().await;
    let attached = mesh.attach();
    let mut running = mesh.suite(&attached, "plaintext_is_answered_under_permissive").spawn().unwrap();
    mesh.await_namespace("meshproof-permissive-", &mut running).await;
    // SIGKILL: nothing of the run cleans up.
    running.kill().unwrap();
    running.wait().unwrap();
    let elsewhere = mesh.directory.path().join("elsewhere");
    let held = mesh.xtask(&elsewhere, &[&["detach"][..], &mesh.flags()].concat());
    assert!(!held.status.success() && text(&held).contains("has been judging this mesh"), "{}", text(&held));
    let detached = mesh.xtask(&elsewhere, &[&["detach", "--force"][..], &mesh.flags()].concat());
    assert!(detached.status.success(), "{}", text(&detached));
    assert!(text(&detached).contains("Namespace meshproof-permissive-"), "{}", text(&detached));
    mesh.unchanged(&before).await;
}

#[tokio::test]
async fn a_plan_and_a_refusal_touch_nothing() {
    let mesh = Mesh::find();
    let before = mesh.untouched().await;
    let directory = mesh.directory.path().join("nothing");
    let image: Vec<&str> = vec!["--probe-image", &mesh.image];
    let plan = mesh.xtask(&directory, &[&["attach", "--plan"][..], &image, &mesh.flags()].concat());
    assert!(
        plan.status.success() && String::from_utf8_lossy(&plan.stdout).contains("kind: Deployment"),
        "{}",
        text(&plan)
    );
    assert!(!directory.exists(), "a plan writes no record");
    let context = mesh.contexts[0].as_str();
    let twice = ["attach", "--context", context, "--context", context, "--kubeconfig", mesh.kubeconfig()];
    let twice = mesh.xtask(&directory, &[&twice[..], &image].concat());
    assert!(!twice.status.success() && text(&twice).contains("are the same cluster"), "{}", text(&twice));
    mesh.unchanged(&before).await;
}

/// The testbed, as somebody else's mesh: no more than a kubeconfig and the image of the probe.
struct Mesh {
    directory: tempfile::TempDir,
    kubeconfig: PathBuf,
    contexts: Vec<String>,
    image: String,
}

impl Mesh {
    fn find() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let printed = |argument: &str| {
            let output = Command::new(env!("CARGO_BIN_EXE_xtask")).args(["testbed", "kubeconfig", argument]).output();
            let output = output.unwrap();
            assert!(output.status.success(), "bring the testbed up first: {}", text(&output));
            String::from_utf8(output.stdout).unwrap()
        };
        let contents = printed("--contents");
        let kubeconfig = directory.path().join("config");
        std::fs::write(&kubeconfig, &contents).unwrap();
        let contexts = Kubeconfig::from_yaml(&contents).unwrap().contexts;
        let contexts = contexts.into_iter().map(|context| context.name).collect();
        Self { directory, kubeconfig, contexts, image: printed("--probe-image").trim().to_owned() }
    }

    fn kubeconfig(&self) -> &str {
        self.kubeconfig.to_str().expect("the path is text")
    }

    fn flags(&self) -> Vec<&str> {
        let contexts = self.contexts.iter().flat_map(|context| ["--context", context.as_str()]);
        contexts.chain(["--kubeconfig", self.kubeconfig()]).collect()
    }

    fn xtask(&self, testbed: &Path, arguments: &[&str]) -> Output {
        let mut xtask = Command::new(env!("CARGO_BIN_EXE_xtask"));
        xtask.arg("testbed").args(arguments).env("MESHPROOF_TESTBED", testbed).output().unwrap()
    }

    /// Attaches, and returns the directory of the record.
    fn attach(&self) -> PathBuf {
        let directory = self.directory.path().join("attached");
        let image = ["attach", "--probe-image", &self.image, "--probe-pull-policy", "Never"];
        let attached = self.xtask(&directory, &[&image[..], &self.flags()].concat());
        assert!(attached.status.success(), "{}", text(&attached));
        directory
    }

    /// A run of the test `name` of the suite `mtls`.
    fn suite(&self, testbed: &Path, name: &str) -> Command {
        let mut suite = Command::new(suite());
        suite.arg(name).env("MESHPROOF_TESTBED", testbed).env("MESHPROOF_NOT_DECLARED", "allow");
        suite
            .env("CARGO_TARGET_DIR", self.directory.path().join("target"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        suite
    }

    async fn clients(&self) -> Vec<(String, Client)> {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut clients = Vec::new();
        for context in &self.contexts {
            let kubeconfig = Kubeconfig::read_from(self.kubeconfig()).unwrap();
            let options = KubeConfigOptions { context: Some(context.clone()), ..KubeConfigOptions::default() };
            let config = Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap();
            clients.push((context.clone(), Client::try_from(config).unwrap()));
        }
        clients
    }

    async fn objects(&self) -> Objects {
        let mut all = Objects::new();
        for (context, client) in self.clients().await {
            all.extend(objects::of(&client, &context).await);
        }
        all
    }

    /// All objects, none of them ours.
    async fn untouched(&self) -> Objects {
        let objects = self.objects().await;
        let ours = objects.iter().find(|(_, object)| object.contains(PROBES_LABEL)).map(|(place, _)| place);
        assert_eq!(ours, None, "something of ours is there: detach first");
        objects
    }

    async fn unchanged(&self, before: &Objects) {
        let differences = differences(before, &self.objects().await);
        assert!(differences.is_empty(), "{} objects differ:\n{}", differences.len(), differences.join("\n"));
    }

    /// Waits until the first cluster has a namespace with a pod whose name begins with `prefix`.
    async fn await_namespace(&self, prefix: &str, running: &mut Child) {
        let (_, client) = self.clients().await.remove(0);
        let created = eventually(format!("a pod in a namespace {prefix}…"), CREATED, async || {
            assert!(running.try_wait().unwrap().is_none(), "the run ended before it could be killed");
            let pods = objects::named(&client, "Pod").await;
            let is_ours =
                |pod: &Value| pod["metadata"]["namespace"].as_str().is_some_and(|name| name.starts_with(prefix));
            let found = pods.iter().any(is_ours);
            Ok::<_, meshproof::Error>(if found { Seen::Yes(()) } else { Seen::NotYet("no such pod".into()) })
        });
        created.await.unwrap();
    }
}

/// The executable of the suite `mtls`.
fn suite() -> PathBuf {
    if let Some(named) = std::env::var_os("MESHPROOF_SUITE") {
        return named.into();
    }
    let build = ["test", "--package", "meshproof-suites", "--test", "mtls", "--no-run", "--message-format", "json"];
    let built = Command::new("cargo").args(build).output().unwrap();
    assert!(built.status.success(), "the suite cannot be built: {}", String::from_utf8_lossy(&built.stderr));
    let messages = String::from_utf8(built.stdout).unwrap();
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut executables = messages.filter(|message| message["target"]["name"] == "mtls");
    executables
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .expect("cargo names the executable")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}
