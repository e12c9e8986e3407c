//! Load from many pods at once: an indexed Job, whose pods begin at one moment and whose summaries merge into one.

mod pod;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use futures::future::{Either, join_all, select, try_join_all};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{AttachParams, AttachedProcess, DeleteParams, ListParams};
use meshproof_load::part::{READY, begin_at};
use meshproof_load::{Plan, Summary};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::Side;
use crate::cluster::Cluster;
use crate::cluster::{Seen, eventually};
use crate::compare::{Error, Result};
use crate::report;
use crate::scope::RUN_LABEL;
use pod::State;

/// Bound on all pods being ready to begin: scheduled, started, connected.
const PREPARED: Duration = Duration::from_secs(120);

/// From the moment at which all pods are listening to the one at which they begin: longer than it takes to tell them.
const LEAD: Duration = Duration::from_millis(500);

/// What a pod may take beyond its plan, to end and to be seen to have ended.
const SLACK: Duration = Duration::from_secs(30);

/// Bound on the pods' being gone.
const GONE: Duration = Duration::from_secs(60);

/// How long an ended Job stays that nobody removed, because its owner was killed.
const LEFT_BEHIND_SECONDS: u64 = 60;

/// The pods' only container.
const CONTAINER: &str = "load";

/// Load to be made by several pods, each of which makes all that the plan asks for.
#[derive(Debug)]
pub struct Job {
    cluster: Arc<Cluster>,
    namespace: String,
    image: String,
    plan: Plan,
    parallelism: u32,
    name: String,
}

/// What the pods of a Job measured.
#[derive(Debug)]
pub struct Gathered {
    /// All of it, as if one generator had made the whole load.
    pub summary: Summary,
    /// From the first pod's beginning to the last one's, by the clocks of their nodes.
    pub apart: Duration,
}

impl Job {
    /// Load by `parallelism` pods in `namespace` of a cluster, with the driver's image that the testbed has there.
    ///
    /// # Errors
    /// [`Error::Load`] where the plan makes no sense; [`Api`](crate::cluster::Error::Api) where the cluster has no load
    /// driver to take the image from.
    pub async fn new(cluster: &Arc<Cluster>, namespace: &str, plan: Plan, parallelism: u32) -> Result<Self> {
        let home = Side::Naked.namespace(cluster)?;
        let client = cluster.api::<Deployment>(home).get("client").await;
        let client =
            client.map_err(cluster.failed(format!("find the load driver's image: deployment {home}/client")))?;
        let image = client.spec.and_then(|spec| spec.template.spec?.containers.into_iter().next()?.image);
        let job = Self::of(cluster, namespace, image.unwrap_or_default(), plan, parallelism);
        job.plan.validate().map_err(|error| job.failed(error.to_string()))?;
        Ok(job)
    }

    fn of(cluster: &Arc<Cluster>, namespace: &str, image: String, plan: Plan, parallelism: u32) -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let name = format!("load-{}-{}", report::run(), MADE.fetch_add(1, Ordering::Relaxed));
        Self { cluster: Arc::clone(cluster), namespace: namespace.into(), image, plan, parallelism, name }
    }

    /// The same with another image of the driver.
    pub fn with_image(self, image: String) -> Self {
        Self { image, ..self }
    }

    /// Its namespace and name.
    pub fn name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Makes the load, unless `until` comes first, and removes the Job in any case.
    ///
    /// # Errors
    /// [`Error::Load`] in the words of the pod that is at fault; [`NotInTime`](crate::cluster::Error::NotInTime) where
    /// pods do not become ready or do not end; [`Api`](crate::cluster::Error::Api).
    pub async fn run(&self, until: impl Future<Output = ()>) -> Result<Gathered> {
        self.create().await?;
        let working = async {
            let pods = self.prepared().await?;
            // Standard input of a pod ends with its connection.
            let _told = self.begin(&pods).await?;
            self.gather(&pods).await
        };
        let worked = match select(pin!(working), pin!(until)).await {
            Either::Left((worked, _)) => worked,
            Either::Right(_) => Err(self.failed("it was told to stop".into())),
        };
        let removed = self.remove().await;
        let gathered = worked?;
        removed.map(|()| gathered)
    }

    async fn create(&self) -> Result<()> {
        let object = serde_json::from_value(self.object()).map_err(|error| self.failed(error.to_string()))?;
        let created = self.cluster.api::<batch::v1::Job>(&self.namespace).create(&Default::default(), &object).await;
        Ok(created.map(drop).map_err(self.cluster.failed(format!("create Job {}", self.name())))?)
    }

    fn object(&self) -> Value {
        let labels = json!({ RUN_LABEL: report::run(), "app": "load" });
        let plan = json!(self.plan).to_string();
        let deadline = (PREPARED + self.length() + SLACK).as_secs();
        json!({
            "apiVersion": "batch/v1", "kind": "Job",
            "metadata": { "name": self.name, "namespace": self.namespace, "labels": labels },
            "spec": {
                "completionMode": "Indexed",
                "parallelism": self.parallelism,
                "completions": self.parallelism,
                // A part that is begun again is not the part that failed.
                "backoffLimit": 0,
                "activeDeadlineSeconds": deadline,
                "ttlSecondsAfterFinished": LEFT_BEHIND_SECONDS,
                "template": {
                    "metadata": { "labels": labels },
                    "spec": {
                        "restartPolicy": "Never",
                        "terminationGracePeriodSeconds": 1,
                        "enableServiceLinks": false,
                        "automountServiceAccountToken": false,
                        "containers": [{
                            "name": CONTAINER,
                            "image": self.image,
                            "imagePullPolicy": "IfNotPresent",
                            "args": ["part", "--plan", plan],
                            "stdin": true,
                            "stdinOnce": true,
                            "securityContext": {
                                "runAsNonRoot": true,
                                "allowPrivilegeEscalation": false,
                                "capabilities": { "drop": ["ALL"] },
                            },
                            // Little, so that many fit; see the summary's saturation for whether it was enough.
                            "resources": { "requests": { "cpu": "10m", "memory": "16Mi" } },
                        }],
                    },
                },
            },
        })
    }

    /// Bound on the pods' work, by the plan.
    fn length(&self) -> Duration {
        let Plan { duration_ms, drain_ms, timeout_ms, .. } = self.plan;
        LEAD + Duration::from_millis(duration_ms + drain_ms + timeout_ms)
    }

    /// Waits until every pod only waits to be told when to begin.
    async fn prepared(&self) -> Result<Vec<String>> {
        let want = format!("{} pods of Job {} to be ready to begin", self.parallelism, self.name());
        let prepared = eventually(want, PREPARED, async || {
            let (mut names, mut lacking) = (Vec::new(), Vec::new());
            for (name, state) in self.pods().await? {
                match state {
                    State::Running if self.log(&name).await?.contains(READY) => names.push(name),
                    State::Running => lacking.push(format!("{name} prepares its connections")),
                    State::Waiting(reason) => lacking.push(format!("{name}: {reason}")),
                    State::Lost(reason) => return Ok(Seen::Yes(Err(format!("pod {name}: {reason}")))),
                    State::Ended(code) => return Ok(Seen::Yes(Err(self.words(&name, code).await?))),
                }
            }
            if names.len() < self.parallelism as usize {
                let some = format!("{} of {} ready; {}", names.len(), self.parallelism, lacking.join(", "));
                return Ok(Seen::NotYet(some));
            }
            Ok::<_, Error>(Seen::Yes(Ok(names)))
        });
        prepared.await?.map_err(|reason| self.failed(reason))
    }

    /// Tells every pod the same moment, once all of them listen.
    async fn begin(&self, pods: &[String]) -> Result<Vec<AttachedProcess>> {
        let attach = pods.iter().map(|pod| async move {
            let parameters = AttachParams::default().container(CONTAINER).stdin(true).stdout(false).stderr(false);
            let attached = self.cluster.api::<Pod>(&self.namespace).attach(pod, &parameters).await;
            attached.map_err(self.cluster.failed(format!("attach to {}/{pod}", self.namespace)))
        });
        let mut attached = try_join_all(attach).await?;
        let line = begin_at(SystemTime::now() + LEAD);
        let tell = attached.iter_mut().map(async |process| {
            let mut input = process.stdin().ok_or("there is no standard input")?;
            input.write_all(line.as_bytes()).await.map_err(|_| "its standard input is closed")?;
            input.flush().await.map_err(|_| "its standard input is closed")
        });
        for (pod, told) in pods.iter().zip(join_all(tell).await) {
            told.map_err(|reason| self.failed(format!("pod {pod} cannot be told when to begin: {reason}")))?;
        }
        Ok(attached)
    }

    /// Waits for the pods' ends, and merges what they measured.
    async fn gather(&self, pods: &[String]) -> Result<Gathered> {
        let want = format!("the pods of Job {} to end", self.name());
        let ended = eventually(want, self.length() + SLACK, async || {
            let mut open = Vec::new();
            for (name, state) in self.pods().await? {
                match state {
                    State::Ended(0) => {}
                    State::Ended(code) => return Ok(Seen::Yes(Err(self.words(&name, code).await?))),
                    State::Lost(reason) => return Ok(Seen::Yes(Err(format!("pod {name}: {reason}")))),
                    State::Running | State::Waiting(_) => open.push(name),
                }
            }
            Ok::<_, Error>(if open.is_empty() { Seen::Yes(Ok(())) } else { Seen::NotYet(open.join(", ")) })
        });
        ended.await?.map_err(|reason| self.failed(reason))?;
        let mut parts = Vec::new();
        for pod in pods {
            parts.push(summary(&self.log(pod).await?).map_err(|reason| self.failed(format!("pod {pod}: {reason}")))?);
        }
        merge(parts).map_err(|reason| self.failed(reason))
    }

    /// The Job's pods, and how they are.
    async fn pods(&self) -> Result<Vec<(String, State)>> {
        let selected = ListParams::default().labels(&self.selector());
        let pods = self.cluster.api::<Pod>(&self.namespace).list(&selected).await;
        let pods = pods.map_err(self.cluster.failed(format!("list the pods of Job {}", self.name())))?;
        Ok(pods.iter().map(|pod| State::of(pod, CONTAINER)).collect())
    }

    fn selector(&self) -> String {
        format!("batch.kubernetes.io/job-name={}", self.name)
    }

    async fn log(&self, pod: &str) -> Result<String> {
        Ok(self.cluster.logs((&self.namespace, pod, CONTAINER), PREPARED + self.length() + SLACK).await?)
    }

    /// Why a pod has failed, as it says itself.
    async fn words(&self, pod: &str, code: i32) -> Result<String> {
        let log = self.log(pod).await?;
        let said = log.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("nothing");
        Ok(format!("pod {pod} ended with exit code {code}, and said: {said}"))
    }

    async fn remove(&self) -> Result<()> {
        let jobs = self.cluster.api::<batch::v1::Job>(&self.namespace);
        // By default the pods of a Job outlive it.
        match jobs.delete(&self.name, &DeleteParams::background()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            deleted => drop(deleted.map_err(self.cluster.failed(format!("remove Job {}", self.name())))?),
        }
        Ok(self.cluster.no_pods(&self.namespace, &self.selector(), GONE).await?)
    }

    fn failed(&self, reason: String) -> Error {
        Error::Load { cluster: self.cluster.name().into(), job: self.name(), reason }
    }
}

/// The summary in a pod's log: its last line, below what it said on standard error.
fn summary(log: &str) -> Result<Summary, String> {
    let line = log.lines().rfind(|line| line.starts_with('{')).ok_or("its log holds no summary")?;
    serde_json::from_str(line).map_err(|error| format!("its summary cannot be read: {error}"))
}

fn merge(mut parts: Vec<Summary>) -> Result<Gathered, String> {
    parts.sort_by(|one, other| one.parts.cmp(&other.parts));
    let summary = Summary::merge(&parts).map_err(|error| error.to_string())?;
    let last = parts.iter().map(|part| part.started).fold(summary.started, f64::max);
    Ok(Gathered { apart: Duration::from_secs_f64(last - summary.started), summary })
}

#[cfg(test)]
mod tests;
