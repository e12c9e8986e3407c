//! What was read last: the red claims of a run mostly have one cause, and it need not be read again for each test.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::case::Facts;
use super::facts::Questions;
use crate::report::Place;

/// Age limit of what was read.
const FRESH: Duration = Duration::from_secs(20);

/// What was read of a mesh.
pub(super) struct Read {
    /// Directory of the testbed.
    pub(super) testbed: PathBuf,
    pub(super) at: Instant,
    /// The namespaces, by cluster.
    pub(super) namespaces: BTreeMap<String, BTreeSet<String>>,
    pub(super) facts: Facts,
}

static LAST: Mutex<Option<Arc<Read>>> = Mutex::new(None);

/// Forgets what was read: something is changed.
pub(crate) fn forget() {
    *LAST.lock().unwrap_or_else(PoisonError::into_inner) = None;
}

/// Keeps what was read.
pub(super) fn keep(read: &Arc<Read>) {
    *LAST.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(read));
}

/// What was read of the testbed a moment ago.
pub(super) fn fresh(testbed: &Path) -> Option<Arc<Read>> {
    let last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    last.clone().filter(|read| read.testbed == testbed && read.at.elapsed() < FRESH)
}

impl Read {
    /// Whether all these namespaces were read, and these pods found.
    pub(super) fn covers(&self, namespaces: &BTreeMap<String, BTreeSet<String>>, pods: &[&Place]) -> bool {
        let has = |place: &&Place| self.facts.clusters.get(&place.cluster).is_some_and(|of| of.pod(place).is_some());
        let read = |(cluster, wanted): (&String, &BTreeSet<String>)| {
            self.namespaces.get(cluster).is_some_and(|read| read.is_superset(wanted))
        };
        namespaces.iter().all(read) && pods.iter().all(has)
    }

    /// Whether all these questions were asked.
    pub(super) fn answers(&self, questions: &BTreeMap<Place, Questions>) -> bool {
        questions.iter().all(|(place, questions)| {
            let proxy = self.facts.proxies.get(place);
            proxy.is_some_and(|proxy| questions.calls.iter().all(|call| proxy.upstreams.contains_key(call)))
        })
    }
}
