//! Probes deployed by a test.

use std::ops::RangeInclusive;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use serde_json::{Value, json};

use super::{Error, Result, Scope};
use crate::cluster::{self, Cluster, Workload};
use crate::probe::{self, rollout};
use crate::record::{self, ProbePorts};

/// Deploys a meshed probe into `namespace`, as a copy of the cluster's own meshed probe, and waits until the probe is
/// ready.
///
/// # Errors
/// [`Error::Cluster`]. [`NotDeclared`](crate::record::Error::NotDeclared): the record
/// names no probes.
pub async fn deploy_probe(scope: &Scope, cluster: &Arc<Cluster>, namespace: &str) -> Result<Workload> {
    deploy_probe_serving(scope, cluster, namespace, None).await
}

/// Like [`deploy_probe`]. The probe also serves raw TCP on each port of `lines`, and so does its service.
///
/// # Errors
/// The errors of [`deploy_probe`].
pub async fn deploy_probe_serving(
    scope: &Scope,
    cluster: &Arc<Cluster>,
    namespace: &str,
    lines: Option<RangeInclusive<u16>>,
) -> Result<Workload> {
    let probes = probe::declared(cluster)?;
    let model = &probes.meshed;
    let found = cluster.api::<Deployment>(&model.namespace).get(&model.deployment).await;
    let found = found.map_err(cluster.failed(format!("read deployment {}/{}", model.namespace, model.deployment)))?;
    let copy = Copy::of(&found, &model.deployment, namespace).ok_or_else(|| cluster::Error::NoPod {
        cluster: cluster.name().into(),
        namespace: model.namespace.clone(),
        selector: model.selector.clone(),
        seen: "and its deployment has no pod template".into(),
    })?;
    if let Some(secret) = probe::deploy::pull_secret(cluster, namespace).await? {
        let mut secret = serde_json::to_value(secret).map_err(Error::suite)?;
        scope.apply(cluster, &mut secret).await?;
    }
    let copy = match &lines {
        Some(lines) => copy.serving(&probes.container, lines),
        None => copy,
    };
    for mut object in copy.objects(&probes.ports, lines) {
        scope.apply(cluster, &mut object).await?;
    }
    rollout::available(cluster, &record::Probe { namespace: namespace.into(), ..model.clone() }).await?;
    Ok(Workload::find(cluster, namespace, &model.selector).await?)
}

/// A copy of a probe, for another namespace.
struct Copy<'a> {
    name: &'a str,
    namespace: &'a str,
    account: String,
    labels: Value,
    selector: Value,
    template: Value,
}

impl<'a> Copy<'a> {
    /// A copy of `model`. `None` if `model` has no pod template.
    fn of(model: &Deployment, name: &'a str, namespace: &'a str) -> Option<Self> {
        let spec = model.spec.as_ref()?;
        let account = spec.template.spec.as_ref()?.service_account_name.clone();
        Some(Self {
            name,
            namespace,
            account: account.unwrap_or_else(|| "default".into()),
            labels: serde_json::to_value(&spec.selector.match_labels).ok()?,
            selector: serde_json::to_value(&spec.selector).ok()?,
            template: serde_json::to_value(&spec.template).ok()?,
        })
    }

    /// The copy, with these ports of raw TCP in the command of its container.
    fn serving(mut self, container: &str, lines: &RangeInclusive<u16>) -> Self {
        let containers = self.template.pointer_mut("/spec/containers").and_then(Value::as_array_mut);
        let probe = containers.into_iter().flatten().find(|one| one["name"] == container);
        if let Some(probe) = probe {
            probe["args"] = json!(["serve", "--lines", format!("{}-{}", lines.start(), lines.end())]);
        }
        self
    }

    /// The copy's service account, service (with the probe's name) and deployment.
    fn objects(self, ports: &ProbePorts, lines: Option<RangeInclusive<u16>>) -> [Value; 3] {
        let metadata = |name: &str| json!({ "name": name, "namespace": self.namespace });
        let mut ports: Vec<Value> =
            ports.named().map(|(name, port)| json!({ "name": name, "port": port })).into_iter().collect();
        let lines = lines.into_iter().flatten();
        ports.extend(lines.map(|port| json!({ "name": format!("tcp-{port}"), "port": port })));
        [
            json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata(&self.account) }),
            json!({
                "apiVersion": "v1", "kind": "Service", "metadata": metadata(self.name),
                "spec": { "selector": self.labels, "ports": ports },
            }),
            json!({
                "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata(self.name),
                "spec": { "replicas": 1, "selector": self.selector, "template": self.template },
            }),
        ]
    }
}
