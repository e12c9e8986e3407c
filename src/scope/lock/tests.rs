use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::*;

/// The testbed's directory of the process that a test kills.
const DIRECTORY_VARIABLE: &str = "MESHPROOF_TEST_LOCK_DIRECTORY";

/// What that process prints once it has the lock.
const HELD: &str = "the mesh is held";

/// Much longer than taking a free lock takes.
const AT_ONCE: Duration = Duration::from_secs(2);

/// Long enough to see that a lock is not given.
const NOT_YET: Duration = Duration::from_millis(300);

/// Run by the test below, and killed.
#[tokio::test]
#[ignore = "only for the test of killed holders, which runs and kills it"]
async fn holds_the_mesh_alone_and_hangs() {
    let directory = std::env::var_os(DIRECTORY_VARIABLE).map(PathBuf::from).expect("the parent names a directory");
    let _lock = MeshLock::alone(&directory, "suite/hangs").await.unwrap();
    io::Write::write_all(&mut io::stdout(), format!("{HELD}\n").as_bytes()).unwrap();
    std::future::pending().await
}

/// Another process that holds the mesh of `directory` alone.
fn holder(directory: &Path) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "scope::lock::tests::holds_the_mesh_alone_and_hangs", "--nocapture"])
        .env(DIRECTORY_VARIABLE, directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines().map_while(io::Result::ok);
    assert!(said.any(|line| line.contains(HELD)), "the process ended without the lock");
    child
}

async fn soon(taking: impl Future<Output = Result<MeshLock>>) -> MeshLock {
    tokio::time::timeout(AT_ONCE, taking).await.expect("the lock is free").unwrap()
}

#[tokio::test]
async fn the_lock_of_a_killed_process_is_free_at_once_and_its_name_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let mut killed = holder(directory.path());
    let named = holders::all(directory.path());
    let words = format!("suite/hangs (process {}, alone, since ", killed.id());
    assert!(matches!(named.as_slice(), [one] if one.words.starts_with(&words) && !one.own), "{named:?}");
    let waiting = tokio::time::timeout(NOT_YET, MeshLock::shared(directory.path(), "suite/waits")).await;
    assert!(waiting.is_err(), "a process has the mesh alone, and another shares it");
    killed.kill().and_then(|()| killed.wait()).unwrap();
    let lock = soon(MeshLock::alone(directory.path(), "suite/next")).await;
    let named = holders::all(directory.path());
    assert!(matches!(named.as_slice(), [one] if one.words.starts_with("suite/next") && one.own), "{named:?}");
    drop(lock);
    assert_eq!(holders::all(directory.path()), []);
}

#[tokio::test]
async fn two_share_the_mesh_at_once_and_one_that_needs_it_alone_waits_for_both() {
    let directory = tempfile::tempdir().unwrap();
    let one = soon(MeshLock::shared(directory.path(), "suite/one")).await;
    let two = soon(MeshLock::shared(directory.path(), "suite/two")).await;
    let mut alone = Box::pin(MeshLock::alone(directory.path(), "suite/alone"));
    assert!(tokio::time::timeout(NOT_YET, &mut alone).await.is_err(), "two still share the mesh");
    drop(one);
    assert!(tokio::time::timeout(NOT_YET, &mut alone).await.is_err(), "one still shares the mesh");
    drop(two);
    let alone = soon(alone).await;
    assert!(tokio::time::timeout(NOT_YET, MeshLock::shared(directory.path(), "suite/late")).await.is_err());
    drop(alone);
    soon(MeshLock::shared(directory.path(), "suite/late")).await;
}

#[tokio::test]
async fn one_that_waits_to_be_alone_keeps_nobody_out() {
    let directory = tempfile::tempdir().unwrap();
    let first = soon(MeshLock::shared(directory.path(), "suite/first")).await;
    let mut alone = Box::pin(MeshLock::alone(directory.path(), "suite/alone"));
    assert!(tokio::time::timeout(NOT_YET, &mut alone).await.is_err());
    // A test that shares the mesh may run another one, and wait for it.
    let later = soon(MeshLock::shared(directory.path(), "suite/later")).await;
    drop(first);
    assert!(tokio::time::timeout(NOT_YET, &mut alone).await.is_err());
    drop(later);
    soon(alone).await;
}

#[test]
fn only_a_hold_alone_permits_a_change() {
    let error = MeshLock::without_file(Sharing::Shared).permits("label x of the nodes of east").unwrap_err();
    assert!(matches!(error, Error::Shares { .. }));
    let error = error.to_string();
    assert!(error.contains("label x of the nodes of east") && error.contains("Scope::alone"), "{error}");
    MeshLock::without_file(Sharing::Alone).permits("anything").unwrap();
}

#[tokio::test]
async fn a_directory_that_is_none_is_an_error_that_names_the_file() {
    let error = MeshLock::shared(Path::new("/proc/self/status"), "suite/a").await.unwrap_err().to_string();
    assert!(error.contains("/proc/self/status/mesh.lock"), "{error}");
}
