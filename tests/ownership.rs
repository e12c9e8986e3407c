//! Tests touch only their own objects and leave nothing behind, even after a kill or with two runs at once.
//!
//! Needs a live testbed (`cargo xtask testbed up`). Verdicts are in `target/meshproof/ownership/report.json`. Each test
//! runs another process of this binary, which holds a change or tries to judge the mesh.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node};
use kube::ResourceExt;
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::runtime::watcher;
use meshproof::cluster::watch_all;
use meshproof::record::{Requirement, Write};
use meshproof::report::Claim;
use meshproof::scope::change::{NodeLabel, Placement, Replicas};
use meshproof::scope::{HOLDER_VARIABLE, LEASE, sweep};
use meshproof::{Cluster, Error, Scope, Seen, Testbed, Verdict};
use serde_json::json;

const SUITE: &str = "ownership";

/// A node label that exists before the test changes it.
const LABEL: &str = "meshproof.dev/ownership-test";

/// A host that no cluster has: the placed deployment has no pods at that time.
const HOST: &str = "meshproof-ownership-test";

/// An object placed into a namespace that the test does not own.
const OBJECT: &str = "meshproof-ownership-test";

/// Output of the process that makes changes, once all are made.
const CHANGED: &str = "everything is changed";

/// Longest wait for a namespace to be deleted.
const GONE: Duration = Duration::from_secs(60);

/// In two parts. Between the parts another process tries to judge the mesh, which takes the lock.
#[tokio::test]
async fn a_second_person_is_told_who_judges_the_mesh_and_since_when() -> Verdict {
    Scope::run(SUITE, "first_person", async |scope| {
        let lacking = || meshproof::record::Error::not_declared("a namespace for Leases");
        let leased = |cluster: &&Arc<Cluster>| cluster.record().lease_namespace.is_some();
        let cluster = scope.testbed.clusters.iter().find(leased).ok_or_else(lacking)?;
        let namespace = cluster.record().lease_namespace.clone().unwrap_or_default();
        let lease = cluster.api::<Lease>(&namespace).get(LEASE).await.map_err(cluster.failed("read the Lease"))?;
        let holder = lease.spec.and_then(|spec| spec.holder_identity).unwrap_or_default();
        let claim = Claim::about("lease/first-person", "a run that judges the mesh holds its Lease")
            .to(cluster.name())
            .expects("a holder")
            .observes(&holder, |holder| format!("`{holder}`"), |holder| !holder.is_empty());
        scope.claim(claim);
        Ok(())
    })
    .await?;
    // The Lease outlasts the first part by a minute.
    let output = this_binary("wants_the_mesh").env(HOLDER_VARIABLE, "somebody@elsewhere").output();
    Scope::run(SUITE, "second_person", async |scope| {
        let output = output.map_err(Error::suite)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let told = |said: &String| {
            !output.status.success()
                && said.contains("has been judging this mesh since 20")
                && said.contains("runs out at 20")
        };
        let claim = Claim::about("lease/second-person", "two people do not judge one mesh at once")
            .from("another process, in another name")
            .to(scope.testbed.clusters.iter().map(|cluster| cluster.name()).collect::<Vec<_>>().join(", "))
            .expects("it fails, and says who judges the mesh and since when")
            .observes(
                &said,
                |said| said.lines().find(|line| line.contains("seen")).unwrap_or(said).trim().into(),
                told,
            );
        scope.claim(claim);
        Ok(())
    })
    .await
}

/// Run by the test above, under another holder's name.
#[tokio::test]
#[ignore = "only for the test of the Lease, which runs it"]
async fn wants_the_mesh() -> Verdict {
    Scope::run("ownership-second", "wants_the_mesh", async |scope| {
        scope.claim(Claim::about("got-in", "nobody else is there").equals(&true, &true));
        Ok(())
    })
    .await
}

/// In two parts. Between the parts another process changes the mesh, for which it has the mesh alone.
#[tokio::test]
async fn what_a_killed_test_left_of_every_kind_is_put_right() -> Verdict {
    let before = Mutex::new(None);
    Scope::alone(SUITE, "before_the_killed_test", async |scope| {
        scope.requires([Write::NodeLabels, Write::Placements].map(Requirement::Write))?;
        scope.requires([Requirement::Probes])?;
        let cluster = &scope.testbed.clusters[0];
        // The killed test changes the value of an existing label.
        label_nodes(cluster, Some("before")).await?;
        let state = State::of(cluster).await?;
        let clean = |state: &State| !state.object && state.host.is_none() && state.namespaces.is_empty();
        let claim = Claim::about("killed/before", "nothing is left of an earlier killed test")
            .to(cluster.name())
            .expects("no object, no node selector and no namespace of a killed test")
            .observes(&state, |state| format!("{state:?}"), clean);
        scope.claim(claim);
        *before.lock().unwrap_or_else(PoisonError::into_inner) = Some(state);
        Ok(())
    })
    .await?;
    // Without a before, the first part was not judged, and it passed where that is allowed.
    let Some(before) = before.into_inner().unwrap_or_else(PoisonError::into_inner) else { return Ok(()) };
    let changed = changed_by_a_killed_test().await;
    Scope::alone(SUITE, "killed_test", async |scope| {
        let cluster = &scope.testbed.clusters[0];
        let changed = changed?;
        let done = sweep(&cluster.client(), cluster.name()).await?;
        let namespaces: Api<Namespace> = Api::all(cluster.client());
        let want = "the namespaces of the killed test to be gone";
        watch_all(namespaces, watcher::Config::default(), want, GONE, |namespaces| {
            let left = of_killed(namespaces.iter().copied());
            if left.is_empty() { Seen::Yes(()) } else { Seen::NotYet(left.join(", ")) }
        })
        .await?;
        let after = State::of(cluster).await?;
        let all = State {
            replicas: 0,
            host: Some(HOST.into()),
            labels: vec!["during".into(); before.labels.len()],
            object: true,
            namespaces: changed.namespaces.clone(),
        };
        let took_effect = changed == all && all.namespaces.len() == 1;
        let claim = Claim::about("killed/state", "a later run puts right what a killed test left")
            .to(cluster.name())
            .expects(format!("{before:?}"))
            .observes(&after, |after| format!("{after:?}"), |after| *after == before)
            .with_evidence(format!("while the killed test ran: {changed:?}"))
            .with_evidence(format!("put right: {}", done.join(", ")));
        scope.claim(if took_effect { claim } else { claim.with_fault("the killed test had not changed everything") });
        label_nodes(cluster, None).await
    })
    .await
}

/// Runs the test that changes everything, and kills it. Returns what it had changed.
async fn changed_by_a_killed_test() -> Result<State, Error> {
    let mut child = begin("changes_everything_and_hangs")?;
    let changed = async { State::of(&Testbed::connect().await?.clusters[0]).await };
    let changed = changed.await;
    child.kill().and_then(|()| child.wait()).map_err(Error::suite)?;
    changed
}

/// Labels the nodes as another user would.
async fn label_nodes(cluster: &Cluster, value: Option<&str>) -> Result<(), Error> {
    let nodes: Api<Node> = Api::all(cluster.client());
    let patch = Patch::Merge(json!({ "metadata": { "labels": { LABEL: value } } }));
    for node in nodes.list(&ListParams::default()).await.map_err(cluster.failed("list the nodes"))? {
        let patched = nodes.patch(&node.name_any(), &PatchParams::default(), &patch).await;
        patched.map_err(cluster.failed(format!("label node {}", node.name_any())))?;
    }
    Ok(())
}

/// Run by the test above, and killed.
#[tokio::test]
#[ignore = "only for the test of killed tests, which runs and kills it"]
async fn changes_everything_and_hangs() -> Verdict {
    Scope::alone("ownership-killed", "changes_everything_and_hangs", async |scope| {
        let cluster = &scope.testbed.clusters[0];
        let naked = &meshproof::probe::declared(cluster)?.naked;
        scope.namespace(cluster, "killed", &[]).await?;
        scope.inject(NodeLabel::new(cluster, LABEL, Some("during"))).await?;
        scope.inject(Replicas::new(cluster, &naked.namespace, &naked.deployment, 0).await?).await?;
        scope.inject(Placement::new(cluster, &naked.namespace, &naked.deployment, HOST)).await?;
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": OBJECT, "namespace": naked.namespace },
        });
        scope.inject(scope.object(cluster, object).await?).await?;
        // Written past the test harness's capture: the parent process reads it.
        std::io::Write::write_all(&mut std::io::stdout(), format!("{CHANGED}\n").as_bytes()).map_err(Error::suite)?;
        std::future::pending().await
    })
    .await
}

/// The namespaces of killed tests.
fn of_killed<'a>(namespaces: impl IntoIterator<Item = &'a Namespace>) -> Vec<String> {
    let names = namespaces.into_iter().map(ResourceExt::name_any);
    names.filter(|name| name.starts_with("meshproof-killed-")).collect()
}

/// The state that the killed test changes.
#[derive(Debug, PartialEq, Eq)]
struct State {
    replicas: i32,
    /// The host that the deployment's node selector names.
    host: Option<String>,
    /// The label's value on each node.
    labels: Vec<String>,
    object: bool,
    /// Namespaces of killed tests.
    namespaces: Vec<String>,
}

impl State {
    async fn of(cluster: &Arc<Cluster>) -> Result<Self, Error> {
        let naked = &meshproof::probe::declared(cluster)?.naked;
        let deployment = cluster.api::<Deployment>(&naked.namespace).get(&naked.deployment).await;
        let deployment = deployment.map_err(cluster.failed("read the naked probe's deployment"))?;
        let nodes: Api<Node> = Api::all(cluster.client());
        let nodes = nodes.list(&ListParams::default()).await.map_err(cluster.failed("list the nodes"))?;
        let object = cluster.api::<ConfigMap>(&naked.namespace).get_opt(OBJECT).await;
        let namespaces: Api<Namespace> = Api::all(cluster.client());
        let namespaces =
            namespaces.list(&ListParams::default()).await.map_err(cluster.failed("list the namespaces"))?;
        let spec = deployment.spec.unwrap_or_default();
        let selector = spec.template.spec.and_then(|pod| pod.node_selector);
        Ok(Self {
            replicas: spec.replicas.unwrap_or_default(),
            host: selector.and_then(|selector| selector.get("kubernetes.io/hostname").cloned()),
            labels: nodes.iter().map(|node| node.labels().get(LABEL).cloned().unwrap_or_default()).collect(),
            object: object.map_err(cluster.failed("look for the placed object"))?.is_some(),
            namespaces: of_killed(&namespaces),
        })
    }
}

/// A command that runs one of this file's ignored tests in another process.
fn this_binary(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap_or_default());
    command.args(["--ignored", "--exact", test, "--nocapture", "--test-threads=1"]);
    command
}

/// Starts such a process and waits until it has made all changes.
fn begin(test: &str) -> Result<Child, Error> {
    let mut child = this_binary(test).stdout(Stdio::piped()).spawn().map_err(Error::suite)?;
    let output = child.stdout.take().ok_or_else(|| Error::suite("the process has no output"))?;
    let mut said = BufReader::new(output).lines().map_while(Result::ok);
    if said.any(|line| line.contains(CHANGED)) {
        return Ok(child);
    }
    Err(Error::suite("the process ended before it had changed everything"))
}
