//! Why a pod does not run, in the words of Kubernetes.

use std::fmt;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod, PodStatus};
use kube::ResourceExt;

/// States in which a container waits though all is well.
const STARTING: [&str; 2] = ["ContainerCreating", "PodInitializing"];

/// Words in a line of a log that tell of a failure.
const FAILURES: [&str; 6] = ["assert", "critical", "error", "fatal", "panic", "failed"];

/// Why pods do not start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NoStart {
    /// The container in trouble. `None`: the pod has no node, or there is no pod.
    pub(crate) container: Option<Box<str>>,
    /// The object in trouble, and what Kubernetes says of it.
    pub(crate) reason: String,
}

impl NoStart {
    /// A reason that is about no container.
    pub(crate) fn of(reason: impl Into<String>) -> Self {
        Self { container: None, reason: reason.into() }
    }

    /// Whether pods were refused: the condition `ReplicaFailure` has this reason.
    pub(super) fn is_refusal(&self) -> bool {
        self.reason.starts_with("FailedCreate")
    }
}

impl fmt::Display for NoStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

/// What keeps a pod from running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    pod: String,
    pub(super) container: Option<String>,
    words: String,
    /// Whether the container has run and ended, so that it has a log.
    has_ended: bool,
}

impl Trouble {
    /// Why a pod does not run: it has no node, or a container cannot start or does not keep running. `None` if the pod
    /// runs, starts, or is being deleted.
    pub(super) fn of(pod: &Pod) -> Option<Self> {
        if pod.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let status = pod.status.as_ref()?;
        let of_pod = |words| Self { pod: pod.name_any(), container: None, words, has_ended: false };
        if status.phase.as_deref() == Some("Failed") {
            return Some(of_pod(said(status.reason.as_deref(), status.message.as_deref())));
        }
        if let Some(words) = unscheduled(status) {
            return Some(of_pod(words));
        }
        // A native sidecar is an init container.
        let mut containers =
            [&status.init_container_statuses, &status.container_statuses].into_iter().flatten().flatten();
        containers.find_map(stuck).map(|stuck| Self { pod: pod.name_any(), ..stuck })
    }

    /// The pod and the container whose log tells more, if there is such a log.
    pub(super) fn log(&self) -> Option<(&str, &str)> {
        self.has_ended.then_some((self.pod.as_str(), self.container.as_deref()?))
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pod, container, words, .. } = self;
        match container {
            Some(container) => write!(f, "pod {pod}: container {container}: {words}"),
            None => write!(f, "pod {pod}: {words}"),
        }
    }
}

fn unscheduled(status: &PodStatus) -> Option<String> {
    let mut conditions = status.conditions.iter().flatten();
    let found = conditions.find(|condition| condition.type_ == "PodScheduled" && condition.status == "False")?;
    Some(said(found.reason.as_deref(), found.message.as_deref()))
}

fn stuck(container: &ContainerStatus) -> Option<Trouble> {
    let state = container.state.as_ref()?;
    let failed = |ended: &ContainerStateTerminated| {
        (ended.exit_code != 0).then(|| {
            let said = said(ended.reason.as_deref(), ended.message.as_deref());
            format!("ended with exit code {}: {said}", ended.exit_code)
        })
    };
    let trouble = |words, has_ended| {
        Some(Trouble { pod: String::new(), container: Some(container.name.clone()), words, has_ended })
    };
    let reason = state.waiting.as_ref().and_then(|waiting| waiting.reason.as_deref());
    if let Some(reason) = reason.filter(|reason| !STARTING.contains(reason)) {
        let message = state.waiting.as_ref().and_then(|waiting| waiting.message.as_deref());
        let before = container.last_state.as_ref().and_then(|last| failed(last.terminated.as_ref()?));
        let said = said(Some(reason), message);
        let has_ended = before.is_some();
        return trouble(before.map_or(said.clone(), |before| format!("{said}; it {before}")), has_ended);
    }
    trouble(failed(state.terminated.as_ref()?)?, true)
}

/// Why no pod of a deployment can be created, for example for a quota or by admission.
pub(super) fn refusal(deployment: &Deployment) -> Option<NoStart> {
    let status = deployment.status.as_ref()?;
    if status.observed_generation < deployment.metadata.generation {
        return None;
    }
    let is = |kind: &str, state: &str| {
        let mut conditions = status.conditions.iter().flatten();
        conditions.find(|condition| condition.type_ == kind && condition.status == state)
    };
    // `Progressing` says only that it takes long.
    let refusal = is("ReplicaFailure", "True").or_else(|| is("Progressing", "False"))?;
    Some(NoStart::of(said(refusal.reason.as_deref(), refusal.message.as_deref())))
}

/// Whether a reason says that a webhook did not answer in time. It may be busy only; Kubernetes asks again.
pub(super) fn is_slow_webhook(reason: &str) -> bool {
    // The words of Go's `context` and of its HTTP client.
    let late = ["deadline exceeded", "Client.Timeout", "i/o timeout"];
    reason.contains("failed calling webhook") && late.iter().any(|words| reason.contains(words))
}

/// Whether a StatefulSet should have pods, and has none.
pub(super) fn podless(set: &StatefulSet) -> bool {
    let Some(status) = &set.status else { return false };
    let wanted = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    status.observed_generation >= set.metadata.generation && wanted > 0 && status.replicas == 0
}

/// A reason and a message of Kubernetes, as far as there are any.
pub(super) fn said(reason: Option<&str>, message: Option<&str>) -> String {
    [reason, message].into_iter().flatten().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(": ")
}

/// The line of a log that tells why its container ended: the last line that tells of a failure, or the last line.
pub(super) fn last_words(log: &str) -> Option<&str> {
    let mut lines = log.lines().map(str::trim).filter(|line| !line.is_empty()).rev();
    let tells = |line: &&str| {
        let line = line.to_lowercase();
        FAILURES.iter().any(|word| line.contains(word))
    };
    lines.clone().find(tells).or_else(|| lines.next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_that_tells_of_a_failure_counts_and_else_the_last_line() {
        let log = "info starting\ncritical assert failure: inotify_fd_ >= 0\ninfo the proxy has ended\n\n";
        assert_eq!(last_words(log), Some("critical assert failure: inotify_fd_ >= 0"));
        assert_eq!(last_words("one\n  two \n"), Some("two"));
        assert_eq!(last_words("\n"), None);
    }
}
