//! Pods that cannot start: the error says so soon, in the words of Kubernetes, and that the surroundings are to blame.

use std::sync::Arc;
use std::time::{Duration, Instant};

use meshproof::attach::PROVIDER;
use meshproof::probe;
use meshproof::record::{self, Label, Requirement, Write};
use meshproof::report::Claim;
use meshproof::scope::{CopiedProbe, ProbePlan, copied_probe, deploy_probe, deploy_probes};
use meshproof::{Cluster, Error, Scope, Verdict, Workload};
use serde_json::{Value, json};

use super::SUITE;

/// Longest time until a pod that cannot start is told.
const DUE: Duration = Duration::from_secs(10);

/// Longest wait for a pod: longer than [`DUE`], so that only the words of Kubernetes end it in time.
const PATIENCE: Duration = Duration::from_secs(60);

/// What keeps the pods of a namespace from starting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Obstacle {
    Quota,
    QuotaOfAStatefulSet,
    QuotaOfAModelProbe,
    PodSecurity,
    Node,
    Image,
}

impl Obstacle {
    /// What Kubernetes says of it.
    fn words(self) -> &'static [&'static str] {
        match self {
            Self::Quota | Self::QuotaOfAModelProbe => &["deployment", "FailedCreate", "exceeded quota: none", "pods=1"],
            Self::QuotaOfAStatefulSet => &["StatefulSet", "FailedCreate", "exceeded quota: none", "pods=1"],
            Self::PodSecurity => &["deployment", "FailedCreate", "violates PodSecurity \"restricted", "hostNetwork"],
            Self::Node => &["pod ", "Unschedulable", "node affinity/selector"],
            Self::Image => &["pod ", "container probe", "ErrImageNeverPull", "meshproof.invalid/none:1"],
        }
    }

    /// Deploys probes that this keeps from starting.
    async fn deploy(self, scope: &Scope, cluster: &Arc<Cluster>, namespace: &str) -> Result<(), Error> {
        let plan = |stateful, host_network| {
            [ProbePlan { name: "refused".into(), stateful, host_network, ..ProbePlan::default() }]
        };
        match self {
            Self::Quota => deploy_probes(scope, cluster, namespace, &plan(false, false)).await.map(drop),
            Self::QuotaOfAStatefulSet => deploy_probes(scope, cluster, namespace, &plan(true, false)).await.map(drop),
            Self::QuotaOfAModelProbe => deploy_probe(scope, cluster, namespace).await.map(drop),
            Self::PodSecurity => deploy_probes(scope, cluster, namespace, &plan(false, true)).await.map(drop),
            Self::Node => {
                let none = json!({ "meshproof.dev/none": "" });
                copy(scope, cluster, namespace, |pod| pod["spec"]["nodeSelector"] = none).await
            }
            Self::Image => {
                let missing = json!({ "image": "meshproof.invalid/none:1", "imagePullPolicy": "Never" });
                copy(scope, cluster, namespace, |pod| {
                    // A sidecar starts first, and takes its time on a busy machine.
                    pod["metadata"]["labels"]["sidecar.istio.io/inject"] = "false".into();
                    let container = &mut pod["spec"]["containers"][0];
                    missing.as_object().into_iter().flatten().for_each(|(key, value)| container[key] = value.clone());
                })
                .await
            }
        }
    }
}

/// Deploys a probe whose pod is changed, and waits for it as the suites wait for workloads.
async fn copy(
    scope: &Scope,
    cluster: &Arc<Cluster>,
    namespace: &str,
    change: impl FnOnce(&mut Value),
) -> Result<(), Error> {
    let CopiedProbe { mut account, mut deployment, .. } = copied_probe(cluster, namespace).await?;
    change(&mut deployment["spec"]["template"]);
    for object in [&mut account, &mut deployment] {
        scope.apply(cluster, object).await?;
    }
    let selector = &probe::declared(cluster)?.meshed.selector;
    Workload::await_ready(cluster, namespace, selector, PATIENCE).await?;
    Ok(())
}

/// Red if the test waits until its limit, as it does if it watches pods only: then none is ever made.
async fn a_pod_that_cannot_start_is_told_within_10_s(obstacle: Obstacle) -> Verdict {
    let test = format!("a_pod_that_cannot_start_is_told_within_10_s::{obstacle:?}");
    Scope::run(SUITE, test, async |scope| {
        scope.requires([Requirement::Probes, Requirement::Write(Write::Namespaces)])?;
        if scope.testbed.record.provider == PROVIDER {
            return Err(record::Error::not_declared("quotas and levels of Pod Security of the suite's own").into());
        }
        let cluster = &scope.testbed.clusters[0];
        let mut labels = vec![cluster.record().istio.injection.clone()];
        if obstacle == Obstacle::PodSecurity {
            labels.push(Label { key: "pod-security.kubernetes.io/enforce".into(), value: "restricted".into() });
        }
        let namespace = scope.namespace(cluster, "refused", &labels).await?;
        let mut quota = json!({
            "apiVersion": "v1", "kind": "ResourceQuota", "metadata": { "name": "none", "namespace": namespace },
            "spec": { "hard": { "pods": "0" } },
        });
        if obstacle.words().contains(&"exceeded quota: none") {
            scope.apply(cluster, &mut quota).await?;
        }
        let began = Instant::now();
        let ended = obstacle.deploy(scope, cluster, &namespace).await;
        let took = began.elapsed();
        let told = ended.map_or_else(|error| error.told(), |()| "the pod has started".into());
        let id = |what: &str| format!("refused/{obstacle:?}/{what}");
        let begins = format!("ENVIRONMENT: {}: ", cluster.name());
        let is_told = |told: &String| {
            let has_all = obstacle.words().iter().all(|words| told.contains(words));
            told.starts_with(&begins) && told.contains(&namespace) && has_all
        };
        let words = "a pod that cannot start is told in the words of Kubernetes, with cluster and namespace";
        let expected = format!("{begins}… {namespace} … {}", obstacle.words().join(" … "));
        scope.claim(Claim::about(id("words"), words).expects(expected).observes(&told, |told| told.clone(), is_told));
        let soon = "a pod that cannot start is told within 10 s";
        let expected = format!("at most {DUE:?}");
        scope.claim(Claim::about(id("soon"), soon).expects(expected).observes(
            &took,
            |took| format!("{:.1} s", took.as_secs_f64()),
            |took| *took <= DUE,
        ));
        Ok(())
    })
    .await
}

crate::trials! {
    a_pod_that_cannot_start_is_told_within_10_s {
        for_a_quota(Obstacle::Quota),
        for_a_quota_of_a_stateful_set(Obstacle::QuotaOfAStatefulSet),
        for_a_quota_of_a_model_probe(Obstacle::QuotaOfAModelProbe),
        by_pod_security(Obstacle::PodSecurity),
        without_a_node(Obstacle::Node),
        without_its_image(Obstacle::Image),
    },
}
