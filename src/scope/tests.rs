use super::*;
use crate::record;
use crate::report::Report;

/// A testbed of one fictitious cluster.
fn testbed() -> Testbed {
    let cluster = crate::cluster::tests::workload().cluster;
    let record = record::tests::record(vec![cluster.record().clone()]);
    let (trust, _) = crate::identity::trust::tests::mesh();
    Testbed { directory: "/testbed".into(), record: record.into(), clusters: vec![cluster], trust: trust.into() }
}

async fn run(body: impl AsyncFnOnce(&Scope) -> Result<()>) -> (Result<Verdict, String>, Vec<Claim>) {
    run_where(Undeclared::Fails, body).await
}

async fn run_where(
    undeclared: Undeclared,
    body: impl AsyncFnOnce(&Scope) -> Result<()>,
) -> (Result<Verdict, String>, Vec<Claim>) {
    let directory = tempfile::tempdir().unwrap();
    let running = Scope::run_on(
        testbed(),
        MeshLock::unchecked(),
        directory.path().into(),
        "suite",
        "case".into(),
        undeclared,
        body,
    );
    let ended = AssertUnwindSafe(running).catch_unwind().await.map_err(|panic| message(panic.as_ref()).to_owned());
    let report = std::fs::read(directory.path().join("report.json")).unwrap();
    (ended, serde_json::from_slice::<Report>(&report).unwrap().claims)
}

fn claim(id: &str, verdict: Judgement) -> Claim {
    Claim::about(id, "").equals(&Judgement::Pass, &verdict)
}

#[tokio::test]
async fn claims_that_hold_are_recorded_and_pass() {
    let (ended, claims) = run(async |scope| {
        scope.claim(claim("a", Judgement::Pass));
        Ok(())
    })
    .await;
    ended.unwrap().unwrap();
    assert_eq!(claims, [claim("a", Judgement::Pass)]);
}

#[tokio::test]
async fn a_claim_that_does_not_hold_fails_the_test_after_all_were_judged() {
    let (ended, claims) = run(async |scope| {
        scope.claim(claim("a", Judgement::Fail));
        scope.claim(claim("b", Judgement::Pass));
        Ok(())
    })
    .await;
    let failure = ended.unwrap().unwrap_err().to_string();
    assert!(failure.contains("claim a does not hold") && !failure.contains("claim b"), "{failure}");
    assert_eq!(claims.len(), 2);
}

#[tokio::test]
async fn what_the_mesh_does_not_offer_is_a_verdict_of_its_own() {
    let (ended, claims) = run(async |scope| scope.requires([Requirement::Application("another")])).await;
    let failure = ended.unwrap().unwrap_err().to_string();
    assert!(failure.contains("does not offer the application another"), "{failure}");
    assert_eq!(claims[0].verdict(), Judgement::NotDeclared);
}

#[tokio::test]
async fn where_it_is_allowed_only_what_the_mesh_does_not_offer_is_left_out_of_the_verdict() {
    let lacks = async |scope: &Scope| scope.requires([Requirement::Application("another")]);
    let (ended, claims) = run_where(Undeclared::Passes, lacks).await;
    ended.unwrap().unwrap();
    assert!(claims[0].verdict() == Judgement::NotDeclared && !claims[0].holds());
    let (ended, _) = run_where(Undeclared::Passes, async |scope| {
        scope.claim(claim("a", Judgement::Fail));
        lacks(scope).await
    })
    .await;
    let failure = ended.unwrap().unwrap_err().to_string();
    assert!(failure.contains("claim a does not hold") && !failure.contains("another"), "{failure}");
}

#[tokio::test]
async fn a_change_that_the_record_does_not_permit_is_not_made() {
    let directory = tempfile::tempdir().unwrap();
    let mut testbed = testbed();
    let mut record = (*testbed.record).clone();
    record.capabilities.writes.clear();
    testbed.record = record.into();
    let body = async |scope: &Scope| {
        let cluster = std::sync::Arc::clone(&scope.testbed.clusters[0]);
        let namespace = scope.namespace(&cluster, "own", &[]).await.unwrap_err();
        let label = scope.label_nodes(&cluster, "example", None).await.unwrap_err();
        assert!(namespace.is_not_declared() && namespace.to_string().contains("permission for creating namespaces"));
        assert!(label.is_not_declared() && label.to_string().contains("permission for changing labels of nodes"));
        scope.claim(claim("a", Judgement::Pass));
        Ok(())
    };
    let (path, undeclared) = (directory.path().into(), Undeclared::Fails);
    // Nothing is owned, so nothing is left to put back in a cluster that does not answer.
    Scope::run_on(testbed, MeshLock::unchecked(), path, "suite", "case".into(), undeclared, body).await.unwrap();
}

#[tokio::test]
async fn a_test_that_shares_the_mesh_changes_nothing_that_others_rely_on() {
    let directory = tempfile::tempdir().unwrap();
    let body = async |scope: &Scope| {
        let cluster = std::sync::Arc::clone(&scope.testbed.clusters[0]);
        let mut policy = serde_json::json!({ "kind": "PeerAuthentication", "metadata": { "namespace": "pinnacle" } });
        let label = scope.label_nodes(&cluster, "example", None).await;
        let placement = scope.inject(change::Placement::new(&cluster, "pinnacle", "server", "host")).await;
        let object = scope.apply(&cluster, &mut policy).await;
        for (refused, named) in [
            (label, "label example of the nodes"),
            (placement.map(drop), "the node of deployment pinnacle/server"),
            (object, "PeerAuthentication"),
        ] {
            let error = refused.unwrap_err();
            assert!(matches!(&error, Error::Shares { change } if change.contains(named)), "{named}: {error}");
        }
        scope.claim(claim("a", Judgement::Pass));
        Ok(())
    };
    let (lock, path) = (MeshLock::without_file(Sharing::Shared), directory.path().into());
    // Nothing was begun, so nothing is put back in a cluster that does not answer.
    Scope::run_on(testbed(), lock, path, "suite", "case".into(), Undeclared::Fails, body).await.unwrap();
}

#[tokio::test]
async fn a_test_that_claims_nothing_or_cannot_go_on_does_not_pass() {
    let (ended, claims) = run(async |_| Ok(())).await;
    ended.unwrap().unwrap_err();
    assert_eq!(claims[0].verdict(), Judgement::Error);
    let (ended, claims) = run(async |scope| Ok(scope.testbed.cluster("elsewhere").map(drop)?)).await;
    assert!(ended.unwrap().unwrap_err().to_string().contains("no cluster `elsewhere`"));
    assert_eq!(claims[0].verdict(), Judgement::Error);
}

#[tokio::test]
async fn an_item_that_cannot_be_judged_fails_the_test_and_the_others_are_judged() {
    let (ended, claims) = run(async |scope| {
        let judge = async |item: &str| {
            if item == "lost" {
                scope.testbed.cluster(item)?;
            }
            scope.claim(claim(item, Judgement::Pass));
            Ok(())
        };
        scope.for_each(["lost", "other"], ToString::to_string, judge).await;
        Ok(())
    })
    .await;
    let failure = ended.unwrap().unwrap_err().to_string();
    assert!(failure.contains("claim test/case/lost was not judged"), "{failure}");
    assert!(claims.iter().any(|claim| claim.id() == "other" && claim.holds()));
}

#[tokio::test]
async fn judging_nothing_is_not_a_pass() {
    let (ended, _) = run(async |scope| {
        scope.claim(claim("a", Judgement::Pass));
        scope.for_each(Vec::<String>::new(), Clone::clone, async |_| Ok(())).await;
        Ok(())
    })
    .await;
    assert!(ended.unwrap().unwrap_err().to_string().contains("there was nothing to judge"));
}

#[tokio::test]
async fn a_panic_goes_on_as_it_was_once_it_is_recorded() {
    let (ended, claims) = run(async |scope| {
        scope.claim(claim("a", Judgement::Pass));
        panic!("the original words");
    })
    .await;
    assert_eq!(ended.unwrap_err(), "the original words");
    assert!(claims.iter().any(|claim| claim.observed().contains("the original words")));
}

#[tokio::test]
async fn what_cannot_be_removed_fails_the_test() {
    let (ended, _) = run(async |scope| {
        scope.claim(claim("a", Judgement::Pass));
        let cluster = std::sync::Arc::clone(&scope.testbed.clusters[0]);
        scope.namespace(&cluster, "lost", &[]).await.unwrap_err();
        Ok(())
    })
    .await;
    let failure = ended.unwrap().unwrap_err().to_string();
    assert!(failure.contains("remove namespace meshproof-lost-"), "{failure}");
}
