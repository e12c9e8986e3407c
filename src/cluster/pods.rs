//! Pods of a cluster: found, waited for, and explained if they do not run.

use std::fmt::{self, Debug};
use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Event, ObjectReference, Pod};
use kube::api::{Api, ListParams, LogParams};
use kube::core::{Expression, Selector, SelectorExt};
use kube::runtime::watcher;
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::trouble::{NoStart, Trouble, is_slow_webhook, last_words, podless, refusal, said};
use super::{Cluster, Error, Result, Seen, watch_all};

/// A trouble that lasts longer does not pass by itself. The report is due 10 s after the trouble began.
const LASTING: Duration = Duration::from_secs(4);

/// Like [`LASTING`], for a webhook that did not answer in time, which a busy mesh causes: the longest timeout of a
/// webhook, so that the next attempt has ended too.
const LASTING_SLOW: Duration = Duration::from_secs(30);

/// Length of one watch for troubles. The next one goes on.
const WATCHED: Duration = Duration::from_secs(90);

/// Longest time for what explains a trouble further: a log and an event.
const EXPLAINED: Duration = Duration::from_secs(2);

/// Lines of a log that may tell why its container ended.
const LINES: i64 = 30;

/// Most characters of such a line.
const WIDTH: usize = 300;

/// Most pods that an error explains.
const EXAMPLES: usize = 3;

impl Cluster {
    /// The ready pods that match the label selector.
    ///
    /// # Errors
    /// [`Error::Api`]. [`Error::NoPod`]: no matching pod is ready, with what keeps them from running.
    pub async fn ready_pods(&self, namespace: &str, selector: &str) -> Result<Vec<Pod>> {
        let pods = self.api::<Pod>(namespace).list(&ListParams::default().labels(selector)).await;
        let pods = pods.map_err(self.failed(format!("list pods `{selector}` in {namespace}")))?.items;
        let (ready, unready): (Vec<_>, Vec<_>) = pods.into_iter().partition(is_ready);
        if ready.is_empty() {
            let seen = self.explained(namespace, &unready).await;
            let (cluster, namespace, selector) = (self.name().to_owned(), namespace.into(), selector.into());
            return Err(Error::NoPod { cluster, namespace, selector, seen });
        }
        Ok(ready)
    }

    /// Waits until `judge` accepts the pods that match the label selector. Gives up soon if one of them cannot start, or
    /// if no pod can be made of a deployment of such pods.
    ///
    /// # Errors
    /// [`Error::Stuck`]: a pod cannot start, with what Kubernetes says, and the last words of a container that ended.
    /// [`Error::NotStarted`]: the API server refuses the pods of a deployment, with its words.
    /// [`Error::NotInTime`], with what `judge` saw last and the last warning about the pods.
    // A plain function, because `#[track_caller]` has no effect on an `async fn`.
    #[track_caller]
    pub fn await_pods<T>(
        &self,
        namespace: &str,
        selector: &str,
        want: impl Into<String>,
        within: Duration,
        judge: impl FnMut(&[&Pod]) -> Seen<T>,
    ) -> impl Future<Output = Result<T>> {
        let which = watcher::Config::default().labels(selector);
        let waited = watch_all(self.api::<Pod>(namespace), which, want, within, judge);
        async move {
            let late = tokio::select! {
                biased;
                waited = waited => waited,
                trouble = self.lasting_trouble(namespace, selector) => return Err(self.stuck(namespace, trouble)),
                (deployment, refused) = self.lasting_refusals(namespace, selector) => {
                    return Err(self.not_started(namespace, &deployment, refused));
                }
            };
            match late {
                Err(Error::NotInTime { want, last, attempts, elapsed, location }) => {
                    let warning = self.warning(namespace, selector).await;
                    let last = warning.map_or(last.clone(), |warning| format!("{last}; {warning}"));
                    Err(Error::NotInTime { want, last, attempts, elapsed, location })
                }
                other => other,
            }
        }
    }

    /// Waits until no pod matches the label selector. A terminating pod counts as a pod.
    ///
    /// # Errors
    /// [`Error::NotInTime`].
    pub async fn no_pods(&self, namespace: &str, selector: &str, within: Duration) -> Result<()> {
        let want = format!("no pod `{selector}` to be left in {namespace} of {}", self.name());
        let which = watcher::Config::default().labels(selector);
        watch_all(self.api::<Pod>(namespace), which, want, within, |pods| match pods {
            [] => Seen::Yes(()),
            left => Seen::NotYet(left.iter().map(|pod| pod.name_any()).collect::<Vec<_>>().join(", ")),
        })
        .await
    }

    /// Waits for a trouble of the matching pods that does not pass, and returns what is known of it. Never ends while
    /// all is well.
    pub(crate) async fn lasting_trouble(&self, namespace: &str, selector: &str) -> NoStart {
        let which = watcher::Config::default().labels(selector);
        let trouble = lasting(self.api(namespace), which, |pods: &[&Pod]| current(pods).find_map(Trouble::of)).await;
        let reason = self.told(namespace, &trouble).await;
        NoStart { container: trouble.container.map(String::into_boxed_str), reason }
    }

    /// Like [`Self::lasting_trouble`], for the refusal to create the pods of a deployment, for example by a quota.
    pub(crate) async fn lasting_refusal(&self, namespace: &str, deployment: &str) -> NoStart {
        let which = watcher::Config::default().fields(&format!("metadata.name={deployment}"));
        let refused = lasting(self.api::<Deployment>(namespace), which, |found| match found.first() {
            Some(deployment) => refusal(deployment),
            None => Some(NoStart::of("it is gone")),
        })
        .await;
        self.latest(namespace, deployment, refused).await
    }

    /// Why the pods of a deployment are refused now. Its condition keeps the first reason, which may have passed.
    async fn latest(&self, namespace: &str, deployment: &str, refused: NoStart) -> NoStart {
        if !refused.is_refusal() {
            return refused;
        }
        let is_of_set = |object: &ObjectReference| {
            let set = object.name.as_deref().filter(|_| object.kind.as_deref() == Some("ReplicaSet"));
            set.and_then(|set| set.rsplit_once('-')).is_some_and(|(owner, _)| owner == deployment)
        };
        self.last_warning_of(namespace, is_of_set).await.map_or(refused, NoStart::of)
    }

    /// Like [`Self::lasting_refusal`], for any deployment whose pods match the label selector: its name, and why.
    async fn lasting_refusals(&self, namespace: &str, selector: &str) -> (String, NoStart) {
        let selector = parsed(selector);
        let refused = |deployment: &&Deployment| {
            let labels = deployment.spec.as_ref().and_then(|spec| spec.template.metadata.as_ref()?.labels.clone());
            let is_asked = selector.matches(&labels.unwrap_or_default());
            is_asked
                .then(|| refusal(deployment))
                .flatten()
                .map(|refused| Named { name: deployment.name_any(), refused })
        };
        let api = self.api::<Deployment>(namespace);
        let Named { name, refused } =
            lasting(api, watcher::Config::default(), |found| found.iter().find_map(refused)).await;
        let refused = self.latest(namespace, &name, refused).await;
        (name, refused)
    }

    /// Like [`Self::lasting_trouble`], for StatefulSets whose pods match the label selector and that have none. Only an
    /// event tells why: a StatefulSet has no condition for it.
    pub(crate) async fn lasting_lack(&self, namespace: &str, selector: &str) -> NoStart {
        let selector = parsed(selector);
        let podless = |set: &&StatefulSet| {
            let labels = set.spec.as_ref().and_then(|spec| spec.template.metadata.as_ref()?.labels.clone());
            (podless(set) && selector.matches(&labels.unwrap_or_default())).then(|| set.name_any())
        };
        loop {
            let api = self.api::<StatefulSet>(namespace);
            let name = lasting(api, watcher::Config::default(), |found| found.iter().find_map(podless)).await;
            if let Some(warning) = self.last_warning(namespace, |object| object == name).await {
                return NoStart::of(warning);
            }
        }
    }

    /// The error for a pod that cannot start.
    pub(crate) fn stuck(&self, namespace: &str, trouble: NoStart) -> Error {
        let NoStart { container, reason } = trouble;
        Error::Stuck { cluster: self.name().into(), namespace: namespace.into(), container, reason: reason.into() }
    }

    /// The error for a deployment whose pods cannot start.
    pub(crate) fn not_started(&self, namespace: &str, deployment: &str, trouble: NoStart) -> Error {
        let (cluster, namespace, deployment) = (self.name().into(), namespace.into(), deployment.into());
        let NoStart { container, reason } = trouble;
        Error::NotStarted { cluster, namespace, deployment, container, reason: reason.into() }
    }

    /// Pods of which none is ready: their names, and what keeps them from running.
    async fn explained(&self, namespace: &str, pods: &[Pod]) -> String {
        if pods.is_empty() {
            return "no pods match".into();
        }
        let explaining = pods.iter().take(EXAMPLES).map(async |pod| match Trouble::of(pod) {
            Some(trouble) => self.told(namespace, &trouble).await,
            None => format!("{} ({})", pod.name_any(), phase(pod)),
        });
        let explained = join_all(explaining).await.join(", ");
        match pods.len().saturating_sub(EXAMPLES) {
            0 => format!("only {explained}"),
            more => format!("only {explained}, and {more} more"),
        }
    }

    /// A trouble, with the last words of a container that has ended.
    async fn told(&self, namespace: &str, trouble: &Trouble) -> String {
        let Some((pod, container)) = trouble.log() else { return trouble.to_string() };
        // Of a container that waits to be started again, this is the log of the one that ended.
        let parameters =
            LogParams { container: Some(container.into()), tail_lines: Some(LINES), ..LogParams::default() };
        let pods = self.api::<Pod>(namespace);
        let Ok(Ok(log)) = tokio::time::timeout(EXPLAINED, pods.logs(pod, &parameters)).await else {
            return trouble.to_string();
        };
        match last_words(&log) {
            Some(words) => format!("{trouble}; its log says: {}", words.chars().take(WIDTH).collect::<String>()),
            None => trouble.to_string(),
        }
    }

    /// The last warning about the matching pods, in Kubernetes' words.
    async fn warning(&self, namespace: &str, selector: &str) -> Option<String> {
        let pods = self.api::<Pod>(namespace).list_metadata(&ListParams::default().labels(selector)).await.ok()?;
        let names: Vec<String> = pods.iter().map(|pod| pod.name_any()).collect();
        self.last_warning(namespace, |name| names.iter().any(|pod| pod == name)).await
    }

    /// The last warning in a namespace about an object whose name `is_about` accepts.
    pub(crate) async fn last_warning(&self, namespace: &str, is_about: impl Fn(&str) -> bool) -> Option<String> {
        self.last_warning_of(namespace, |object| is_about(object.name.as_deref().unwrap_or_default())).await
    }

    /// Like [`Self::last_warning`], about an object that `is_about` accepts.
    async fn last_warning_of(&self, namespace: &str, is_about: impl Fn(&ObjectReference) -> bool) -> Option<String> {
        let listing = ListParams::default().fields("type=Warning");
        let events = self.api::<Event>(namespace).list(&listing).await.ok()?;
        let about = |event: &&Event| is_about(&event.involved_object);
        let time = |event: &&Event| event.last_timestamp.as_ref().map(|time| time.0);
        let last = events.items.iter().filter(about).max_by_key(time)?;
        let object = &last.involved_object;
        let (kind, name) = (object.kind.as_deref().unwrap_or_default(), object.name.as_deref().unwrap_or_default());
        Some(format!("{kind} {name}: {}", said(last.reason.as_deref(), last.message.as_deref())))
    }
}

/// A deployment whose pods are refused.
struct Named {
    name: String,
    refused: NoStart,
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.refused)
    }
}

/// A label selector of equalities and of keys, as the suites write them.
fn parsed(selector: &str) -> Selector {
    let terms = selector.split(',').map(str::trim).filter(|term| !term.is_empty());
    terms
        .map(|term| match term.split_once('=') {
            Some((key, value)) => Expression::Equal(key.into(), value.trim_start_matches('=').into()),
            None => Expression::Exists(term.into()),
        })
        .collect()
}

/// Waits for a trouble of the objects that does not pass, and returns its description. Never ends while all is well.
async fn lasting<K, T>(api: Api<K>, which: watcher::Config, describe: impl Fn(&[&K]) -> Option<T>) -> T
where
    K: Clone + Debug + Send + DeserializeOwned + Resource + 'static,
    T: fmt::Display,
{
    loop {
        let began = watch_all(api.clone(), which.clone(), "a trouble", WATCHED, |objects| match describe(objects) {
            Some(trouble) => Seen::Yes(trouble),
            None => Seen::NotYet("none".into()),
        });
        let Ok(mut trouble) = began.await else { continue };
        let within = if is_slow_webhook(&trouble.to_string()) { LASTING_SLOW } else { LASTING };
        let passed = watch_all(api.clone(), which.clone(), "it to pass", within, |objects| match describe(objects) {
            None => Seen::Yes(()),
            Some(now) => {
                let words = now.to_string();
                trouble = now;
                Seen::NotYet(words)
            }
        });
        if passed.await.is_err() {
            return trouble;
        }
    }
}

/// The pods without those that have failed and were replaced since, such as a pod that was evicted long ago.
fn current<'a>(pods: &[&'a Pod]) -> impl Iterator<Item = &'a Pod> {
    let newest = pods.iter().filter_map(|pod| pod.creation_timestamp()).max();
    let is_failed = |pod: &Pod| pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Failed"));
    pods.iter().copied().filter(move |pod| !is_failed(pod) || pod.creation_timestamp() == newest)
}

/// What keeps a pod from running, in one line. `None` if it runs or starts.
pub(crate) fn trouble(pod: &Pod) -> Option<String> {
    Trouble::of(pod).map(|trouble| trouble.to_string())
}

/// Whether a pod is ready and not terminating.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut ready = conditions.filter(|condition| condition.type_ == "Ready");
    pod.metadata.deletion_timestamp.is_none() && ready.any(|condition| condition.status == "True")
}

/// Whether a pod has a container of this name. A native sidecar is an init container.
pub(crate) fn has_container(pod: &Pod, name: &str) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let mut containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    containers.any(|container| container.name == name)
}

/// The names and phases of pods of which none is ready, for messages.
pub(super) fn states<'a>(pods: impl IntoIterator<Item = &'a Pod>) -> String {
    let state = |pod: &Pod| format!("{} ({})", pod.name_any(), phase(pod));
    let states: Vec<String> = pods.into_iter().map(state).collect();
    if states.is_empty() { "no pods match".into() } else { format!("only {}", states.join(", ")) }
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("of no known phase")
}

#[cfg(test)]
mod tests;
