//! Waits for a state of Kubernetes objects, by watching them.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::panic::Location;
use std::pin::pin;
use std::time::Duration;

use futures::TryStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::{Error, Result, Seen, eventually};

/// Longest duration of one watch request, in seconds. The next request goes on where the last one ended. A connection
/// that died in silence is noticed at the end of its request.
const REQUEST_SECONDS: u32 = 20;

/// Watches the objects that `which` selects until `judge` accepts them. `judge` gets all objects at once, in the order
/// of their names: first as listed, then after each change.
///
/// # Errors
/// [`Error::NotInTime`] with what `judge` saw last. A failed watch begins again.
// A plain function, because `#[track_caller]` has no effect on an `async fn`.
#[track_caller]
pub fn watch_all<K, T>(
    api: Api<K>,
    which: watcher::Config,
    want: impl Into<String>,
    within: Duration,
    mut judge: impl FnMut(&[&K]) -> Seen<T>,
) -> impl Future<Output = Result<T>>
where
    K: Clone + Debug + Send + DeserializeOwned + Resource + 'static,
{
    let location = Location::caller();
    let want = want.into();
    let which = which.timeout(REQUEST_SECONDS);
    async move {
        let mut last = None;
        let watched = eventually(want.clone(), within, async || {
            let mut objects = Objects::default();
            let mut events = pin!(watcher(api.clone(), which.clone()));
            while let Some(event) = events.try_next().await.inspect_err(|error| last = Some(error.to_string()))? {
                if !objects.take(event) {
                    continue;
                }
                match judge(&objects.known.values().collect::<Vec<_>>()) {
                    Seen::Yes(seen) => return Ok(Seen::Yes(seen)),
                    Seen::NotYet(seen) => {
                        tracing::debug!(want, seen, "not yet");
                        last = Some(seen);
                    }
                }
            }
            Ok::<_, watcher::Error>(Seen::NotYet("the watch ended".into()))
        });
        match watched.await {
            // The watch itself did not end, so the wait does not know what was seen.
            Err(Error::NotInTime { want, last: unknown, attempts, elapsed, .. }) => {
                Err(Error::NotInTime { want, last: last.unwrap_or(unknown), attempts, elapsed, location })
            }
            other => other,
        }
    }
}

/// Like [`watch_all`], for the object `name`. `judge` gets `None` if the object does not exist.
///
/// # Errors
/// [`Error::NotInTime`], as for [`watch_all`].
#[track_caller]
pub fn watch_one<K, T>(
    api: Api<K>,
    name: &str,
    want: impl Into<String>,
    within: Duration,
    mut judge: impl FnMut(Option<&K>) -> Seen<T>,
) -> impl Future<Output = Result<T>>
where
    K: Clone + Debug + Send + DeserializeOwned + Resource + 'static,
{
    let which = watcher::Config::default().fields(&format!("metadata.name={name}"));
    watch_all(api, which, want, within, move |objects| judge(objects.first().copied()))
}

/// The watched objects, by namespace and name.
struct Objects<K> {
    known: BTreeMap<(Option<String>, String), K>,
    /// Whether a list of them is arriving. Until its end, `known` lacks some.
    is_listing: bool,
}

// Not derived: `K` has no default.
impl<K> Default for Objects<K> {
    fn default() -> Self {
        Self { known: BTreeMap::new(), is_listing: false }
    }
}

impl<K: Resource> Objects<K> {
    /// Takes an event. Returns whether `known` has all objects.
    fn take(&mut self, event: Event<K>) -> bool {
        let key = |object: &K| (object.namespace(), object.name_any());
        match event {
            Event::Init => {
                self.known.clear();
                self.is_listing = true;
            }
            Event::InitApply(object) | Event::Apply(object) => drop(self.known.insert(key(&object), object)),
            Event::InitDone => self.is_listing = false,
            Event::Delete(object) => drop(self.known.remove(&key(&object))),
        }
        !self.is_listing
    }
}

#[cfg(test)]
mod tests;
