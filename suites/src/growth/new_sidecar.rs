//! What a new sidecar costs: what istiod sends to it, how long istiod needs, and the memory that Envoy allocates for it.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::DeleteParams;
use meshproof::istio::Pushes;
use meshproof::judge::growth::{Growth, Point};
use meshproof::record::{Requirement, Write};
use meshproof::scope::{deploy_probe, removals_done};
use meshproof::{Cluster, Error, Scope, Seen, Verdict, Workload, eventually, probe};
use serde::Deserialize;
use serde_json::Value;

use super::bounds::growth;
use super::{REPEATS, SUITE, judge};

/// Longest wait until istiod has nothing left to push, and until a probe's pods are gone.
const QUIET: Duration = Duration::from_secs(60);

/// A namespace of a test's own.
#[derive(Debug, Clone, Copy)]
struct Place<'a> {
    cluster: &'a Arc<Cluster>,
    namespace: &'a str,
}

/// Points of the three figures.
#[derive(Debug, Default)]
struct Costs {
    configuration: Vec<Point>,
    push: Vec<Point>,
    memory: Vec<Point>,
}

impl Costs {
    /// Makes `objects` in `namespace`, so that there are `size` in all, and measures new sidecars there. `lacks` tells
    /// what a sidecar does not know of them.
    async fn measure(
        &mut self,
        scope: &Scope,
        place: Place<'_>,
        size: u32,
        objects: Vec<Value>,
        lacks: impl AsyncFn(&Workload) -> Result<Option<String>, Error>,
    ) -> Result<(), Error> {
        let Place { cluster, namespace } = place;
        scope.apply_all(cluster, objects).await?;
        // The first sidecar is not measured: istiod may still read the objects, and tells all proxies of its service.
        let first = deploy_probe(scope, cluster, namespace).await?;
        let want = format!("a sidecar in {namespace} of {} to know all {size}", cluster.name());
        let known = eventually(want, QUIET, async || {
            Ok::<_, Error>(lacks(&first).await?.map_or(Seen::Yes(()), |missing| Seen::NotYet(format!("not {missing}"))))
        });
        known.await?;
        remove(place).await?;
        for _ in 0..REPEATS {
            let before = quiet(cluster).await?;
            let workload = deploy_probe(scope, cluster, namespace).await?;
            let pushed = quiet(cluster).await?.since(before);
            if let Some(missing) = lacks(&workload).await? {
                return Err(Error::suite(format!("the sidecar does not know {missing}, so nothing grew")));
            }
            let memory = allocated(&workload).await?;
            for (points, value) in [
                (&mut self.configuration, pushed.bytes),
                (&mut self.push, pushed.seconds * 1e6),
                (&mut self.memory, memory),
            ] {
                points.push(Point { size, value });
            }
            remove(place).await?;
        }
        Ok(())
    }

    /// The growths of the three figures with the bounds of `per`.
    fn growths(self, per: &str) -> Result<Vec<Growth>, Error> {
        let Self { configuration, push, memory } = self;
        Ok(vec![
            growth(&format!("{per}-configuration"), per, "what istiod sends for a new sidecar", configuration)?,
            growth(&format!("{per}-push"), per, "istiod's time to send it", push)?,
            growth(&format!("{per}-memory"), per, "memory of the sidecar's Envoy", memory)?,
        ])
    }
}

/// Judges what one more of `per` costs. `objects` makes those with these numbers in a namespace, and `lacks` tells what a
/// sidecar does not know of so many: the control.
pub(super) async fn costs_little(
    per: &'static str,
    sizes: [u32; 3],
    objects: impl Fn(&str, Range<u32>) -> Vec<Value>,
    lacks: impl AsyncFn(&Workload, u32) -> Result<Option<String>, Error>,
) -> Verdict {
    Scope::alone(SUITE, per, async |scope| {
        scope.requires([Requirement::Probes, Requirement::Write(Write::Namespaces)])?;
        removals_done(&scope.testbed).await?;
        let cluster = &scope.testbed.clusters[0];
        let namespace = scope.injected_namespace(cluster, per).await?;
        let place = Place { cluster, namespace: &namespace };
        let (mut costs, mut made) = (Costs::default(), 0);
        for size in sizes {
            let more = objects(&namespace, made..size);
            made = size;
            costs.measure(scope, place, size, more, async |workload| lacks(workload, size).await).await?;
        }
        judge(scope, costs.growths(per)?)
    })
    .await
}

/// Waits until istiod has pushed everything: what it pushed so far.
async fn quiet(cluster: &Arc<Cluster>) -> Result<Pushes, Error> {
    let mut last = Pushes::read(cluster).await.map_err(Error::suite)?;
    let settled = eventually(format!("istiod of {} to have nothing left to push", cluster.name()), QUIET, async || {
        // As long as istiod may wait for further changes, several times over.
        #[allow(clippy::disallowed_methods, reason = "that nothing happens is what is to be seen")]
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = Pushes::read(cluster).await.map_err(Error::suite)?;
        let pushed = now.since(std::mem::replace(&mut last, now)).count;
        Ok::<_, Error>(if pushed == 0.0 {
            Seen::Yes(now)
        } else {
            Seen::NotYet(format!("{pushed} pushes in a second"))
        })
    });
    Ok(settled.await?)
}

/// Memory that Envoy has allocated, in bytes.
pub(super) async fn allocated(workload: &Workload) -> Result<f64, Error> {
    #[derive(Deserialize)]
    struct Memory {
        allocated: String,
    }
    let answer = workload.proxy_admin("memory").await?;
    let memory: Memory = serde_json::from_str(&answer).map_err(Error::suite)?;
    memory.allocated.parse().map_err(Error::suite)
}

/// Removes the probe of `namespace`, and waits until its pods are gone.
async fn remove(Place { cluster, namespace }: Place<'_>) -> Result<(), Error> {
    let model = &probe::declared(cluster)?.meshed;
    let removed = cluster.api::<Deployment>(namespace).delete(&model.deployment, &DeleteParams::background()).await;
    removed.map_err(cluster.failed(format!("remove deployment {namespace}/{}", model.deployment)))?;
    Ok(cluster.no_pods(namespace, &model.selector, QUIET).await?)
}
