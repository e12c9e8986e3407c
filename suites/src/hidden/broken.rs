//! Controls: of two gateways, endpoints and istiods, one is ready and of no use. The suite's own claims find it every
//! time.

use std::sync::Arc;
use std::time::Duration;

use meshproof::cluster::{availability, watch_one};
use meshproof::k8s_openapi::api::apps::v1::Deployment;
use meshproof::kube::ResourceExt;
use meshproof::kube::api::ListParams;
use meshproof::probe;
use meshproof::record::{Requirement, Write};
use meshproof::report::{Claim, Judgement};
use meshproof::scope::{copied_probe, deploy_probe};
use meshproof::suites::{IDLE, ProxyImage};
use meshproof::{Cluster, Error, Scope, Verdict};
use serde_json::{Value, json};

use super::endpoints::Service;
use super::first::Callers;
use super::{SUITE, endpoints, gateways, istiods};

/// How often a fault must be found.
const ROUNDS: usize = 10;

/// Label of the pods that are of no use.
const BROKEN: &str = "meshproof.dev/broken";

/// Longest wait for such a pod to start, or to end.
const BOUND: Duration = Duration::from_secs(90);

/// A pod with a gateway's labels is ready, and nothing listens on the gateway's port. Found by the claims about each pod,
/// and by those about first attempts from every other cluster.
///
/// Seen red by: the dead pod scaled to nothing meanwhile ("red in each round: 1 of 2, 0 of 1, …", and 0 of 2 first attempts).
async fn a_gateway_that_is_listed_and_dead_is_found_every_time() -> Verdict {
    Scope::alone(SUITE, "a_gateway_that_is_listed_and_dead_is_found_every_time", async |scope| {
        scope.requires([
            Requirement::Probes,
            Requirement::EastWest,
            Requirement::Write(Write::Namespaces),
            Requirement::Write(Write::Objects),
        ])?;
        let lacking = || meshproof::record::Error::not_declared("clusters of two networks");
        let pair = scope
            .testbed
            .pairs()
            .into_iter()
            .find(|pair| pair.crosses_networks() && pair.to.record().gateways.eastwest.is_some());
        let pair = pair.ok_or_else(lacking)?;
        let callers = Callers::create(scope).await?;
        let dead = dead_gateway(&pair.to).await?;
        let placed = place(scope, &pair.to, dead).await?;
        let (mut by_pod, mut by_call) = (Rounds::default(), Rounds::default());
        for _ in 0..ROUNDS {
            let (of_pods, of_calls) = futures::try_join!(gateways::eastwest(scope, &pair.to), callers.judge(&pair))?;
            by_pod.add(&of_pods);
            by_call.add(&of_calls);
        }
        scope.claim(by_pod.found("gateway/by-pod", 1));
        scope.claim(by_call.found("gateway/by-first-attempt", 2));
        remove(scope, &pair.to, &placed).await
    })
    .await
}

/// The application of one of two pods of a service does not listen. Its proxy is well.
///
/// Seen red by: the dead pod scaled to nothing meanwhile ("red in each round: 4 of 8, 4 of 8, 4 of 8, 4 of 8, 0 of 4, …").
async fn an_endpoint_that_is_listed_and_dead_is_found_every_time() -> Verdict {
    Scope::run(SUITE, "an_endpoint_that_is_listed_and_dead_is_found_every_time", async |scope| {
        scope.requires([Requirement::Probes, Requirement::Write(Write::Namespaces)])?;
        let judge = async |cluster: &Arc<Cluster>| {
            let namespace = scope.injected_namespace(cluster, &format!("half-dead-{}", cluster.name())).await?;
            let living = deploy_probe(scope, cluster, &namespace).await?;
            let mut dead = copied_probe(cluster, &namespace).await?.deployment;
            let image = ProxyImage::of(cluster).await?;
            dead["metadata"]["name"] = "dead".into();
            dead["spec"]["selector"] = json!({ "matchLabels": { BROKEN: "endpoint" } });
            dead["spec"]["template"]["metadata"]["labels"][BROKEN] = "endpoint".into();
            dead["spec"]["template"]["spec"]["containers"] = json!([image.container("dead", IDLE)]);
            scope.apply(cluster, &mut dead).await?;
            available(cluster, &namespace, "dead").await?;
            let name = probe::declared(cluster)?.meshed.deployment.clone();
            let service = Service { namespace: living.namespace, name };
            let mut rounds = Rounds::default();
            for _ in 0..ROUNDS {
                rounds.add(&endpoints::endpoints(scope, cluster, &service).await?);
            }
            scope.claim(rounds.found(&format!("endpoint/{}", cluster.name()), endpoints::ASKED.len()));
            Ok(())
        };
        scope.for_each(&scope.testbed.clusters, |cluster| cluster.name().to_owned(), judge).await;
        Ok(())
    })
    .await
}

/// One of two istiods looks for remote secrets where there are none.
///
/// Seen red by: that istiod scaled to nothing meanwhile ("red in each round: 1 of 4, …, 0 of 2, 0 of 2").
async fn an_istiod_that_does_not_see_a_cluster_is_found_every_time() -> Verdict {
    Scope::alone(SUITE, "an_istiod_that_does_not_see_a_cluster_is_found_every_time", async |scope| {
        scope.requires([
            Requirement::Clusters(2),
            Requirement::Write(Write::Namespaces),
            Requirement::Write(Write::Objects),
        ])?;
        let cluster = &scope.testbed.clusters[0];
        let empty = scope.injected_namespace(cluster, "no-secrets").await?;
        let placed = place(scope, cluster, blind_istiod(cluster, &empty).await?).await?;
        let mut rounds = Rounds::default();
        for _ in 0..ROUNDS {
            rounds.add(&istiods::clusters(scope, cluster).await?);
        }
        scope.claim(rounds.found("istiod", scope.testbed.clusters.len() - 1));
        remove(scope, cluster, &placed).await
    })
    .await
}

/// How many claims were red in each round.
#[derive(Debug, Default)]
struct Rounds(Vec<Red>);

#[derive(Debug)]
struct Red {
    red: usize,
    of: usize,
}

impl Rounds {
    fn add(&mut self, claims: &[Claim]) {
        let red = claims.iter().filter(|claim| claim.verdict() == Judgement::Fail).count();
        self.0.push(Red { red, of: claims.len() });
    }

    /// The claim that so many claims were red in every round, and the others were not.
    fn found(&self, fault: &str, owed: usize) -> Claim {
        let is_found = |Red { red, of }: &&Red| *red == owed && red <= of;
        Claim::about(format!("found/{fault}"), "what is half dead is red every time")
            .expects(format!("{owed} red claims in {ROUNDS} of {ROUNDS} rounds"))
            .observes(
                &self.0,
                |rounds| {
                    let red: Vec<String> = rounds.iter().map(|Red { red, of }| format!("{red} of {of}")).collect();
                    format!("red in each round: {}", red.join(", "))
                },
                |rounds| rounds.iter().filter(is_found).count() == ROUNDS,
            )
    }
}

/// A deployment that was placed beside those of the mesh.
struct Placed {
    namespace: String,
    label: String,
}

/// Places a deployment whose pods have the label [`BROKEN`], and waits until they are ready.
async fn place(scope: &Scope, cluster: &Arc<Cluster>, deployment: Value) -> Result<Placed, Error> {
    let text = |pointer: &str| deployment.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
    let selector = deployment.pointer("/spec/selector/matchLabels").and_then(|labels| labels[BROKEN].as_str());
    let label = format!("{BROKEN}={}", selector.unwrap_or_default());
    scope.place(cluster, deployment).await?;
    available(cluster, &namespace, &name).await?;
    Ok(Placed { namespace, label })
}

async fn remove(scope: &Scope, cluster: &Arc<Cluster>, Placed { namespace, label }: &Placed) -> Result<(), Error> {
    scope.remove_placed().await?;
    Ok(cluster.no_pods(namespace, label, BOUND).await?)
}

async fn available(cluster: &Arc<Cluster>, namespace: &str, name: &str) -> Result<(), Error> {
    let want = format!("deployment {namespace}/{name} of {} to be available", cluster.name());
    let deployments = cluster.api::<Deployment>(namespace);
    Ok(watch_one(deployments, name, want, BOUND, availability).await?)
}

/// A deployment whose pods are taken for a gateway's.
async fn dead_gateway(cluster: &Arc<Cluster>) -> Result<Value, Error> {
    let gateway = cluster.record().eastwest()?;
    let pods = cluster.ready_pods(&gateway.namespace, &gateway.selector).await?;
    let image = ProxyImage::of(cluster).await?;
    let mut labels = pods.first().map(|pod| pod.labels().clone()).unwrap_or_default();
    labels.retain(|key, _| !key.ends_with("-hash"));
    labels.insert(BROKEN.into(), "gateway".into());
    labels.insert("sidecar.istio.io/inject".into(), "false".into());
    Ok(json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": "meshproof-dead-gateway", "namespace": gateway.namespace },
        "spec": {
            "replicas": 1, "selector": { "matchLabels": { BROKEN: "gateway" } },
            "template": {
                "metadata": { "labels": labels },
                "spec": { "terminationGracePeriodSeconds": 1, "containers": [image.container("dead", IDLE)] },
            },
        },
    }))
}

/// A deployment of an istiod that looks for remote secrets in the namespace `empty`.
async fn blind_istiod(cluster: &Arc<Cluster>, empty: &str) -> Result<Value, Error> {
    let istio = &cluster.record().istio;
    let selector = &istio.control_plane.selector;
    let listed = cluster.api::<Deployment>(&istio.namespace).list(&ListParams::default().labels(selector)).await;
    let listed = listed.map_err(cluster.failed(format!("list deployments `{selector}` in {}", istio.namespace)))?;
    let name = listed.items.first().map(ResourceExt::name_any);
    let lacking = || meshproof::record::Error::not_declared(format!("istiod as a deployment of {}", cluster.name()));
    let model = read(cluster, &istio.namespace, &name.ok_or_else(lacking)?).await?;
    let mut template = model["spec"]["template"].clone();
    template["metadata"]["labels"][BROKEN] = "istiod".into();
    // No proxy shall come to it: it is left out of istiod's Service, if the record finds it without this label.
    if let Some(labels) = template["metadata"]["labels"].as_object_mut().filter(|_| !selector.contains("istio=")) {
        labels.remove("istio");
    }
    let arguments = template.pointer_mut("/spec/containers/0/args").and_then(Value::as_array_mut);
    let arguments = arguments.ok_or_else(|| Error::suite("istiod's container has no arguments"))?;
    arguments.push(format!("--namespace={empty}").into());
    Ok(json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": "meshproof-blind-istiod", "namespace": istio.namespace },
        "spec": { "replicas": 1, "selector": { "matchLabels": { BROKEN: "istiod" } }, "template": template },
    }))
}

async fn read(cluster: &Arc<Cluster>, namespace: &str, name: &str) -> Result<Value, Error> {
    let found = cluster.api::<Deployment>(namespace).get(name).await;
    let found = found.map_err(cluster.failed(format!("read deployment {namespace}/{name}")))?;
    serde_json::to_value(found).map_err(Error::suite)
}

crate::trials! {
    // First the one that shares the mesh, beside the others that do.
    an_endpoint_that_is_listed_and_dead_is_found_every_time,
    a_gateway_that_is_listed_and_dead_is_found_every_time,
    an_istiod_that_does_not_see_a_cluster_is_found_every_time,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(red: usize, green: usize) -> Vec<Claim> {
        let claim = |is: bool| Claim::about("one", "it is").equals(&true, &is);
        std::iter::repeat_n(claim(false), red).chain(std::iter::repeat_n(claim(true), green)).collect()
    }

    #[test]
    fn a_fault_that_one_round_misses_is_not_found() {
        let mut rounds = Rounds::default();
        (0..ROUNDS).for_each(|_| rounds.add(&claims(1, 1)));
        assert!(rounds.found("all", 1).holds());
        assert!(!rounds.found("more than owed", 2).holds());
        rounds.0.pop();
        assert!(!rounds.found("a round is missing", 1).holds());
        rounds.add(&claims(0, 2));
        assert!(!rounds.found("one round is green", 1).holds());
    }
}
