//! A Kubernetes Lease in every cluster prevents two runs from judging one mesh at once. The second run's error names
//! the holder and the start.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{Api, ObjectMeta, PostParams};

use super::{Error, Result};
use crate::cluster::{Cluster, Testbed};
use crate::host;

/// Environment variable with the holder's name in the Lease. Default: `USER@HOST:DIRECTORY`.
pub const HOLDER_VARIABLE: &str = "MESHPROOF_HOLDER";

/// Name of the Lease.
const NAME: &str = "meshproof";

/// Duration of the Lease after each renewal: longer than compiling the next suite of a run.
const LENGTH: Duration = Duration::from_secs(60);

/// Time between renewals by a running test.
const RENEWAL: Duration = Duration::from_secs(15);

/// Most attempts at a write that conflicts with another process of the same run.
const ATTEMPTS: u32 = 10;

/// Time of this process's last renewal, by the testbed's directory.
static RENEWED: LazyLock<Mutex<HashMap<PathBuf, Instant>>> = LazyLock::new(Mutex::default);

/// The Leases of a testbed.
pub(super) struct Leases<'a> {
    testbed: &'a Testbed,
    holder: String,
}

impl<'a> Leases<'a> {
    pub(super) fn of(testbed: &'a Testbed) -> Self {
        let named = std::env::var(HOLDER_VARIABLE).ok().filter(|name| !name.is_empty());
        let holder = named.unwrap_or_else(|| {
            let user = ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
            let directory = std::path::absolute(&testbed.directory).unwrap_or_else(|_| testbed.directory.clone());
            format!("{}@{}:{}", user.unwrap_or_else(|| "root".into()), host::name(), directory.display())
        });
        Self { testbed, holder }
    }

    /// Takes the Leases, or renews them if this process has not done so recently.
    ///
    /// # Errors
    /// [`Error::Held`]: another run judges a cluster of the testbed.
    pub(super) async fn take(&self) -> Result<()> {
        let lately = || {
            let renewed = RENEWED.lock().unwrap_or_else(PoisonError::into_inner);
            renewed.get(&self.testbed.directory).is_some_and(|at| at.elapsed() < RENEWAL)
        };
        if lately() {
            return Ok(());
        }
        let began = Instant::now();
        try_join_all(self.testbed.clusters.iter().map(|cluster| self.take_one(cluster))).await?;
        RENEWED.lock().unwrap_or_else(PoisonError::into_inner).insert(self.testbed.directory.clone(), began);
        Ok(())
    }

    /// Renews the Leases until this future is dropped. Retries if an API server does not answer: a test may have paused
    /// it.
    ///
    /// # Errors
    /// [`Error::Held`]: another run has taken over a Lease.
    pub(super) async fn keep(&self) -> Error {
        let mut ticks = tokio::time::interval(RENEWAL);
        loop {
            ticks.tick().await;
            if let Err(error @ Error::Held { .. }) = self.take().await {
                return error;
            }
        }
    }

    async fn take_one(&self, cluster: &Arc<Cluster>) -> Result<()> {
        let Some(namespace) = &cluster.record().lease_namespace else { return Ok(()) };
        let leases: Api<Lease> = cluster.api(namespace);
        let mut attempts = 1;
        loop {
            let found = leases.get_opt(NAME).await;
            let found = found.map_err(cluster.failed(format!("read Lease {namespace}/{NAME}")))?;
            let lease = match next(found, &self.holder, Timestamp::now()) {
                Ok(lease) => lease,
                Err(Other { holder, since, until }) => {
                    let lease = format!("{namespace}/{NAME}");
                    return Err(Error::Held { cluster: cluster.name().into(), holder, since, until, lease });
                }
            };
            let written = match lease.metadata.resource_version {
                None => leases.create(&PostParams::default(), &lease).await,
                Some(_) => leases.replace(NAME, &PostParams::default(), &lease).await,
            };
            match written {
                Ok(_) => return Ok(()),
                Err(kube::Error::Api(status)) if status.code == 409 && attempts < ATTEMPTS => attempts += 1,
                Err(error) => return Err(cluster.failed(format!("take Lease {namespace}/{NAME}"))(error).into()),
            }
        }
    }
}

/// Another holder of a Lease.
#[derive(Debug, PartialEq, Eq)]
struct Other {
    holder: String,
    since: String,
    until: String,
}

/// The Lease that `holder` writes at `now`: new, renewed, or taken over after its expiry.
fn next(found: Option<Lease>, holder: &str, now: Timestamp) -> Result<Lease, Other> {
    let lease = found.unwrap_or_default();
    let spec = lease.spec.unwrap_or_default();
    let is_ours = spec.holder_identity.as_deref() == Some(holder);
    let until = expiry(&spec).filter(|until| *until > now);
    if let (Some(until), false) = (until, is_ours) {
        let since = spec.acquire_time.map_or_else(|| "an unknown time".into(), |MicroTime(time)| readable(time));
        return Err(Other { holder: spec.holder_identity.unwrap_or_default(), since, until: readable(until) });
    }
    let goes_on = is_ours && until.is_some();
    let transitions = spec.lease_transitions.unwrap_or_default() + i32::from(!is_ours);
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
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    #[test]
    fn the_second_person_is_told_who_holds_the_lease_and_since_when() {
        let first = next(None, "alice@laptop", at(0)).unwrap();
        let renewed = next(Some(first), "alice@laptop", at(50)).unwrap();
        let other = next(Some(renewed), "bob@laptop", at(60)).unwrap_err();
        let (since, until) = ("2027-01-15 08:00:00 UTC".into(), "2027-01-15 08:01:50 UTC".into());
        assert_eq!(other, Other { holder: "alice@laptop".into(), since, until });
    }

    #[test]
    fn a_lease_that_has_run_out_is_taken_over() {
        let first = next(None, "alice@laptop", at(0)).unwrap();
        let spec = next(Some(first), "bob@laptop", at(61)).unwrap().spec.unwrap();
        assert_eq!(spec.holder_identity.as_deref(), Some("bob@laptop"));
        assert_eq!((spec.acquire_time, spec.lease_transitions), (Some(MicroTime(at(61))), Some(2)));
    }

    #[test]
    fn a_run_that_begins_after_its_own_lease_has_run_out_counts_from_then() {
        let first = next(None, "alice@laptop", at(0)).unwrap();
        let spec = next(Some(first), "alice@laptop", at(500)).unwrap().spec.unwrap();
        assert_eq!((spec.acquire_time, spec.lease_transitions), (Some(MicroTime(at(500))), Some(1)));
    }
}
