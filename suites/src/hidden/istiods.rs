//! Each istiod, by itself. A proxy is connected to one of several, and knows what that one has read.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use meshproof::istio::{Configured, Registered, configured, istiods, seen_by};
use meshproof::report::Claim;
use meshproof::{Cluster, Error, Scope, Seen, Verdict, Workload, eventually};

use super::SUITE;

/// Longest time for which two istiods may differ: each reads changes from the API server by itself.
const CONVERGED: Duration = Duration::from_secs(10);

/// Red if one of several istiods does not read another cluster: see
/// [`broken::an_istiod_that_does_not_see_a_cluster_is_found_every_time`](super::broken).
async fn each_istiod_sees_every_cluster() -> Verdict {
    Scope::run(SUITE, "each_istiod_sees_every_cluster", async |scope| {
        let judge = async |cluster: &Arc<Cluster>| {
            clusters(scope, cluster).await?.into_iter().for_each(|claim| scope.claim(claim));
            Ok(())
        };
        scope.for_each(&scope.testbed.clusters, |cluster| cluster.name().to_owned(), judge).await;
        Ok(())
    })
    .await
}

/// Red if one of several istiods does not read the policies and routes that another one has read.
async fn all_istiods_of_a_cluster_have_read_the_same() -> Verdict {
    Scope::run(SUITE, "all_istiods_of_a_cluster_have_read_the_same", async |scope| {
        let judge = async |cluster: &Arc<Cluster>| {
            scope.claim(configuration(cluster).await?);
            Ok(())
        };
        scope.for_each(&scope.testbed.clusters, |cluster| cluster.name().to_owned(), judge).await;
        Ok(())
    })
    .await
}

/// The claims about the clusters that each istiod sees.
pub(super) async fn clusters(scope: &Scope, cluster: &Arc<Cluster>) -> Result<Vec<Claim>, Error> {
    let mut claims = Vec::new();
    for (number, istiod) in by_name(cluster).await?.iter().enumerate() {
        let seen = seen_by(istiod).await.map_err(Error::suite)?;
        for other in &scope.testbed.clusters {
            let id = format!("istiod/{}/replica-{}/{}", cluster.name(), number + 1, other.name());
            let status = seen.iter().find(|one| one.id == other.name()).map(|one| one.sync_status.as_str());
            let claim = Claim::about(id, "each istiod reads every cluster of the mesh")
                .from(istiod)
                .to(other.name())
                .equals(&Registered::SYNCED, &status.unwrap_or("not known to it"));
            claims.push(claim);
        }
    }
    Ok(claims)
}

/// The claim that all istiods of a cluster have read the same objects in the same versions.
async fn configuration(cluster: &Arc<Cluster>) -> Result<Claim, Error> {
    let istiods = by_name(cluster).await?;
    let want = format!("the istiods of {} to have read the same", cluster.name());
    let same = eventually(want, CONVERGED, async || {
        let read: Vec<BTreeSet<Configured>> = try_join_all(istiods.iter().map(configured)).await?;
        Ok::<_, String>(match difference(&read) {
            None => Seen::Yes(read.first().map_or(0, BTreeSet::len)),
            Some(difference) => Seen::NotYet(difference),
        })
    });
    let expected = format!("the same objects in each of {}, within {CONVERGED:?}", istiods.len());
    let claim =
        Claim::about(format!("configuration/{}", cluster.name()), "all istiods of a cluster have read the same")
            .to(cluster.name())
            .expects(expected)
            .observes(
                &same.await,
                |same| match same {
                    Ok(count) => format!("the same {count} objects in each of {}", istiods.len()),
                    Err(late) => late.to_string(),
                },
                |same| matches!(same, Ok(count) if *count > 0),
            );
    Ok(claim)
}

/// The first objects that not all have read in the same version.
fn difference(read: &[BTreeSet<Configured>]) -> Option<String> {
    let all: BTreeSet<&Configured> = read.iter().flatten().collect();
    let missing = all.into_iter().filter(|one| read.iter().any(|of_one| !of_one.contains(*one)));
    let missing: Vec<&str> = missing.map(|one| one.object.as_str()).collect();
    let some = || missing.iter().take(3).copied().collect::<Vec<_>>().join(", ");
    (!missing.is_empty()).then(|| format!("not all have read {} in the same version", some()))
}

async fn by_name(cluster: &Arc<Cluster>) -> Result<Vec<Workload>, Error> {
    let mut istiods = istiods(cluster).await?;
    istiods.sort_by(|one, other| one.pod.cmp(&other.pod));
    Ok(istiods)
}

crate::trials! {
    each_istiod_sees_every_cluster,
    all_istiods_of_a_cluster_have_read_the_same,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(objects: &[(&str, &str)]) -> BTreeSet<Configured> {
        let of = |(object, version): &(&str, &str)| Configured { object: (*object).into(), version: (*version).into() };
        objects.iter().map(of).collect()
    }

    #[test]
    fn an_object_that_one_has_not_read_or_has_in_another_version_is_named() {
        let one = read(&[("Gateway a/b", "1"), ("Sidecar a/c", "2")]);
        assert_eq!(difference(&[one.clone(), one.clone()]), None);
        let other = read(&[("Gateway a/b", "1")]);
        assert!(difference(&[one.clone(), other]).unwrap().contains("Sidecar a/c"));
        let older = read(&[("Gateway a/b", "0"), ("Sidecar a/c", "2")]);
        assert!(difference(&[one, older]).unwrap().contains("Gateway a/b"));
    }
}
