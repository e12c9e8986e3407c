//! Why claims do not hold. The layers of each call are walked from the caller, to the first that is not as it must be.
//!
//! All red claims are diagnosed at once: what several of them need is read once. Objects, istiods and proxies are only
//! read. They explain a verdict, and never make one.

mod case;
mod ends;
mod facts;
mod gateway;
mod last;
mod way;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use kube::ResourceExt;

use self::case::{Case, Facts, Route};
use self::facts::{ClusterFacts, Questions, Reader};
use self::last::Read;
pub(crate) use self::last::forget;
use crate::cluster::{Testbed, Workload};
use crate::identity::Trust;
use crate::istio::{AccessEntry, logged};
use crate::report::{Call, Cause, Claim, Diagnosis, Ended, Must, Place, Subject};

/// Time limit for all that is read: a mesh that does not answer must not delay the verdict. With the processors of the
/// mesh overloaded, 12 s were too short.
const BOUND: Duration = Duration::from_secs(25);

/// Age limit of what proxies logged.
const SINCE: Duration = Duration::from_secs(120);

/// Result of a diagnosis.
#[derive(Debug, Clone, Default)]
pub struct Diagnosed {
    /// Causes, each with the claims that it explains.
    pub causes: Vec<Diagnosis>,
    /// The pods that the claims are about: both ends, and the gateways between them.
    pub pods: Vec<Place>,
}

/// Diagnoses claims that do not hold. A claim without a subject, or whose layers are all as they must be, has no cause.
pub async fn diagnose(testbed: &Testbed, claims: &[&Claim]) -> Diagnosed {
    let subjects: Vec<(&Claim, &Subject)> =
        claims.iter().filter_map(|claim| Some((*claim, claim.subject()?))).collect();
    if subjects.is_empty() {
        return Diagnosed::default();
    }
    if let Some(diagnosed) = by_last(testbed, &subjects) {
        return diagnosed;
    }
    let read = tokio::time::timeout(BOUND, read(testbed, &subjects)).await;
    let Ok(read) = read.map(Arc::new) else {
        tracing::warn!("the mesh was not read within {BOUND:?}, so nothing is diagnosed");
        return Diagnosed::default();
    };
    last::keep(&read);
    diagnosed(&subjects, &read.facts, &testbed.trust)
}

/// The diagnosis by what was read a moment ago, if that explains every claim. Otherwise, the mesh is read anew.
fn by_last(testbed: &Testbed, subjects: &[(&Claim, &Subject)]) -> Option<Diagnosed> {
    let read = last::fresh(&testbed.directory)?;
    let ends = subjects.iter().flat_map(|(_, subject)| match subject {
        Subject::Call(call) => [call.source.as_ref(), call.destination.as_ref()],
        Subject::Proxy(place) => [Some(place), None],
        Subject::Pods { .. } => [None, None],
    });
    let ends: Vec<&Place> = ends.flatten().collect();
    let known = read.covers(&namespaces(testbed, subjects), &ends) && read.answers(&questions(subjects, &read.facts));
    let diagnosed = known.then(|| diagnosed(subjects, &read.facts, &testbed.trust))?;
    let explained: usize = diagnosed.causes.iter().map(|diagnosis| diagnosis.claims.len()).sum();
    (explained == subjects.len()).then_some(diagnosed)
}

/// The causes of these claims, by these facts.
fn diagnosed(subjects: &[(&Claim, &Subject)], facts: &Facts, trust: &Trust) -> Diagnosed {
    let mut found = BTreeMap::<Cause, Vec<String>>::new();
    let mut pods = BTreeSet::new();
    for (claim, subject) in subjects {
        pods.extend(pods_of(subject, facts));
        if let Some(cause) = first(subject, facts, trust) {
            found.entry(cause).or_default().push(claim.id().to_owned());
        }
    }
    let causes = found.into_iter().map(|(cause, claims)| Diagnosis { cause, claims });
    Diagnosed { causes: causes.collect(), pods: pods.into_iter().collect() }
}

/// The first layer of the subject that is not as it must be.
fn first(subject: &Subject, facts: &Facts, trust: &Trust) -> Option<Cause> {
    match subject {
        Subject::Call(call) => {
            let (route, target) = case::route(call, facts);
            walk(Case { facts, trust, call, target: target.as_ref(), route })
        }
        Subject::Pods { cluster, namespace, selector } => {
            way::unready(facts.clusters.get(cluster)?, namespace, selector)
        }
        Subject::Proxy(place) => {
            let of = facts.clusters.get(&place.cluster)?;
            ends::missing(of, of.pod(place)?)
        }
    }
}

/// A layer: the cause, if the layer is not as it must be.
type Layer = fn(Case<'_>) -> Option<Cause>;

/// What lies before the ends, in order. The destination's sidecar comes before the certificates that it holds.
const WAY: &[Layer] =
    &[way::dns, way::service, way::endpoints, way::visibility, way::remote_secret, way::client_tls, way::network];
const GATEWAY: &[Layer] = &[gateway::down, gateway::not_listening, gateway::not_routed];
const ENDS: &[Layer] =
    &[ends::sidecar, ends::certificate, ends::peer_authentication, ends::authorization, ends::application];

fn walk(case: Case<'_>) -> Option<Cause> {
    let was_answered = case.call.ended == Ended::Answered;
    let layers: Vec<&[Layer]> = match (case.call.must, case.route) {
        // What should have been refused was answered: only the destination can be to blame.
        (Must::Refuse, _) if was_answered => vec![ENDS],
        (_, Route::Direct) => vec![ENDS],
        // How the last hop goes is not known: it may carry the certificate of what is between.
        (_, Route::Through) => vec![&[way::service, way::endpoints, ends::certificate, ends::application]],
        (_, Route::Gateway) => vec![&[way::service, way::endpoints], GATEWAY, ENDS],
        (_, Route::Named) if was_answered => vec![&[way::service, way::client_tls], ENDS],
        (_, Route::Named) => vec![WAY, GATEWAY, ENDS],
    };
    layers.into_iter().flatten().find_map(|layer| layer(case))
}

/// The pods of a subject.
fn pods_of(subject: &Subject, facts: &Facts) -> Vec<Place> {
    match subject {
        Subject::Call(call) => {
            let (route, _) = case::route(call, facts);
            let networks: BTreeSet<&str> = [&call.source, &call.destination]
                .into_iter()
                .flatten()
                .filter_map(|place| Some(facts.clusters.get(&place.cluster)?.cluster.record().network.as_str()))
                .collect();
            let to = call.destination.as_ref().and_then(|place| facts.clusters.get(&place.cluster));
            let crosses = route == Route::Gateway || networks.len() > 1;
            let gateway = to.filter(|_| crosses).and_then(|to| {
                let gateway = to.cluster.record().eastwest().ok()?;
                Some(to.ready_pods_of(gateway))
            });
            let ends = call.source.iter().chain(&call.destination).cloned();
            ends.chain(gateway.into_iter().flatten()).collect()
        }
        Subject::Proxy(place) => vec![place.clone()],
        Subject::Pods { cluster, namespace, selector } => {
            let Some(of) = facts.clusters.get(cluster) else { return Vec::new() };
            let place = |pod: &k8s_openapi::api::core::v1::Pod| Place {
                cluster: cluster.clone(),
                namespace: namespace.clone(),
                pod: pod.name_any(),
            };
            of.selected(namespace, selector).map(place).collect()
        }
    }
}

/// Reads all that the subjects need: first the objects, then the proxies of the pods that are there.
async fn read(testbed: &Testbed, subjects: &[(&Claim, &Subject)]) -> Read {
    let (reader, at) = (Reader::new(), Instant::now());
    let namespaces = namespaces(testbed, subjects);
    let clusters = testbed.clusters.iter().filter_map(|cluster| Some((cluster, namespaces.get(cluster.name())?)));
    let clusters = join_all(clusters.map(|(cluster, namespaces)| reader.cluster(cluster, namespaces))).await;
    let mut facts = Facts::default();
    for read in clusters {
        match read {
            Ok(read) => drop(facts.clusters.insert(read.cluster.name().to_owned(), read)),
            Err(reason) => tracing::warn!(reason, "a cluster was not read, so calls there are not diagnosed"),
        }
    }
    let questions = questions(subjects, &facts);
    let asking = questions.iter().filter_map(|(place, questions)| {
        let workload = workload(facts.clusters.get(&place.cluster)?, place)?;
        let reader = &reader;
        Some(async move { (place.clone(), reader.proxy(&workload, questions).await) })
    });
    let logs = denied(subjects, &facts);
    let (proxies, logs) = futures::join!(join_all(asking), logs);
    facts.proxies.extend(proxies);
    for (place, entries) in logs {
        let denials: Vec<String> = entries
            .iter()
            .filter(|entry| entry.is_denied_by_policy())
            .map(|entry| entry.denied_by().unwrap_or_default())
            .collect();
        if !denials.is_empty() {
            facts.denials.insert(place.clone(), denials);
        }
        facts.silent.insert(place, entries.iter().filter_map(AccessEntry::found_nobody_on).collect());
    }
    Read { testbed: testbed.directory.clone(), at, namespaces, facts }
}

/// The namespaces to read in each cluster. A Service has one name in all clusters, so each namespace is read in all.
fn namespaces(testbed: &Testbed, subjects: &[(&Claim, &Subject)]) -> BTreeMap<String, BTreeSet<String>> {
    let mut named: BTreeSet<String> = BTreeSet::from(["kube-system".to_owned()]);
    for (_, subject) in subjects {
        match subject {
            Subject::Call(call) => {
                named.extend(
                    [&call.source, &call.destination].into_iter().flatten().map(|place| place.namespace.clone()),
                );
                let in_server_name = call.server_name.as_deref().and_then(|name| Some(name.split_once("_._.")?.1));
                let by_name = Some(call.host.as_str()).filter(|host| host.parse::<std::net::IpAddr>().is_err());
                let hosts = [by_name, in_server_name].into_iter().flatten();
                named.extend(hosts.filter_map(namespace_of));
            }
            Subject::Pods { namespace, .. } => drop(named.insert(namespace.clone())),
            Subject::Proxy(place) => drop(named.insert(place.namespace.clone())),
        }
    }
    let of = |cluster: &crate::record::Cluster| {
        let gateways = cluster.gateways.eastwest.iter().chain(&cluster.gateways.ingress);
        let own = gateways.map(|gateway| gateway.namespace.clone());
        named.iter().cloned().chain(own).collect()
    };
    testbed.clusters.iter().map(|cluster| (cluster.name().to_owned(), of(cluster.record()))).collect()
}

/// The namespace in a name such as `probe.shop`, `probe.shop.svc` or `probe.shop.svc.cluster.local`.
fn namespace_of(host: &str) -> Option<String> {
    let service = host.split_once(".svc").map_or(host, |(service, _)| service);
    Some(service.split_once('.')?.1.to_owned()).filter(|namespace| !namespace.contains('.'))
}

/// What each proxy must be asked.
fn questions(subjects: &[(&Claim, &Subject)], facts: &Facts) -> BTreeMap<Place, Questions> {
    let mut questions: BTreeMap<Place, Questions> = BTreeMap::new();
    for (_, subject) in subjects {
        let Subject::Call(call) = subject else { continue };
        let (_, target) = case::route(call, facts);
        for place in pods_of(subject, facts) {
            let of = facts.clusters.get(&place.cluster);
            let has_proxy = of.zip(of.and_then(|of| of.pod(&place))).is_some_and(|(of, pod)| of.has_proxy(pod));
            if !has_proxy {
                continue;
            }
            let is_end = [&call.source, &call.destination].into_iter().flatten().any(|end| *end == place);
            let calls = target.clone().filter(|_| call.source.as_ref() == Some(&place));
            let asked = questions.entry(place).or_default();
            asked.is_gateway |= !is_end;
            asked.calls.extend(calls.map(|target| (target.host, target.port)));
        }
    }
    questions
}

/// The lines that the proxies of unanswered destinations logged.
async fn denied(subjects: &[(&Claim, &Subject)], facts: &Facts) -> Vec<(Place, Vec<AccessEntry>)> {
    let unanswered = subjects.iter().filter_map(|(_, subject)| match subject {
        Subject::Call(Call { ended: Ended::Denied | Ended::Otherwise, destination: Some(place), .. }) => Some(place),
        _ => None,
    });
    let places: BTreeSet<&Place> = unanswered.collect();
    let reading = places.into_iter().filter_map(|place| {
        let workload = workload(facts.clusters.get(&place.cluster)?, place)?;
        Some(async move { Some((place.clone(), logged(&workload, SINCE).await.ok()?)) })
    });
    join_all(reading).await.into_iter().flatten().collect()
}

fn workload(of: &ClusterFacts, place: &Place) -> Option<Workload> {
    Workload::of(&of.cluster, of.pod(place)?)
}

#[cfg(test)]
mod tests;
