//! Asks every port, and tells what each one is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use futures::future::try_join_all;
use futures::stream::{self, StreamExt};
use k8s_openapi::api::core::v1::Pod as PodObject;
use kube::ResourceExt;
use meshproof_probe::{Dial, DialReport, Outcome};

use super::cell::{Cell, Standing};
use super::dials::{self, Credentials, PER_PORT, Reports};
use super::expected::{Basis, Expectations, Expected, Found, Place, Unused};
use super::explain::explain;
use super::inventory::Inventory;
use super::kind::{self, Kind, Wire};
use super::outcome::{Audit, LeftOut};
use super::pace::{Pace, Rates, Sharing};
use super::pod::{Pod, PortKey};
use super::services::services;
use super::targets::{self, Target};
use super::{Error, Result};
use crate::cluster::{Cluster, Testbed, Workload};
use crate::identity::Trust;
use crate::istio::issue;
use crate::probe::{self, Vantage};
use crate::scope::claims;

/// Pods that are looked at again at the same time.
const LOOKS: usize = 8;

/// What to audit, and how.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Namespaces. All if there are none.
    pub namespaces: Vec<String>,
    /// Whether to ask the pods of Kubernetes and Istio as well. Nothing is expected of them.
    pub system: bool,
    /// Most connections a second.
    pub rates: Rates,
    /// What is expected.
    pub basis: Basis,
    /// Exceptions.
    pub expectations: Expectations,
}

/// What all vantages share.
struct Shared<'a, F> {
    testbed: &'a Testbed,
    options: &'a Options,
    vantages: usize,
    started: Instant,
    found: Mutex<F>,
}

/// Audits a mesh. `found` is called for each port as soon as it is judged.
///
/// # Errors
/// [`Error`]: nothing could be judged. What is found is never an error.
pub async fn audit(testbed: &Testbed, options: &Options, found: impl FnMut(&Cell)) -> Result<Audit> {
    // Boxed, because a test's thread has a small stack, and these futures are large.
    let reading = testbed.clusters.iter().map(|cluster| Box::pin(Inventory::read(cluster, &options.namespaces)));
    let inventories = try_join_all(reading).await?;
    for name in &options.namespaces {
        if !inventories.iter().any(|inventory| inventory.namespaces.contains_key(name)) {
            return Err(Error::NoNamespace { name: name.clone() });
        }
    }
    let asking = testbed.clusters.iter().map(|cluster| (cluster, all_targets(cluster, &inventories, options.system)));
    let asking: Vec<(&Arc<Cluster>, Vec<Target<'_>>)> = asking.filter(|(_, targets)| !targets.is_empty()).collect();
    let vantages = asking.len();
    let shared = Shared { testbed, options, vantages, started: Instant::now(), found: Mutex::new(found) };
    let mut cells: Vec<Cell> = inventories.iter().flat_map(|inventory| unasked(&shared, inventory)).collect();
    if asking.is_empty() && cells.is_empty() {
        let what = if options.namespaces.is_empty() { "the mesh".into() } else { options.namespaces.join(", ") };
        return Err(Error::NothingToJudge { what });
    }
    cells.iter().for_each(|cell| shared.announce(cell));
    let asked = asking.into_iter().map(|(cluster, targets)| Box::pin(shared.from(cluster, targets)));
    let asked = try_join_all(asked).await?;
    cells.extend(asked.into_iter().flatten());
    let services = Box::pin(services(testbed, &inventories, options.rates)).await?;
    cells.sort_by(|one, other| one.place().cmp(&other.place()));
    let left_out = inventories.iter().flat_map(|inventory| left_out(inventory, options.system)).collect();
    let expired = options.expectations.allowed.iter().filter(|one| one.is_expired(SystemTime::now()));
    let without_ports = inventories.iter().flat_map(|inventory| &inventory.pods);
    let without_ports = without_ports.filter(|pod| pod.ports.is_empty() && pod.absent.is_none()).count();
    Ok(Audit {
        cells,
        services,
        left_out,
        expired: expired.cloned().collect(),
        unused: unused(options, &inventories),
        without_ports,
        rates: options.rates,
        took: shared.started.elapsed(),
    })
}

/// The exceptions that match no port of these clusters.
fn unused(options: &Options, inventories: &[Inventory]) -> Vec<Unused> {
    let ports = inventories.iter().flat_map(|inventory| {
        inventory.pods.iter().flat_map(move |pod| {
            let port = move |key: &PortKey| Found { cluster: inventory.cluster.name(), pod, port: key.number };
            pod.ports.keys().map(port)
        })
    });
    options.expectations.unused(&options.namespaces, &ports.collect::<Vec<_>>(), SystemTime::now())
}

/// The ports that can be dialled from a cluster, in all clusters of its network.
fn all_targets<'a>(from: &Cluster, inventories: &'a [Inventory], system: bool) -> Vec<Target<'a>> {
    let routed = inventories.iter().filter(|inventory| targets::routed(from, &inventory.cluster));
    // The numbers of pods are unique among the clusters.
    let mut first = 0;
    let mut all = Vec::new();
    for inventory in routed {
        let of_cluster = targets::targets(inventory, system).into_iter();
        all.extend(of_cluster.map(|target| Target { index: target.index + first, ..target }));
        first += inventory.pods.len();
    }
    all
}

/// The ports that are not asked, each with its reason.
fn unasked<F: FnMut(&Cell)>(shared: &Shared<'_, F>, inventory: &Inventory) -> Vec<Cell> {
    let mut cells = Vec::new();
    let system = shared.options.system;
    for pod in inventory.pods.iter().filter(|pod| system || !inventory.is_system(&pod.namespace)) {
        for (key, port) in &pod.ports {
            let Some(kind) = targets::not_asked(inventory, pod, *key, port, system) else { continue };
            let target = Target { inventory, pod, index: 0, key: *key, port, address: "", versions: false };
            cells.push(shared.cell(inventory.cluster.name(), &target, Wire::not_judged(kind), Vec::new()));
        }
    }
    cells
}

/// The pods that were left out, by namespace.
fn left_out(inventory: &Inventory, system: bool) -> Vec<LeftOut> {
    let mut pods: BTreeMap<&str, usize> = BTreeMap::new();
    for pod in inventory.pods.iter().filter(|pod| !system && inventory.is_system(&pod.namespace)) {
        *pods.entry(&pod.namespace).or_default() += 1;
    }
    let cluster = inventory.cluster.name();
    let left_out =
        |(namespace, pods): (&str, usize)| LeftOut { cluster: cluster.into(), namespace: namespace.into(), pods };
    pods.into_iter().map(left_out).collect()
}

impl<F: FnMut(&Cell)> Shared<'_, F> {
    fn announce(&self, cell: &Cell) {
        (self.found.lock().unwrap_or_else(PoisonError::into_inner))(cell);
    }

    /// Asks ports from the naked probe of a cluster.
    async fn from(&self, cluster: &Arc<Cluster>, targets: Vec<Target<'_>>) -> Result<Vec<Cell>> {
        let naked = probe::naked(cluster).await?;
        let certificate = issue(self.testbed, &naked).await?;
        let id = naked.spiffe_id(self.testbed.trust.domain());
        let credentials = Credentials::new(certificate, &id)?;
        let vantage = Vantage::Naked(naked);
        let clusters = self.testbed.clusters.iter();
        let one_pod = clusters.filter(|other| targets::routed(other, cluster)).count();
        let (rates, sharing) = (self.options.rates, Sharing { all: self.vantages, one_pod });
        let mut pace = Pace::new(rates, sharing);
        let mut cells = Vec::with_capacity(targets.len());
        for batch in targets::batches(&targets, rates, sharing) {
            let answers = self.dial(&vantage, batch, &credentials, &mut pace).await?;
            let judged = batch.iter().zip(answers).map(|(target, reports)| self.judge(cluster, target, reports));
            let mut judged: Vec<Cell> = judged.collect();
            look_again(batch, &mut judged).await;
            judged.iter().for_each(|cell| self.announce(cell));
            cells.extend(judged);
        }
        Ok(cells)
    }

    /// Makes the connections to some ports, and returns the reports of each port.
    async fn dial(
        &self,
        vantage: &Vantage,
        batch: &[Target<'_>],
        credentials: &Credentials,
        pace: &mut Pace,
    ) -> Result<Vec<Vec<DialReport>>> {
        let of_target = |(at, target): (usize, &Target<'_>)| {
            let (id, place) = (at.to_string(), target.place());
            let hellos = target.versions.then(|| dials::hellos(&id, &place));
            dials::dials(&id, &place, credentials).into_iter().chain(hellos.into_iter().flatten()).collect()
        };
        let all: Vec<Vec<Dial>> = batch.iter().enumerate().map(of_target).collect();
        let most = all.iter().map(Vec::len).max().unwrap_or(0);
        let now = self.started.elapsed();
        let (mut order, mut due) = (Vec::new(), Vec::new());
        // The first connection of every port, then the second: connections to different pods alternate.
        for nth in 0..most {
            for (at, (target, dials)) in batch.iter().zip(&all).enumerate() {
                let Some(dial) = dials.get(nth) else { continue };
                let wait = pace.due(target.index, now).saturating_sub(now);
                let not_before_ms = Some(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
                order.push(at);
                due.push(Dial { not_before_ms, ..dial.clone() });
            }
        }
        drop(all);
        let mut reports: Vec<Vec<DialReport>> = batch.iter().map(|_| Vec::new()).collect();
        for (at, exchange) in order.into_iter().zip(vantage.dial(due).await?) {
            reports[at].push(exchange.report);
        }
        Ok(reports)
    }

    fn judge(&self, from: &Arc<Cluster>, target: &Target<'_>, mut reports: Vec<DialReport>) -> Cell {
        let hellos = reports.split_off(reports.len().min(PER_PORT));
        let wire = match Reports::of(reports) {
            Some(reports) => self.wire(target, &reports),
            None => Wire::not_judged(Kind::Inconclusive { why: "the probe did not report on all of it".into() }),
        };
        let mut cell = self.cell(from.name(), target, wire, Vec::new());
        if cell.wire.served.is_some() {
            versions(&hellos, &mut cell);
        }
        cell
    }

    fn wire(&self, target: &Target<'_>, reports: &Reports) -> Wire {
        let trust = &self.testbed.trust;
        let mut wire = kind::tell(reports, trust, SystemTime::now());
        // Servers of HTTP/2 send their settings unasked. Nobody waits for these.
        wire.server_first &= !target.port.is_http2();
        if let Some(served) = &wire.served {
            let workload = workload(target.inventory, target.pod, target.address);
            let id = workload.spiffe_id(Trust::domain(trust));
            if let Err(fault) = claims::proven(trust, Ok(served.clone()), &id, &workload) {
                wire.faults.push(format!("the served identity is wrong: {fault}"));
            }
        }
        wire
    }

    fn cell(&self, from: &str, target: &Target<'_>, wire: Wire, versions: Vec<&'static str>) -> Cell {
        let Target { inventory, pod, key, port, address, .. } = *target;
        let numbers: BTreeSet<u16> = pod.ports.keys().map(|key| key.number).collect();
        let effective = inventory.policies.effective(&pod.namespace, &pod.labels, key.number, &numbers);
        let system = inventory.is_system(&pod.namespace);
        let place = Place { cluster: inventory.cluster.name(), pod, port: key.number, system };
        let Options { basis, expectations, .. } = self.options;
        let expected = Expected::of(place, *basis, effective.as_ref(), expectations, SystemTime::now());
        Cell {
            cluster: inventory.cluster.name().into(),
            vantage: from.into(),
            namespace: pod.namespace.as_str().into(),
            workload: pod.owner.clone(),
            pod: pod.name.clone(),
            address: (pod.addresses.len() > 1 && !address.is_empty()).then(|| address.to_owned()),
            port: key,
            services: port.services.iter().cloned().collect(),
            why: explain(inventory, pod, key, &wire.kind, effective.as_ref()),
            wire,
            versions,
            expected,
        }
    }
}

/// A pod as the workload whose identity it should prove.
fn workload(inventory: &Inventory, pod: &Pod, address: &str) -> Workload {
    Workload {
        cluster: Arc::clone(&inventory.cluster),
        namespace: pod.namespace.clone(),
        pod: pod.name.clone(),
        address: address.into(),
        service_account: pod.service_account.clone(),
        node: pod.node.clone(),
    }
}

/// The TLS versions that a proxy takes, by its answers to the hellos and by the handshake that was made.
fn versions(hellos: &[DialReport], cell: &mut Cell) {
    for (report, name) in hellos.iter().zip(["TLS 1.0", "TLS 1.1", "TLS 1.2"]) {
        let Outcome::Answered { .. } = report.outcome else { continue };
        cell.versions.push(name);
        if name != "TLS 1.2" {
            cell.wire.faults.push(format!("it takes {name}"));
        }
    }
    if !hellos.is_empty() {
        cell.versions.extend(cell.wire.negotiated.filter(|negotiated| *negotiated == "TLS 1.3"));
    }
}

/// Looks again at the pods of ports that are not as expected: a pod that has gone meanwhile is not judged.
async fn look_again(batch: &[Target<'_>], cells: &mut [Cell]) {
    let doubtful = batch.iter().zip(cells.iter()).filter(|(_, cell)| cell.standing() != Standing::Holds);
    let pods: BTreeMap<usize, &Target<'_>> = doubtful.map(|(target, _)| (target.index, target)).collect();
    let looks = stream::iter(pods.into_iter().map(async |(index, target)| (index, gone(target).await)));
    let gone: BTreeMap<usize, Option<String>> = looks.buffer_unordered(LOOKS).collect().await;
    for (target, cell) in batch.iter().zip(cells) {
        if let Some(Some(why)) = gone.get(&target.index) {
            cell.wire = Wire::not_judged(Kind::NotJudged { why: why.clone() });
        }
    }
}

/// Why a pod is not what was asked, if it has gone or ended since the inventory.
async fn gone(target: &Target<'_>) -> Option<String> {
    let Target { inventory, pod, .. } = target;
    let api = inventory.cluster.api::<PodObject>(&pod.namespace);
    let found = api.get_opt(&pod.name).await.ok()?;
    let Some(found) = found.filter(|found| found.uid().as_deref() == Some(pod.uid.as_str())) else {
        return Some("gone meanwhile".into());
    };
    let phase = found.status.as_ref().and_then(|status| status.phase.as_deref());
    match (found.metadata.deletion_timestamp.is_some(), phase) {
        (true, _) => Some("terminating meanwhile".into()),
        (_, Some("Succeeded" | "Failed")) => Some("ended meanwhile".into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
