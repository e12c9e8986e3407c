//! Probes deployed by a test.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use serde_json::{Value, json};

use super::{Result, Scope};
use crate::cluster::{self, Cluster, Seen, Workload, eventually};
use crate::probe;
use crate::record::{self, ProbePorts};

/// Longest wait for a new probe with its sidecar to be ready.
const READY_BOUND: Duration = Duration::from_secs(90);

/// Deploys a meshed probe into `namespace`, as a copy of the cluster's own meshed probe, and waits until the probe is
/// ready.
///
/// # Errors
/// [`Error::Cluster`](crate::scope::Error::Cluster). [`NotDeclared`](crate::record::Error::NotDeclared): the record
/// names no probes.
pub async fn deploy_probe(scope: &Scope, cluster: &Arc<Cluster>, namespace: &str) -> Result<Workload> {
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
    for mut object in copy.objects(&probes.ports) {
        scope.apply(cluster, &mut object).await?;
    }
    ready(cluster, namespace, model).await
}

async fn ready(cluster: &Arc<Cluster>, namespace: &str, model: &record::Probe) -> Result<Workload> {
    let want = format!("the probe in {namespace} of {}", cluster.name());
    Ok(eventually(want, READY_BOUND, async || match Workload::find(cluster, namespace, &model.selector).await {
        Ok(workload) => Ok(Seen::Yes(workload)),
        Err(cluster::Error::NoPod { seen, .. }) => Ok(Seen::NotYet(seen)),
        Err(error) => Err(error),
    })
    .await?)
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

    /// The copy's service account, service (with the probe's name) and deployment.
    fn objects(self, ports: &ProbePorts) -> [Value; 3] {
        let metadata = |name: &str| json!({ "name": name, "namespace": self.namespace });
        let ports = [
            ("http", ports.http),
            ("http2", ports.http2),
            ("grpc", ports.grpc),
            ("tcp", ports.tcp),
            ("tcp-server-first", ports.server_first),
            ("tls", ports.tls),
        ];
        let ports = ports.map(|(name, port)| json!({ "name": name, "port": port }));
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
