//! Load from many pods at once: an indexed Job. All pods start at the same moment, and their summaries merge into one.

mod pod;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use futures::future::{Either, join_all, select, try_join_all};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{AttachParams, AttachedProcess, DeleteParams, ListParams};
use kube::runtime::watcher;
use meshproof_load::part::{READY, begin_at};
use meshproof_load::{Plan, Summary};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::Side;
use crate::cluster::{Cluster, Container, Seen, eventually, watch_all};
use crate::compare::{Error, Result};
use crate::report;
use crate::scope::RUN_LABEL;
use pod::State;

/// Longest wait for all pods to be ready to start: scheduled, started, connected.
const PREPARED: Duration = Duration::from_secs(120);

/// Time from the moment that all pods listen to their common start: longer than telling all pods takes.
const LEAD: Duration = Duration::from_millis(500);

/// Time for a pod to end, and to be reported as ended, beyond its plan.
const SLACK: Duration = Duration::from_secs(30);

/// Longest wait for the pods to be deleted.
const GONE: Duration = Duration::from_secs(60);

/// Time to live of a finished Job, in seconds, for a Job whose owner was killed before deleting it.
const LEFT_BEHIND_SECONDS: u64 = 60;

/// The pods' only container.
const CONTAINER: &str = "load";

/// Load by several pods. Each pod makes the whole load of the plan.
#[derive(Debug)]
pub struct Job {
    cluster: Arc<Cluster>,
    namespace: String,
    image: String,
    plan: Plan,
    parallelism: u32,
    name: String,
}

/// The measurements of a Job's pods.
#[derive(Debug)]
pub struct Gathered {
    /// The merged summary, as if one generator had made the whole load.
    pub summary: Summary,
    /// Time from the first pod's start to the last pod's start, by the clocks of their nodes.
    pub apart: Duration,
}

impl Job {
    /// Load by `parallelism` pods in `namespace` of a cluster, with the testbed's image of the load driver.
    ///
    /// # Errors
    /// [`Error::Load`]: the plan is invalid. [`Api`](crate::cluster::Error::Api): the cluster has no load driver to
    /// take the image from.
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

    /// The Job with another image of the driver.
    pub fn with_image(self, image: String) -> Self {
        Self { image, ..self }
    }

    /// The Job's namespace and name.
    pub fn name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Makes the load, unless `until` completes first. Always deletes the Job.
    ///
    /// # Errors
    /// [`Error::Load`] with the message of the failed pod. [`NotInTime`](crate::cluster::Error::NotInTime): pods do not
    /// become ready or do not end. [`Api`](crate::cluster::Error::Api).
    pub async fn run(&self, until: impl Future<Output = ()>) -> Result<Gathered> {
        self.create().await?;
        let working = async {
            let pods = self.prepared().await?;
            // Keep the connections: a pod's standard input ends with its connection.
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
                // No retry: a replacement pod would hide the failed pod.
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
                            // Small requests, so that many pods fit. The summary reports saturation if they were too
                            // small.
                            "resources": { "requests": { "cpu": "10m", "memory": "16Mi" } },
                        }],
                    },
                },
            },
        })
    }

    /// Longest duration of the pods' work, by the plan.
    fn length(&self) -> Duration {
        let Plan { duration_ms, drain_ms, timeout_ms, .. } = self.plan;
        LEAD + Duration::from_millis(duration_ms + drain_ms + timeout_ms)
    }

    /// Waits until every pod is ready and waits for the start time.
    async fn prepared(&self) -> Result<Vec<String>> {
        let want = format!("{} pods of Job {} to be ready to begin", self.parallelism, self.name());
        let prepared = eventually(want, PREPARED, async || {
            let (mut names, mut lacking) = (Vec::new(), Vec::new());
            for pod in self.pods().await? {
                let name = pod.name_any();
                match State::of(&pod, CONTAINER) {
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
        let selector = self.selector();
        tokio::select! {
            biased;
            prepared = prepared => prepared?.map_err(|reason| self.failed(reason)),
            // Also of a proxy beside the driver.
            trouble = self.cluster.lasting_trouble(&self.namespace, &selector) => Err(self.failed(trouble.reason)),
        }
    }

    /// Sends every pod the same start time, once all pods listen.
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

    /// Waits for the pods to end, and merges their measurements.
    async fn gather(&self, pods: &[String]) -> Result<Gathered> {
        let want = format!("the pods of Job {} to end", self.name());
        let which = watcher::Config::default().labels(&self.selector());
        let ended = watch_all(self.cluster.api::<Pod>(&self.namespace), which, want, self.length() + SLACK, End::of);
        match ended.await? {
            End::Well => {}
            End::Lost { pod, reason } => return Err(self.failed(format!("pod {pod}: {reason}"))),
            End::Badly { pod, code } => return Err(self.failed(self.words(&pod, code).await?)),
        }
        let mut parts = Vec::new();
        for pod in pods {
            parts.push(summary(&self.log(pod).await?).map_err(|reason| self.failed(format!("pod {pod}: {reason}")))?);
        }
        merge(parts).map_err(|reason| self.failed(reason))
    }

    /// The Job's pods.
    async fn pods(&self) -> Result<Vec<Pod>> {
        let selected = ListParams::default().labels(&self.selector());
        let pods = self.cluster.api::<Pod>(&self.namespace).list(&selected).await;
        let pods = pods.map_err(self.cluster.failed(format!("list the pods of Job {}", self.name())))?;
        Ok(pods.items)
    }

    fn selector(&self) -> String {
        format!("batch.kubernetes.io/job-name={}", self.name)
    }

    async fn log(&self, pod: &str) -> Result<String> {
        let at = Container { namespace: &self.namespace, pod, container: CONTAINER };
        Ok(self.cluster.logs(at, PREPARED + self.length() + SLACK).await?)
    }

    /// The reason of a pod's failure, from its log.
    async fn words(&self, pod: &str, code: i32) -> Result<String> {
        let log = self.log(pod).await?;
        let said = log.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("nothing");
        Ok(format!("pod {pod} ended with exit code {code}, and said: {said}"))
    }

    async fn remove(&self) -> Result<()> {
        let jobs = self.cluster.api::<batch::v1::Job>(&self.namespace);
        // By default, deleting a Job leaves its pods.
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

/// How the pods of a Job ended.
enum End {
    /// All pods, with exit code 0.
    Well,
    /// This pod, with another exit code.
    Badly { pod: String, code: i32 },
    /// This pod never ran, for this reason.
    Lost { pod: String, reason: String },
}

impl End {
    /// The end of all pods, or the end of the first pod that failed.
    fn of(pods: &[&Pod]) -> Seen<Self> {
        let mut open = Vec::new();
        for pod in pods {
            let name = pod.name_any();
            match State::of(pod, CONTAINER) {
                State::Ended(0) => {}
                State::Ended(code) => return Seen::Yes(Self::Badly { pod: name, code }),
                State::Lost(reason) => return Seen::Yes(Self::Lost { pod: name, reason }),
                State::Running | State::Waiting(_) => open.push(name),
            }
        }
        if open.is_empty() { Seen::Yes(Self::Well) } else { Seen::NotYet(open.join(", ")) }
    }
}

/// The summary in a pod's log: the last line, after the lines of standard error.
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
