use std::cell::Cell;

use rstest::rstest;

use super::*;

#[tokio::test]
async fn a_freeze_begins_when_the_generator_has_begun_and_the_input_ends_after_the_freeze() {
    let (has_begun, is_over) = (Cell::new(false), Cell::new(false));
    let freeze = async || {
        assert!(has_begun.get(), "it has not begun");
        // Lets the other future run in between.
        tokio::task::yield_now().await;
        is_over.set(true);
        Ok(Some(()))
    };
    let generator = async |input| {
        let Input::Until { over, begun } = input else { return Ok(false) };
        tokio::task::yield_now().await;
        has_begun.set(true);
        let _ = begun.send(());
        let _ = over.await;
        Ok(is_over.get())
    };
    assert_eq!(with_input_until(freeze, generator).await.unwrap(), (true, Some(())));
}

#[tokio::test]
async fn a_generator_that_ends_without_having_begun_is_not_frozen_for() {
    let silent = async |input| {
        drop(input);
        Ok(())
    };
    let freeze = async || -> Result<Option<()>> { panic!("nothing has begun") };
    assert_eq!(with_input_until(freeze, silent).await.unwrap(), ((), None));
}

/// An isolation whose end is bounded: a command that does not end fails the test, and does not stop all tests.
#[derive(Debug)]
struct Bounded(Option<Isolation>);

impl std::ops::Deref for Bounded {
    type Target = Isolation;

    fn deref(&self) -> &Isolation {
        self.0.as_ref().expect("it is taken by the drop only")
    }
}

impl Drop for Bounded {
    fn drop(&mut self) {
        let isolation = self.0.take();
        returned(|| drop(isolation));
    }
}

/// What `call` returns. Fails if the call does not return.
fn returned<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(call()));
    receiver.recv_timeout(Duration::from_secs(10)).expect("the command's input ends, and so does the command")
}

/// An isolation by a shell that speaks the protocol: prints `first`, then `answers` to each request.
fn isolation(first: &str, answers: &str) -> Result<Bounded> {
    begin(&format!("{first}; while read -r _; do {answers}; done"), Extent::OtherClusters { except: "one".into() })
}

/// An isolation by this shell script.
fn begin(script: &str, extent: Extent) -> Result<Bounded> {
    let mut record = record();
    let arguments = vec!["-c".into(), script.into(), "sh".into()];
    let command = crate::record::Command { program: "sh".into(), arguments };
    record.capabilities.faults = [(fault::PAUSE_CLUSTER.to_owned(), command)].into();
    returned(move || Isolation::begin(&record, extent, &MeshLock::unchecked())).map(Bounded)
}

fn record() -> Record {
    crate::record::tests::record(vec![crate::record::tests::cluster("one")])
}

const PAUSED: &str = r#"echo '{"event":"paused"}'"#;
const FROZEN: &str = r#"echo '{"event":"frozen","processes":3}'"#;
const THAWED: &str = r#"echo '{"event":"thawed"}'"#;

#[tokio::test]
async fn a_freeze_lasts_from_its_beginning_to_its_end() {
    let isolation = isolation(PAUSED, &format!("{FROZEN}; sleep 0.2; {THAWED}")).unwrap();
    let span = isolation.freeze(Duration::from_millis(200)).await.unwrap();
    assert!(span.to - span.from > 0.15, "{span:?}");
    let error = isolation.freeze(LONGEST_FREEZE * 2).await.unwrap_err().to_string();
    assert!(error.contains("all clusters but one cannot be paused: 30s is longer than"), "{error}");
}

#[rstest]
#[case::nothing(r#"echo '{"event":"frozen","processes":0}'; echo '{"event":"thawed"}'; "#, "nothing was frozen")]
#[case::no_end(r#"echo '{"event":"frozen","processes":1}'; echo '{"event":"paused"}'; "#, "the freeze did not end")]
#[case::an_end("exit;", "the command ended")]
#[tokio::test]
async fn a_freeze_that_did_not_happen_is_an_error(#[case] answers: &str, #[case] reason: &str) {
    let isolation = isolation(PAUSED, &format!("{answers} :")).unwrap();
    let error = isolation.freeze(Duration::from_millis(1)).await.unwrap_err().to_string();
    assert!(error.contains(reason), "{error}");
}

#[rstest]
#[case::that_ends("exit", "the command ended")]
#[case::that_says_something_else("echo quiet", "`quiet` was not expected here")]
#[tokio::test]
async fn a_command_that_does_not_pause_is_an_error(#[case] first: &str, #[case] reason: &str) {
    let error = isolation(first, ":").unwrap_err().to_string();
    assert!(error.contains(reason), "{error}");
}

#[rstest]
#[case::all((1.0, 4.0), 1.0)]
#[case::its_first_quarter((0.0, 1.5), 0.25)]
#[case::its_second_half((2.0, 9.0), 0.5)]
#[case::nothing((4.0, 5.0), 0.0)]
fn a_share_is_of_what_is_common(#[case] (from, to): (f64, f64), #[case] share: f64) {
    assert_eq!(Span { from: 1.0, to: 3.0 }.within(Span { from, to }), share);
    assert_eq!(Span { from: 1.0, to: 1.0 }.within(Span { from, to }), 0.0, "of nothing");
}

#[tokio::test]
async fn after_a_drop_everything_runs_again() {
    let directory = tempfile::tempdir().unwrap();
    let resumed = directory.path().join("resumed");
    let script = format!("{PAUSED}; cat >/dev/null; sleep 0.2; touch {}", resumed.display());
    let isolation = begin(&script, Extent::AllClusters).unwrap();
    assert!(!resumed.exists(), "it is paused until it is dropped");
    drop(isolation);
    assert!(resumed.exists(), "the command has not ended");
}

#[tokio::test]
async fn after_a_drop_during_a_freeze_everything_runs_again() {
    let directory = tempfile::tempdir().unwrap();
    let thawed = directory.path().join("thawed");
    let isolation = isolation(PAUSED, &format!("{FROZEN}; sleep 0.5; touch {}; {THAWED}", thawed.display()));
    let isolation = isolation.unwrap();
    let freeze = isolation.freeze(Duration::from_millis(500));
    tokio::time::timeout(Duration::from_millis(100), freeze).await.expect_err("the freeze is given up");
    drop(isolation);
    assert!(thawed.exists(), "the freeze has not ended");
}

#[tokio::test]
async fn a_command_that_does_not_pause_has_ended_when_the_error_is_returned() {
    let directory = tempfile::tempdir().unwrap();
    let resumed = directory.path().join("resumed");
    let script = format!("{THAWED}; cat >/dev/null; sleep 0.2; touch {}", resumed.display());
    let error = begin(&script, Extent::AllClusters).unwrap_err().to_string();
    assert!(error.contains("the clusters cannot be paused: the command said Thawed"), "{error}");
    assert!(resumed.exists(), "the command has not ended");
}

#[test]
fn clusters_are_paused_only_by_a_declared_command() {
    let mut record = record();
    record.capabilities.faults.clear();
    assert!(Isolation::begin(&record, Extent::AllClusters, &MeshLock::unchecked()).unwrap().is_none());
}

#[tokio::test]
async fn the_command_is_told_what_to_pause_and_how_long_to_freeze() {
    let directory = tempfile::tempdir().unwrap();
    let told = directory.path().join("told");
    let file = told.display();
    let script = format!(
        r#"echo "$*" >{file}; {PAUSED}; while read -r request; do echo "$request" >>{file}; {FROZEN}; {THAWED}; done"#
    );
    let namespaces = vec!["a".into(), "b".into()];
    let isolation = begin(&script, Extent::AllButNamespaces { except: "one".into(), namespaces }).unwrap();
    isolation.freeze(LONGEST_FREEZE).await.unwrap();
    isolation.freeze(LONGEST_FREEZE + Duration::from_nanos(1)).await.unwrap_err();
    let told = std::fs::read_to_string(&told).unwrap();
    assert_eq!(told, "--keep one --spare a --spare b\n{\"seconds\":15.0}\n");
}

#[tokio::test]
async fn a_generator_is_frozen_for_only_where_there_is_an_isolation() {
    let generator = async |input| {
        let Input::Until { over, begun } = input else { panic!("the input has an end") };
        let _ = begun.send(());
        let _ = over.await;
        Ok(())
    };
    let isolation = isolation(PAUSED, &format!("{FROZEN}; sleep 0.1; {THAWED}")).unwrap();
    let ((), span) = frozen(Some(&isolation), Duration::from_millis(100), generator).await.unwrap();
    assert!(span.is_some_and(|span| span.to - span.from > 0.05), "{span:?}");
    assert_eq!(frozen(None, Duration::from_millis(100), generator).await.unwrap(), ((), None));
}
