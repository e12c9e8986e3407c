use meshproof_load::Loop;

use super::*;

fn job() -> Job {
    let cluster = crate::cluster::tests::workload().cluster;
    Job::of(&cluster, "meshproof-perf-naked", "meshproof.local/load:1".into(), Plan::open("server:80", 50.0, 3_000), 4)
}

#[tokio::test]
async fn the_pods_are_told_the_plan_itself_and_nothing_outlives_its_owner_for_long() {
    let object = job().object();
    let spec = &object["spec"];
    assert_eq!((spec["parallelism"].as_u64(), spec["completions"].as_u64()), (Some(4), Some(4)));
    assert_eq!(spec["completionMode"], "Indexed", "without a number of its own a part does not merge");
    let told = spec["template"]["spec"]["containers"][0]["args"][2].as_str().unwrap();
    let plan: Plan = serde_json::from_str(told).unwrap();
    assert!(matches!(plan.load, Loop::Open { rate: 50.0, .. }));
    // 120 s preparation, 0.5 s lead, 3 s load, 10 s drain, 10 s last request, 30 s reserve.
    assert_eq!(spec["activeDeadlineSeconds"], 173);
    assert_eq!(spec["ttlSecondsAfterFinished"], 60);
    for labels in [&object["metadata"]["labels"], &spec["template"]["metadata"]["labels"]] {
        assert_eq!(labels[RUN_LABEL], report::run(), "what a run makes has its label");
    }
    assert_ne!(job().name(), job().name(), "two Jobs of one run");
}

#[test]
fn a_log_without_a_summary_is_refused() {
    assert_eq!(summary(&format!("{READY}\n")).unwrap_err(), "its log holds no summary");
    let cut = summary(&format!("{READY}\n{{\"schema\":\"meshproof.load/v1\"")).unwrap_err();
    assert!(cut.starts_with("its summary cannot be read"), "{cut}");
}

#[tokio::test]
async fn a_cluster_that_does_not_answer_is_named_and_so_is_the_job() {
    let error = job().run(std::future::pending()).await.unwrap_err().to_string();
    assert!(error.contains("cluster1: could not create Job meshproof-perf-naked/load-"), "{error}");
}
