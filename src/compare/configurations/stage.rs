//! The two arms in a cluster: for each a namespace of our own, with a client and a server.

use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use futures::try_join;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::DeleteParams;
use meshproof_probe::wire::WHOAMI_PATH;
use serde_json::{Value, json};

use super::error::{Error, Result};
use super::manifests::{Manifests, NAMESPACE};
use super::plan::{Compare, OwnService};
use super::workloads::{self, Models};
use crate::cluster::{Cluster, Seen, Workload, is_ready};
use crate::compare::Bench;
use crate::judge::Arm;
use crate::probe::{self, Protocol};
use crate::record::Label;
use crate::scope::{Scope, labels_of};

/// Longest wait for the pods of both arms.
const READY: Duration = Duration::from_secs(180);

/// Labels that say which control plane injects, and whether.
const INJECTING: [&str; 2] = ["istio-injection", "istio.io/rev"];

/// One arm.
#[derive(Debug, Clone)]
pub(super) struct Twin {
    pub(super) cluster: Arc<Cluster>,
    pub(super) namespace: String,
    pub(super) client: Workload,
    pub(super) server: Workload,
    /// What the client calls: DNS name and port.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) path: String,
    /// Whether the server is the user's own, and no probe.
    pub(super) is_own: bool,
    /// Label selector of the server's pod.
    selector: String,
}

/// Both arms.
#[derive(Debug, Clone)]
pub(super) struct Twins {
    pub(super) control: Twin,
    pub(super) treatment: Twin,
}

impl Twins {
    /// Deploys both arms side by side.
    ///
    /// # Errors
    /// A side does not declare the user's service as it must. An object cannot be applied. A pod does not become ready.
    pub(super) async fn deploy(scope: &Scope, cluster: &Arc<Cluster>, compare: &Compare) -> Result<Self> {
        // Before anything is written.
        if let Some(own) = &compare.service {
            for side in [Arm::Control, Arm::Treatment] {
                own.checked(compare.sides.side(side), side)?;
            }
        }
        let models = Models::read(cluster, compare.driver.as_deref()).await?;
        // Names of one length, so that no text in an arm is longer than its twin.
        let (control, treatment) = try_join!(
            place(scope, cluster, "control-arm", &compare.sides.control, &models),
            place(scope, cluster, "treated-arm", &compare.sides.treatment, &models),
        )?;
        let of = |arm, namespace: String| settled(cluster, compare, arm, namespace);
        let (control, treatment) = try_join!(of(Arm::Control, control), of(Arm::Treatment, treatment))?;
        Ok(Self { control, treatment })
    }

    pub(super) fn both(&self) -> [&Twin; 2] {
        [&self.control, &self.treatment]
    }

    /// Both arms with new pods.
    ///
    /// # Errors
    /// A pod cannot be deleted, or its successor does not become ready.
    pub(super) async fn renewed(self) -> Result<Self> {
        let (control, treatment) = try_join!(self.control.renewed(), self.treatment.renewed())?;
        Ok(Self { control, treatment })
    }

    /// Both arms, one of them with new pods.
    ///
    /// # Errors
    /// The errors of [`Twins::renewed`].
    pub(super) async fn with_renewed(self, arm: Arm) -> Result<Self> {
        Ok(match arm {
            Arm::Control => Self { control: self.control.renewed().await?, ..self },
            Arm::Treatment => Self { treatment: self.treatment.renewed().await?, ..self },
        })
    }
}

impl Twin {
    /// The bench that measures this arm.
    pub(super) fn bench(&self) -> Bench {
        Bench::of(self.client.clone(), self.server.clone(), format!("{}:{}", self.host, self.port))
    }

    /// The arm with new pods.
    ///
    /// # Errors
    /// The errors of [`Twins::renewed`].
    async fn renewed(self) -> Result<Self> {
        let pods = self.cluster.api::<Pod>(&self.namespace);
        let deleting =
            [&self.client, &self.server].map(async |pod| match pods.delete(&pod.pod, &DeleteParams::default()).await {
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
                deleted => {
                    deleted.map(drop).map_err(self.cluster.failed(format!("delete pod {}/{}", pod.namespace, pod.pod)))
                }
            });
        try_join_all(deleting).await?;
        let at = |selector| only(&self.cluster, &self.namespace, selector);
        let (client, server) = try_join!(at(workloads::CLIENT), at(&self.selector))?;
        Ok(Self { client, server, ..self })
    }
}

/// Makes the namespace of an arm, and all in it. The pods come last: their proxies are injected as the rest says.
async fn place(
    scope: &Scope,
    cluster: &Arc<Cluster>,
    purpose: &str,
    manifests: &Manifests,
    models: &Models,
) -> Result<String> {
    let namespace = scope.namespace(cluster, purpose, &labels(cluster, manifests)).await?;
    if let Some(secret) = probe::deploy::pull_secret(cluster, &namespace).await? {
        let mut secret = serde_json::to_value(secret).map_err(crate::scope::Error::suite)?;
        scope.apply(cluster, &mut secret).await?;
    }
    let (pods, others): (Vec<Value>, Vec<Value>) =
        manifests.in_namespace(&namespace).into_iter().partition(|object| object["kind"] == "Deployment");
    scope.apply_all(cluster, others).await?;
    let mut own = models.objects(&namespace, manifests);
    own.extend(pods.into_iter().map(alone));
    scope.apply_all(cluster, own).await?;
    Ok(namespace)
}

/// The labels of an arm's namespace: the record's, and those that the manifests declare in their place.
fn labels(cluster: &Cluster, manifests: &Manifests) -> Vec<Label> {
    let declared = manifests.namespace_labels();
    let injects = INJECTING.iter().any(|label| declared.contains_key(*label));
    let istio = &cluster.record().istio;
    let replaced = |label: &Label| declared.contains_key(&label.key) || (injects && label.key == istio.injection.key);
    let of_record = labels_of(istio, true).into_iter().filter(|label| !replaced(label));
    of_record.chain(declared.iter().map(|(key, value)| Label { key: key.clone(), value: value.clone() })).collect()
}

/// A Deployment of the user with one pod: the costs are read of one.
fn alone(mut deployment: Value) -> Value {
    deployment["spec"]["replicas"] = 1.into();
    deployment
}

/// The arm in `namespace`, once its pods are ready.
async fn settled(cluster: &Arc<Cluster>, compare: &Compare, arm: Arm, namespace: String) -> Result<Twin> {
    let Compare { sides, service, .. } = compare;
    let selector = match service {
        None => workloads::SERVER.to_owned(),
        Some(own) => own.selector(sides.side(arm), arm, &namespace)?,
    };
    let (client, server) =
        try_join!(only(cluster, &namespace, workloads::CLIENT), only(cluster, &namespace, &selector))?;
    let domain = &cluster.record().domain;
    let (name, port, path) = match service {
        None => ("server", probe::port(cluster, Protocol::Http1)?, WHOAMI_PATH.to_owned()),
        Some(OwnService { name, port, path }) => (name.as_str(), *port, path.replace(NAMESPACE, &namespace)),
    };
    let host = format!("{name}.{namespace}.svc.{domain}");
    let cluster = Arc::clone(cluster);
    Ok(Twin { cluster, namespace, client, server, host, port, path, is_own: service.is_some(), selector })
}

/// The only pod that the selector selects, once it is ready, and alone: its predecessor's costs are not its own.
async fn only(cluster: &Arc<Cluster>, namespace: &str, selector: &str) -> Result<Workload> {
    let want = format!("one ready pod `{selector}` in {namespace} of {}", cluster.name());
    let ready = cluster.await_pods(namespace, selector, want, READY, |pods| {
        let ready = match pods {
            [pod] if is_ready(pod) => Workload::of(cluster, pod),
            _ => None,
        };
        let names = || pods.iter().map(|pod| pod.name_any()).collect::<Vec<_>>().join(", ");
        ready.map_or_else(|| Seen::NotYet(format!("{} pods: {}", pods.len(), names())), Seen::Yes)
    });
    Ok(ready.await?)
}

/// What stands in a hint: the labels of the pods of an arm.
pub(super) async fn labels_of_pods(twin: &Twin) -> Result<Vec<Value>> {
    let pods = twin.cluster.api::<Pod>(&twin.namespace);
    let reading = [&twin.client, &twin.server].map(async |workload| {
        let pod = pods.get(&workload.pod).await;
        let pod = pod.map_err(twin.cluster.failed(format!("read pod {}/{}", workload.namespace, workload.pod)))?;
        Ok::<_, Error>(json!(pod.labels()))
    });
    try_join_all(reading).await
}
