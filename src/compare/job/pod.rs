//! State of a Job's pod.

use k8s_openapi::api::core::v1::Pod;

/// Waiting reasons from which a container does not recover.
const HOPELESS: [&str; 6] = [
    "CreateContainerConfigError",
    "CreateContainerError",
    "ErrImageNeverPull",
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
];

/// State of a pod's container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// The container does not run yet, for this reason.
    Waiting(String),
    /// The container runs.
    Running,
    /// The container will never run, for this reason.
    Lost(String),
    /// The container has ended with this exit code.
    Ended(i32),
}

impl State {
    /// The state of the container `name`.
    pub(super) fn of(pod: &Pod, name: &str) -> Self {
        let Some(status) = &pod.status else { return Self::Waiting("it is new".into()) };
        let container = status.container_statuses.iter().flatten().find(|status| status.name == name);
        let state = container.and_then(|container| container.state.as_ref());
        if let Some(ended) = state.and_then(|state| state.terminated.as_ref()) {
            return Self::Ended(ended.exit_code);
        }
        if status.phase.as_deref() == Some("Failed") {
            // An evicted or rejected pod has a reason, but no container status.
            let why = status.message.as_ref().or(status.reason.as_ref());
            return Self::Lost(why.cloned().unwrap_or_else(|| "it failed and nothing says why".into()));
        }
        if state.is_some_and(|state| state.running.is_some()) {
            return Self::Running;
        }
        if let Some(waiting) = state.and_then(|state| state.waiting.as_ref()) {
            let reason = waiting.reason.as_deref().unwrap_or("it waits");
            let image = container.map(|container| container.image.as_str()).unwrap_or_default();
            let told = format!("{reason} (image `{image}`) {}", waiting.message.as_deref().unwrap_or_default());
            let told = told.trim().to_owned();
            return match HOPELESS.contains(&reason) {
                true => {
                    Self::Lost(format!("{told}; `cargo xtask testbed up` puts the load driver's image on the node"))
                }
                false => Self::Waiting(told),
            };
        }
        let mut unmet = status.conditions.iter().flatten().filter(|condition| condition.status == "False");
        let why = unmet.find_map(|condition| condition.message.clone());
        Self::Waiting(why.unwrap_or_else(|| "it is not scheduled yet".into()))
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    /// State of a pod with this status.
    fn state(status: Value) -> State {
        let pod = json!({ "metadata": { "name": "load-0" }, "status": status });
        State::of(&serde_json::from_value(pod).unwrap(), "load")
    }

    fn container(state: Value) -> Value {
        json!({ "phase": "Pending", "containerStatuses": [
            { "name": "istio-proxy", "image": "p", "imageID": "", "ready": true, "restartCount": 0, "state": { "running": {} } },
            { "name": "load", "image": "l:1", "imageID": "", "ready": false, "restartCount": 0, "state": state },
        ] })
    }

    #[rstest]
    #[case::ended_well(json!({ "terminated": { "exitCode": 0 } }), State::Ended(0))]
    #[case::ended_badly(json!({ "terminated": { "exitCode": 1 } }), State::Ended(1))]
    #[case::running(json!({ "running": {} }), State::Running)]
    #[case::starting(json!({ "waiting": { "reason": "ContainerCreating" } }), State::Waiting("ContainerCreating (image `l:1`)".into()))]
    fn the_container_counts_and_not_its_proxy(#[case] reported: Value, #[case] seen: State) {
        assert_eq!(state(container(reported)), seen);
    }

    #[test]
    fn a_missing_image_is_told_at_once_and_with_what_to_do() {
        let State::Lost(why) = state(container(json!({ "waiting": { "reason": "ErrImageNeverPull" } }))) else {
            panic!("it can never run");
        };
        assert!(why.contains("image `l:1`") && why.contains("cargo xtask testbed up"), "{why}");
    }

    #[test]
    fn a_pod_that_no_node_takes_waits_with_the_schedulers_words_and_an_evicted_one_is_lost() {
        let unscheduled = json!({ "phase": "Pending", "conditions": [
            { "type": "PodScheduled", "status": "False", "message": "0/1 nodes are available: insufficient cpu" },
        ] });
        assert_eq!(state(unscheduled), State::Waiting("0/1 nodes are available: insufficient cpu".into()));
        let evicted = json!({ "phase": "Failed", "reason": "Evicted", "message": "The node was low on memory" });
        assert_eq!(state(evicted), State::Lost("The node was low on memory".into()));
    }
}
