//! The deployments that a cluster of a testbed needs, and how many of their replicas are available.

use std::collections::BTreeSet;

use anyhow::Result;
use futures::future::try_join_all;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};

use super::super::installed::Installed;
use super::health::{Component, Which};
use crate::provider::KnownCluster;

/// The components of a cluster, as its API server sees them.
///
/// # Errors
/// Fails if the API server cannot list the deployments.
pub(super) async fn components(client: &Client, known: &KnownCluster, installed: &Installed) -> Result<Vec<Component>> {
    let all = Api::<Deployment>::all(client.clone()).list(&ListParams::default()).await?.items;
    let found = needed(known, installed).into_iter().map(async |component| {
        let names = names(client, &component).await?;
        let is_of = |deployment: &&Deployment| {
            deployment.namespace().as_ref() == Some(&component.namespace) && names.contains(&deployment.name_any())
        };
        let deployments: Vec<&Deployment> = all.iter().filter(is_of).collect();
        Ok(counted(component, &deployments))
    });
    try_join_all(found).await
}

/// The components that the cluster needs, as if none of them existed.
fn needed(known: &KnownCluster, installed: &Installed) -> Vec<Component> {
    let Installed { istio, gateways, probes } = installed;
    let component = |name, namespace: &str, which| {
        let namespace = namespace.to_owned();
        Component { name, namespace, which, available: None, wanted: 1 }
    };
    let mut needed = vec![component(
        "istiod",
        &istio.namespace,
        // A record names istiod's pods. The name of the deployment depends on the revision.
        Which::Selector(istio.control_plane.selector.clone()),
    )];
    for (name, gateway) in [("ingress gateway", &gateways.ingress), ("east-west gateway", &gateways.eastwest)] {
        let gateway = gateway.iter();
        needed.extend(gateway.map(|it| component(name, &it.namespace, Which::Deployment(it.deployment.clone()))));
    }
    // Other people's clusters may have another DNS server.
    if !known.nodes.is_empty() {
        needed.push(component("CoreDNS", "kube-system", Which::Deployment("coredns".into())));
    }
    // Probes that a suite deploys may be there or not.
    if let Some(probes) = probes.as_ref().filter(|probes| probes.deployment.is_none()) {
        let all =
            [("meshed probe", &probes.meshed), ("second meshed probe", &probes.caller), ("naked probe", &probes.naked)];
        needed.extend(all.map(|(name, it)| component(name, &it.namespace, Which::Deployment(it.deployment.clone()))));
    }
    needed
}

/// Names of the component's deployments.
async fn names(client: &Client, component: &Component) -> kube::Result<BTreeSet<String>> {
    match &component.which {
        Which::Deployment(name) => Ok(BTreeSet::from([name.clone()])),
        Which::Selector(selector) => {
            // A deployment need not have its pods' labels. Its replica sets have them, and name the deployment.
            let sets: Api<ReplicaSet> = Api::namespaced(client.clone(), &component.namespace);
            let sets = sets.list(&ListParams::default().labels(selector)).await?.items;
            let owners = sets.into_iter().flat_map(|set| set.metadata.owner_references.unwrap_or_default());
            Ok(owners.filter(|owner| owner.kind == "Deployment").map(|owner| owner.name).collect())
        }
    }
}

fn counted(component: Component, deployments: &[&Deployment]) -> Component {
    if deployments.is_empty() {
        return component;
    }
    let available = |it: &&Deployment| it.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0);
    let wanted = |it: &&Deployment| it.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    Component {
        available: Some(deployments.iter().map(available).sum()),
        wanted: deployments.iter().map(wanted).sum(),
        ..component
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use kube::client::Body;
    use serde_json::{Value, json};

    use super::super::super::installed::tests::foreign;
    use super::super::super::profile;
    use super::*;
    use crate::declaration::Declaration;

    fn known(nodes: &[&str]) -> KnownCluster {
        KnownCluster {
            name: "east".into(),
            kubeconfig: "kubeconfig".into(),
            context: "east".into(),
            nodes: nodes.iter().map(|&node| node.to_owned()).collect(),
        }
    }

    /// A cluster with these deployments, each `(namespace, name, wanted, available)`, and one replica set of istiod.
    fn cluster(deployments: &[(&str, &str, i32, i32)]) -> Client {
        let deployments = deployments.iter().map(|(namespace, name, wanted, available)| {
            json!({
                "metadata": {"name": name, "namespace": namespace},
                "spec": {"replicas": wanted, "selector": {}, "template": {}},
                "status": {"availableReplicas": available},
            })
        });
        let deployments: Vec<Value> = deployments.collect();
        let owner = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "istiod-canary", "uid": "1"});
        let sets = [json!({"metadata": {"name": "istiod-canary-1", "ownerReferences": [owner]}})];
        let answer = move |request: http::Request<Body>| {
            let uri = request.uri().to_string();
            let items = match request.uri().path() {
                "/apis/apps/v1/deployments" => json!(deployments),
                "/apis/apps/v1/namespaces/mesh-control/replicasets" if uri.contains("istio.io%2Frev%3Dcanary") => {
                    json!(sets)
                }
                other => panic!("nobody should ask for {other}: {uri}"),
            };
            let list =
                json!({"apiVersion": "apps/v1", "kind": "List", "metadata": {"resourceVersion": "1"}, "items": items});
            let body = list.to_string();
            std::future::ready(Ok::<_, Infallible>(http::Response::new(Body::from(body.into_bytes()))))
        };
        Client::new(tower::service_fn(answer), "default")
    }

    fn words(components: &[Component]) -> Vec<String> {
        let word = |it: &Component| format!("{} {:?}/{}", it.name, it.available, it.wanted);
        components.iter().map(word).collect()
    }

    #[tokio::test]
    async fn another_mesh_needs_what_its_record_names_and_nothing_else() {
        let client = cluster(&[
            ("mesh-control", "istiod-canary", 2, 1),
            ("istio-system", "istiod", 1, 1),
            ("istio-system", "gateway", 1, 1),
            ("edge", "gateway", 3, 3),
        ]);
        let mut installed = Installed::from(&foreign());
        let found = components(&client, &known(&[]), &installed).await.unwrap();
        assert_eq!(words(&found), ["istiod Some(1)/2", "ingress gateway Some(3)/3"]);

        installed.gateways.ingress = None;
        let found = components(&client, &known(&[]), &installed).await.unwrap();
        assert_eq!(words(&found), ["istiod Some(1)/2"]);
    }

    fn of_up() -> Installed {
        let declaration = Declaration::read(&Declaration::default_path()).unwrap();
        profile::installed(&declaration, &declaration.clusters[0])
    }

    #[tokio::test]
    async fn a_cluster_of_up_needs_gateways_dns_and_probes() {
        let installed = Installed { istio: foreign().istio, ..of_up() };
        let client = cluster(&[("istio-system", "istio-ingressgateway", 1, 0), ("pinnacle", "probe", 1, 1)]);
        let found = components(&client, &known(&["node"]), &installed).await.unwrap();
        assert_eq!(
            words(&found),
            [
                "istiod None/1",
                "ingress gateway Some(0)/1",
                "east-west gateway None/1",
                "CoreDNS None/1",
                "meshed probe Some(1)/1",
                "second meshed probe None/1",
                "naked probe None/1",
            ]
        );
    }
}
