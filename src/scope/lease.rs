//! A Kubernetes Lease in every cluster prevents two runs from judging one mesh at once. The second run's error names
//! the holder and the start.

use std::collections::HashMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::try_join_all;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{Api, ListParams, ObjectMeta, PostParams};
use kube::{Client, ResourceExt};
use tokio::time::Instant;

use super::leftovers::nobody_tests;
use super::{Error, Result};
use crate::cluster::{self, Cluster, Testbed};
use crate::host;
use crate::probe::PROBES_LABEL;

/// Environment variable with the holder's name in the Lease. Default: `USER@HOST:DIRECTORY`.
pub const HOLDER_VARIABLE: &str = "MESHPROOF_HOLDER";

/// Name of the Lease.
pub const NAME: &str = "meshproof";

/// Duration of the Lease after each renewal: longer than compiling the next suite of a run.
const LENGTH: Duration = Duration::from_secs(60);

/// Time between renewals by a running test.
const RENEWAL: Duration = Duration::from_secs(15);

/// Most attempts at a write that conflicts with another process of the same run.
const ATTEMPTS: u32 = 10;

/// This process's last writes, by the testbed's directory and the cluster's name.
static WRITTEN: LazyLock<Mutex<HashMap<(PathBuf, String), Written>>> = LazyLock::new(Mutex::default);

/// What this process last wrote into a Lease.
#[derive(Debug, Clone, Copy)]
struct Written {
    at: Timestamp,
    /// The same time, by a clock that nobody sets.
    instant: Instant,
    /// `leaseTransitions`: grows with every change of the holder.
    term: i32,
}

/// The Leases of a testbed.
pub(super) struct Leases<'a> {
    testbed: &'a Testbed,
    holder: String,
}

/// A cluster's Lease, as this run took it.
pub(super) struct Term<'a> {
    cluster: &'a Arc<Cluster>,
    namespace: &'a str,
    number: i32,
}

impl<'a> Leases<'a> {
    pub(super) fn of(testbed: &'a Testbed) -> Self {
        Self { testbed, holder: holder(&testbed.directory) }
    }

    /// Takes the Leases, or renews them if this process has not done so recently.
    ///
    /// # Errors
    /// [`Error::Held`]: another run judges a cluster of the testbed.
    pub(super) async fn take(&self) -> Result<Vec<Term<'a>>> {
        let leased = self.testbed.clusters.iter().filter_map(|cluster| {
            let namespace = cluster.record().lease_namespace.as_deref()?;
            Some(self.take_one(cluster, namespace))
        });
        try_join_all(leased).await
    }

    async fn take_one(&self, cluster: &'a Arc<Cluster>, namespace: &'a str) -> Result<Term<'a>> {
        let taken = |found, now| next(found, &self.holder, now).map_err(|other| other.holds(cluster.name(), namespace));
        let number = match self.written_within(RENEWAL, cluster) {
            Some(number) => number,
            None => self.write(cluster, namespace, taken).await?,
        };
        Ok(Term { cluster, namespace, number })
    }

    /// Renews the Leases until this future is dropped. Retries if an API server does not answer: a test may have paused
    /// it. Each Lease is renewed on its own, so that such a server does not delay the others.
    ///
    /// # Errors
    /// [`Error::Lost`]: a Lease was taken over.
    pub(super) async fn keep(&self, terms: &[Term<'a>]) -> Error {
        match try_join_all(terms.iter().map(|term| self.keep_one(term))).await {
            Err(error) => error,
            // There is no Lease to keep.
            Ok(_) => std::future::pending().await,
        }
    }

    async fn keep_one(&self, term: &Term<'a>) -> Result<Infallible> {
        let mut ticks = tokio::time::interval(RENEWAL);
        loop {
            ticks.tick().await;
            let is_recent = self.written_within(RENEWAL, term.cluster) == Some(term.number);
            if !is_recent && let Err(error @ Error::Lost { .. }) = self.renew(term).await {
                return Err(error);
            }
        }
    }

    /// Checks that the Leases did not run out unnoticed, for example while this process was stopped.
    ///
    /// # Errors
    /// [`Error::Lost`]: a Lease was taken over. [`Error::Cluster`]: a Lease has run out and cannot be read.
    pub(super) async fn confirm(&self, terms: &[Term<'a>]) -> Result<()> {
        let doubtful = terms.iter().filter(|term| self.written_within(LENGTH, term.cluster) != Some(term.number));
        try_join_all(doubtful.map(|term| self.renew(term))).await.map(drop)
    }

    async fn renew(&self, term: &Term<'a>) -> Result<()> {
        let Term { cluster, namespace, number } = *term;
        let renewed = |found, now| {
            renewal(found, &self.holder, number, now).map_err(|Lost { found }| Error::Lost {
                cluster: cluster.name().into(),
                lease: format!("{namespace}/{NAME}"),
                found,
            })
        };
        self.write(cluster, namespace, renewed).await.map(drop)
    }

    /// Writes what `decide` makes of the Lease in the cluster. Returns the number of the Lease's term.
    async fn write(
        &self,
        cluster: &Cluster,
        namespace: &str,
        decide: impl Fn(Option<Lease>, Timestamp) -> Result<Lease>,
    ) -> Result<i32> {
        let leases: Api<Lease> = cluster.api(namespace);
        let mut attempts = 1;
        loop {
            let found = leases.get_opt(NAME).await;
            let found = found.map_err(cluster.failed(format!("read Lease {namespace}/{NAME}")))?;
            let (at, instant) = (Timestamp::now(), Instant::now());
            let lease = decide(found, at)?;
            let written = match lease.metadata.resource_version {
                None => leases.create(&PostParams::default(), &lease).await,
                Some(_) => leases.replace(NAME, &PostParams::default(), &lease).await,
            };
            match written {
                Ok(_) => {
                    let term = term_of(lease.spec.as_ref());
                    self.lock().insert(self.key(cluster), Written { at, instant, term });
                    return Ok(term);
                }
                Err(kube::Error::Api(status)) if status.code == 409 && attempts < ATTEMPTS => attempts += 1,
                Err(error) => return Err(cluster.failed(format!("take Lease {namespace}/{NAME}"))(error).into()),
            }
        }
    }

    /// The term of the cluster's Lease, if this process wrote the Lease within `limit`. Reads the wall clock too, as
    /// other runs do: the Lease also runs out while the machine sleeps.
    fn written_within(&self, limit: Duration, cluster: &Cluster) -> Option<i32> {
        let Written { at, instant, term } = *self.lock().get(&self.key(cluster))?;
        let age = Duration::try_from(Timestamp::now().duration_since(at)).ok()?;
        (age < limit && instant.elapsed() < limit).then_some(term)
    }

    fn key(&self, cluster: &Cluster) -> (PathBuf, String) {
        (self.testbed.directory.clone(), cluster.name().to_owned())
    }

    fn lock(&self) -> MutexGuard<'static, HashMap<(PathBuf, String), Written>> {
        WRITTEN.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The name of this run in a Lease.
pub(super) fn holder(directory: &Path) -> String {
    let named = std::env::var(HOLDER_VARIABLE).ok().filter(|name| !name.is_empty());
    named.unwrap_or_else(|| {
        let user = ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
        let directory = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
        format!("{}@{}:{}", user.unwrap_or_else(|| "root".into()), host::name(), directory.display())
    })
}

/// Checks that no run judges the mesh: that no Lease in a namespace of ours is held. A Lease of a run on the testbed in
/// `directory` counts only while a test runs.
///
/// # Errors
/// [`Error::Held`]. [`Error::Cluster`]: the Leases cannot be read.
pub async fn idle(client: &Client, cluster: &str, directory: &Path) -> Result<()> {
    let ours = ListParams::default().labels(PROBES_LABEL);
    let namespaces = Api::<Namespace>::all(client.clone()).list_metadata(&ours).await;
    for namespace in namespaces.map_err(failed(cluster, "list namespaces".into()))?.items {
        let name = namespace.name_any();
        let Some(lease) = found(client, cluster, &name).await? else { continue };
        // While a test of this run goes on, the Lease counts as well.
        if !(is_of(&lease, directory) && nobody_tests(directory)) {
            is_free(lease, cluster, &name)?;
        }
    }
    Ok(())
}

/// Checks that no other run than that on the testbed in `directory` holds the Lease in a namespace.
///
/// # Errors
/// The errors of [`idle()`].
pub(super) async fn no_other(client: &Client, cluster: &str, namespace: &str, directory: &Path) -> Result<()> {
    let lease = found(client, cluster, namespace).await?.filter(|lease| !is_of(lease, directory));
    lease.map_or(Ok(()), |lease| is_free(lease, cluster, namespace))
}

/// Gives up the Lease in a namespace, if the run on the testbed in `directory` has it: for a run that is over, and that
/// nobody goes on with.
///
/// # Errors
/// [`Error::Cluster`]: the Lease cannot be read or written.
pub async fn release(client: &Client, cluster: &str, namespace: &str, directory: &Path) -> Result<()> {
    let Some(lease) = found(client, cluster, namespace).await?.filter(|lease| is_of(lease, directory)) else {
        return Ok(());
    };
    let spec = lease.spec.map(|spec| LeaseSpec { holder_identity: None, ..spec });
    let released = Lease { spec, ..lease };
    let leases = Api::<Lease>::namespaced(client.clone(), namespace);
    let replaced = leases.replace(NAME, &PostParams::default(), &released).await;
    replaced.map(drop).map_err(failed(cluster, format!("give up Lease {namespace}/{NAME}")))
}

async fn found(client: &Client, cluster: &str, namespace: &str) -> Result<Option<Lease>> {
    let found = Api::<Lease>::namespaced(client.clone(), namespace).get_opt(NAME).await;
    found.map_err(failed(cluster, format!("read Lease {namespace}/{NAME}")))
}

/// Whether the run on the testbed in `directory` has the Lease.
fn is_of(lease: &Lease, directory: &Path) -> bool {
    lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_ref()) == Some(&holder(directory))
}

/// Checks that nobody holds the Lease, by whatever name.
fn is_free(lease: Lease, cluster: &str, namespace: &str) -> Result<()> {
    next(Some(lease), "nobody", Timestamp::now()).map_err(|other| other.holds(cluster, namespace)).map(drop)
}

fn failed(cluster: &str, doing: String) -> impl FnOnce(kube::Error) -> Error {
    move |source| Error::Cluster(cluster::Error::Api { cluster: cluster.into(), doing, source: Box::new(source) })
}

/// Another holder of a Lease.
#[derive(Debug, PartialEq, Eq)]
struct Other {
    holder: String,
    since: String,
    until: String,
}

impl Other {
    fn holds(self, cluster: &str, namespace: &str) -> Error {
        let Self { holder, since, until } = self;
        Error::Held { cluster: cluster.into(), holder, since, until, lease: format!("{namespace}/{NAME}") }
    }
}

/// What a run found in place of the Lease that it had taken.
#[derive(Debug, PartialEq, Eq)]
struct Lost {
    found: String,
}

/// The Lease that `holder` writes at `now` to go on with term number `term`, also after the Lease's expiry: while the
/// term is the same, no other run has held the Lease.
fn renewal(found: Option<Lease>, holder: &str, term: i32, now: Timestamp) -> Result<Lease, Lost> {
    let lost = |found: String| Err(Lost { found });
    let Some(lease) = found else { return lost("it is gone".into()) };
    let spec = lease.spec.unwrap_or_default();
    match spec.holder_identity.as_deref() {
        Some(other) if other != holder => lost(format!("{other} has held it since {}", since(&spec))),
        None => lost("it has no holder".into()),
        Some(_) if term_of(Some(&spec)) != term => {
            lost(format!("this run has held it again since {}, after another run", since(&spec)))
        }
        Some(_) => {
            let spec = LeaseSpec { renew_time: Some(MicroTime(now)), ..spec };
            Ok(Lease { spec: Some(spec), ..lease })
        }
    }
}

/// The number of the Lease's term.
fn term_of(spec: Option<&LeaseSpec>) -> i32 {
    spec.and_then(|spec| spec.lease_transitions).unwrap_or_default()
}

fn since(spec: &LeaseSpec) -> String {
    spec.acquire_time.as_ref().map_or_else(|| "an unknown time".into(), |MicroTime(time)| readable(*time))
}

/// The Lease that `holder` writes at `now`: new, renewed, or taken over after its expiry.
fn next(found: Option<Lease>, holder: &str, now: Timestamp) -> Result<Lease, Other> {
    let lease = found.unwrap_or_default();
    let spec = lease.spec.unwrap_or_default();
    let is_ours = spec.holder_identity.as_deref() == Some(holder);
    let until = expiry(&spec).filter(|until| *until > now);
    if let (Some(until), false) = (until, is_ours) {
        let since = since(&spec);
        return Err(Other { holder: spec.holder_identity.unwrap_or_default(), since, until: readable(until) });
    }
    let goes_on = is_ours && until.is_some();
    let transitions = term_of(Some(&spec)) + i32::from(!is_ours);
    Ok(Lease {
        metadata: ObjectMeta { name: Some(NAME.into()), ..lease.metadata },
        spec: Some(LeaseSpec {
            holder_identity: Some(holder.into()),
            lease_duration_seconds: i32::try_from(LENGTH.as_secs()).ok(),
            acquire_time: spec.acquire_time.filter(|_| goes_on).or(Some(MicroTime(now))),
            renew_time: Some(MicroTime(now)),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }),
    })
}

/// When a Lease expires. `None` if the Lease has no holder.
fn expiry(spec: &LeaseSpec) -> Option<Timestamp> {
    let length = SignedDuration::from_secs(spec.lease_duration_seconds?.into());
    spec.holder_identity.as_ref().filter(|holder| !holder.is_empty())?;
    spec.renew_time.as_ref()?.0.checked_add(length).ok()
}

fn readable(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

#[cfg(test)]
mod tests;
