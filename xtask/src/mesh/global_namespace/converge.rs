//! Makes the clusters match the declaration: writes the derived objects, and removes derived objects that are no longer
//! needed.

use anyhow::{Context, Result, bail};
use futures::future::try_join_all;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Service};
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use serde_json::json;

use super::{Declaration, LABEL, derive};
use crate::artifacts::Key;
use crate::kubernetes::{self, Kind};
use crate::mesh::install::{BOUND, Member};
use crate::progress;

/// All kinds of derived objects.
const KINDS: [Kind<'static>; 5] = [
    Kind { version: "networking.istio.io/v1", name: "ServiceEntry" },
    Kind { version: "networking.istio.io/v1", name: "VirtualService" },
    Kind { version: "networking.istio.io/v1", name: "Gateway" },
    Kind { version: "networking.istio.io/v1", name: "DestinationRule" },
    Kind { version: "security.istio.io/v1", name: "PeerAuthentication" },
];

/// Namespace of CoreDNS and its additional zones; see `fixtures/clusters/coredns.yaml`.
const DNS_NAMESPACE: &str = "kube-system";
const ZONES: &str = "coredns-custom";

/// Annotation that restarts CoreDNS when its zones change. Without a restart, CoreDNS reads new zones only after the
/// kubelet has updated the volume, up to a minute later.
const ZONES_ANNOTATION: &str = "meshproof.dev/dns-zones";

/// Writes the derived objects into every member cluster, and removes all other derived objects from every cluster.
///
/// # Errors
/// Fails before any write if the members' services cannot form one global namespace. Nothing is changed in that case.
pub(crate) async fn converge(declaration: &Declaration, members: &[Member<'_>]) -> Result<()> {
    let found = members.iter().map(async |member| {
        let services: Api<Service> = Api::all(member.target.client.clone());
        let services = services.list(&ListParams::default()).await;
        let services = services.with_context(|| format!("cannot list the services of {}", member.target.name))?;
        anyhow::Ok((member.target.name.clone(), services.items))
    });
    let found = try_join_all(found).await?;
    let services = derive::services(declaration, &found)
        .with_context(|| format!("global namespace {}: nothing derived was changed", declaration.name))?;
    try_join_all(members.iter().map(|member| has_namespaces(declaration, &services, member))).await?;
    let writing = members.iter().map(async |member| {
        let cluster = member.target.name.as_str();
        if declaration.namespaces(cluster).next().is_none() {
            return remove(member).await;
        }
        member
            .step(&format!("global namespace {}", declaration.name), async {
                let objects = derive::objects(declaration, &services, member.declared).into_iter();
                let objects: Vec<DynamicObject> = objects.map(serde_json::from_value).collect::<Result<_, _>>()?;
                let zone = derive::zone(declaration, &services);
                let dns = set_zone(member, Some((&declaration.name, &zone)));
                let (applied, ()) = tokio::try_join!(kubernetes::apply_objects(&member.target.client, &objects), dns)?;
                kubernetes::prune(&member.target.client, &KINDS, LABEL, &applied).await
            })
            .await
    });
    try_join_all(writing).await.map(drop)
}

/// Removes the derived objects of all declarations.
///
/// # Errors
/// Fails if an object cannot be removed. The error names the object.
pub(crate) async fn withdraw(members: &[Member<'_>]) -> Result<()> {
    try_join_all(members.iter().map(remove)).await.map(drop)
}

async fn remove(member: &Member<'_>) -> Result<()> {
    tokio::try_join!(kubernetes::prune(&member.target.client, &KINDS, LABEL, &[]), set_zone(member, None)).map(drop)
}

/// Checks that the cluster has the namespaces of the services: a service entry selects only workloads of its own
/// namespace.
async fn has_namespaces(
    declaration: &Declaration,
    services: &[derive::GlobalService],
    member: &Member<'_>,
) -> Result<()> {
    let cluster = member.target.name.as_str();
    let mut wanted: Vec<&str> = declaration.namespaces(cluster).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    wanted.extend(services.iter().map(derive::GlobalService::namespace));
    let namespaces: Api<Namespace> = Api::all(member.target.client.clone());
    for name in wanted {
        let found =
            namespaces.get_opt(name).await.with_context(|| format!("cannot look up namespaces of {cluster}"))?;
        if found.is_none() {
            bail!(
                "namespace {name} has services of global namespace {} and must exist in its member {cluster} too: \
                 create it there; nothing was changed",
                declaration.name
            );
        }
    }
    Ok(())
}

/// Configures the cluster's DNS to answer for this zone, or for no global namespace. Waits until the DNS does so.
async fn set_zone(member: &Member<'_>, zone: Option<(&str, &str)>) -> Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(member.target.client.clone(), DNS_NAMESPACE);
    let there = maps.get_opt(ZONES).await.with_context(|| format!("cannot read ConfigMap {ZONES}"))?;
    let wanted = zone.map(|(name, text)| (format!("{name}.server"), text.to_owned()));
    let there = there.and_then(|map| map.data).unwrap_or_default();
    let wanted = wanted.into_iter().collect();
    let deployments: Api<Deployment> = Api::namespaced(member.target.client.clone(), DNS_NAMESPACE);
    if there != wanted {
        progress::count_command();
        let map = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": ZONES, "namespace": DNS_NAMESPACE},
            "data": wanted,
        });
        let ours = PatchParams::apply("meshproof-zones").force();
        maps.patch(ZONES, &ours, &Patch::Apply(map))
            .await
            .with_context(|| format!("cannot write ConfigMap {ZONES}"))?;
    }
    let hash = wanted.iter().fold(Key::new(ZONES), |key, (name, text)| key.text(name).text(text)).finish();
    let deployment = deployments.get("coredns").await.context("cannot read deployment coredns")?;
    let annotations = deployment.spec.and_then(|spec| spec.template.metadata).and_then(|meta| meta.annotations);
    let started_with = annotations.and_then(|mut annotations| annotations.remove(ZONES_ANNOTATION));
    // If CoreDNS never had a zone, removing the zone needs no restart.
    if started_with.as_ref().map_or(wanted.is_empty(), |started_with| *started_with == hash) {
        return Ok(());
    }
    progress::count_command();
    let template = json!({"spec": {"template": {"metadata": {"annotations": {ZONES_ANNOTATION: hash}}}}});
    deployments
        .patch("coredns", &PatchParams::default(), &Patch::Merge(template))
        .await
        .context("cannot have CoreDNS read its zones")?;
    kubernetes::wait_for_deployment(&member.target.client, DNS_NAMESPACE, "coredns", BOUND).await
}
