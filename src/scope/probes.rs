//! Probes deployed by a test.

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
    let model = &probe::declared(cluster)?.meshed;
    let CopiedProbe { mut account, mut service, mut deployment } = copied_probe(cluster, namespace).await?;
    if let Some(secret) = probe::deploy::pull_secret(cluster, namespace).await? {
        let mut secret = serde_json::to_value(secret).map_err(Error::suite)?;
        scope.apply(cluster, &mut secret).await?;
    }
    for object in [&mut account, &mut service, &mut deployment] {
        scope.apply(cluster, object).await?;
    }
    rollout::available(cluster, &record::Probe { namespace: namespace.into(), ..model.clone() }).await?;
    Ok(Workload::find(cluster, namespace, &model.selector).await?)
}

/// The objects of a copied probe.
#[derive(Debug, Clone)]
pub struct CopiedProbe {
    /// The service account.
    pub account: Value,
    /// The service, with the probe's name.
    pub service: Value,
    /// The deployment.
    pub deployment: Value,
}

/// A copy of a cluster's meshed probe for `namespace`, for a test that changes the copy, or applies a part of it: the
/// service alone, for example, in a cluster that only calls.
///
/// # Errors
/// The errors of [`deploy_probe`].
pub async fn copied_probe(cluster: &Arc<Cluster>, namespace: &str) -> Result<CopiedProbe> {
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
    let [account, service, deployment] = copy.objects(&probes.ports);
    Ok(CopiedProbe { account, service, deployment })
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
        let ports = ports.named().map(|(name, port)| json!({ "name": name, "port": port }));
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
