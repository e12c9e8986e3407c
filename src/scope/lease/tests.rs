use std::cell::Cell;
use std::convert::Infallible;

use http::{Method, Request, Response};
use kube::client::Body;
use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::report::Claim;
use crate::scope::{Scope, Undeclared};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

#[test]
fn the_second_person_is_told_who_holds_the_lease_and_since_when() {
    let first = next(None, "alice@laptop", at(0)).unwrap();
    let renewed = next(Some(first), "alice@laptop", at(50)).unwrap();
    let other = next(Some(renewed), "bob@laptop", at(60)).unwrap_err();
    let (since, until) = ("2027-01-15 08:00:00 UTC".into(), "2027-01-15 08:01:50 UTC".into());
    assert_eq!(other, Other { holder: "alice@laptop".into(), since, until });
}

#[test]
fn a_lease_that_has_run_out_is_taken_over() {
    let first = next(None, "alice@laptop", at(0)).unwrap();
    let spec = next(Some(first), "bob@laptop", at(61)).unwrap().spec.unwrap();
    assert_eq!(spec.holder_identity.as_deref(), Some("bob@laptop"));
    assert_eq!((spec.acquire_time, spec.lease_transitions), (Some(MicroTime(at(61))), Some(2)));
}

#[test]
fn a_run_that_begins_after_its_own_lease_has_run_out_counts_from_then() {
    let first = next(None, "alice@laptop", at(0)).unwrap();
    let spec = next(Some(first), "alice@laptop", at(500)).unwrap().spec.unwrap();
    assert_eq!((spec.acquire_time, spec.lease_transitions), (Some(MicroTime(at(500))), Some(1)));
}

#[test]
fn a_run_goes_on_with_the_lease_that_it_took_also_after_it_has_run_out() {
    let first = next(None, "alice@laptop", at(0)).unwrap();
    for second in [15, 500] {
        let spec = renewal(Some(first.clone()), "alice@laptop", 1, at(second)).unwrap().spec.unwrap();
        let owed = LeaseSpec { renew_time: Some(MicroTime(at(second))), ..first.spec.clone().unwrap() };
        assert_eq!(spec, owed);
    }
}

#[test]
fn a_run_whose_lease_was_taken_over_has_lost_it_also_once_the_other_run_has_ended() {
    let first = next(None, "alice@laptop", at(0)).unwrap();
    let others = next(Some(first), "bob@laptop", at(70)).unwrap();
    for second in [75, 500] {
        let lost = renewal(Some(others.clone()), "alice@laptop", 1, at(second)).unwrap_err();
        assert_eq!(lost.found, "bob@laptop has held it since 2027-01-15 08:01:10 UTC");
    }
    // Another process of the first run.
    let again = next(Some(others), "alice@laptop", at(200)).unwrap();
    let lost = renewal(Some(again), "alice@laptop", 1, at(205)).unwrap_err();
    assert_eq!(lost.found, "this run has held it again since 2027-01-15 08:03:20 UTC, after another run");
}

#[test]
fn a_lease_that_is_gone_or_has_no_holder_is_lost() {
    assert_eq!(renewal(None, "alice@laptop", 1, at(5)).unwrap_err().found, "it is gone");
    let mut freed = next(None, "alice@laptop", at(0)).unwrap();
    freed.spec.as_mut().unwrap().holder_identity = None;
    assert_eq!(renewal(Some(freed), "alice@laptop", 1, at(5)).unwrap_err().found, "it has no holder");
}

/// The Lease that a cluster's API server holds.
type Stored = Arc<Mutex<Option<Value>>>;

fn version(lease: &Value) -> u64 {
    lease["metadata"]["resourceVersion"].as_str().map_or(0, |version| version.parse().unwrap())
}

/// Gives the Lease the version after its own.
fn renumber(lease: &mut Value) {
    lease["metadata"]["resourceVersion"] = (version(lease) + 1).to_string().into();
}

/// An API server with a Lease and nothing else.
fn server(stored: &Stored) -> Client {
    let stored = Arc::clone(stored);
    let service = tower::service_fn(move |request: Request<Body>| {
        let stored = Arc::clone(&stored);
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect_bytes().await.unwrap();
            let mut stored = stored.lock().unwrap();
            let is_lease = parts.uri.path().contains("/namespaces/istio-system/leases");
            let failed = |code: u16, reason: &str| {
                (code, json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "code": code, "reason": reason}))
            };
            let (code, answer) = match (parts.method, is_lease, stored.clone()) {
                (Method::GET, true, Some(lease)) => (200, lease),
                (Method::POST | Method::PUT, true, before) => {
                    let mut lease: Value = serde_json::from_slice(&body).unwrap();
                    match before.is_some_and(|before| version(&before) != version(&lease)) {
                        // Somebody else has written since the Lease was read.
                        true => failed(409, "Conflict"),
                        false => {
                            renumber(&mut lease);
                            (200, stored.insert(lease).clone())
                        }
                    }
                }
                _ => failed(404, "NotFound"),
            };
            let body = Body::from(answer.to_string().into_bytes());
            Ok::<_, Infallible>(Response::builder().status(code).body(body).unwrap())
        }
    });
    Client::new(service, "default")
}

/// A testbed of one cluster with a Lease. `directory` does not exist, so nothing is swept.
fn testbed(directory: &str, stored: &Stored) -> Testbed {
    let mut record = crate::record::tests::cluster("cluster1");
    record.lease_namespace = Some("istio-system".into());
    let mesh = crate::record::tests::record(vec![record.clone()]);
    let cluster = Cluster::new(record, "/testbed/kubeconfig".into(), server(stored), "v1.34.3".into());
    let (trust, _) = crate::identity::trust::tests::mesh();
    Testbed { directory: directory.into(), record: mesh.into(), clusters: vec![cluster.into()], trust: trust.into() }
}

/// What another run does when it finds that the Lease has run out.
fn taken_over(stored: &Stored) {
    let mut stored = stored.lock().unwrap();
    let lease = stored.as_mut().unwrap();
    let term = lease["spec"]["leaseTransitions"].as_i64().unwrap();
    lease["spec"]["holderIdentity"] = "bob@laptop".into();
    lease["spec"]["leaseTransitions"] = (term + 1).into();
    renumber(lease);
}

/// Takes longer than a Lease lasts.
async fn outlast() {
    let _ = tokio::time::timeout(LENGTH * 2, std::future::pending::<()>()).await;
}

/// The complaint of a test that has lost its Lease.
const LOST: &str = "this run has lost its Lease istio-system/meshproof (bob@laptop has held it since";

/// What happens to a test with a claim that holds.
#[derive(Clone, Copy, PartialEq)]
enum Course {
    /// The test outlasts its Lease.
    Undisturbed,
    /// Another run takes the Lease over, and the test goes on.
    TakenOverDuring,
    /// The process stops, another run takes the Lease over, and the test ends as soon as the process goes on.
    TakenOverBeforeTheEnd,
}

#[rstest]
#[case::undisturbed("/lease/undisturbed", Course::Undisturbed, None)]
#[case::during("/lease/during", Course::TakenOverDuring, Some(LOST))]
#[case::at_its_end("/lease/end", Course::TakenOverBeforeTheEnd, Some(LOST))]
#[tokio::test(start_paused = true)]
async fn a_test_whose_lease_is_taken_over_does_not_pass(
    #[case] directory: &str,
    #[case] course: Course,
    #[case] complaint: Option<&str>,
) {
    let (stored, reports) = (Stored::default(), tempfile::tempdir().unwrap());
    let testbed = testbed(directory, &stored);
    let went_on = Cell::new(false);
    let body = async |scope: &Scope| {
        scope.claim(Claim::about("a", "").equals(&1, &1));
        match course {
            Course::Undisturbed => outlast().await,
            Course::TakenOverDuring => {
                taken_over(&stored);
                outlast().await;
                went_on.set(true);
            }
            Course::TakenOverBeforeTheEnd => {
                tokio::time::advance(LENGTH * 2).await;
                taken_over(&stored);
            }
        }
        Ok(())
    };
    let lock = crate::scope::MeshLock::unchecked();
    let ended =
        Scope::run_on(testbed, lock, reports.path().into(), "suite", "case".into(), Undeclared::Fails, body).await;
    match complaint {
        None => ended.unwrap(),
        Some(complaint) => {
            let failure = ended.unwrap_err().to_string();
            assert!(failure.contains(complaint), "{failure}");
        }
    }
    assert!(!went_on.get(), "the test went on for longer than a Lease lasts");
}
