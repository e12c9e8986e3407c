//! Workloads that are unlike the probe in one respect.

use std::sync::Arc;
use std::time::Duration;

use meshproof::istio::issue;
use meshproof::k8s_openapi::api::apps::v1::Deployment;
use meshproof::probe;
use meshproof::{Cluster, Error, Scope, Workload};
use serde_json::{Value, json};

/// Longest wait for a pod.
const READY: Duration = Duration::from_secs(90);

/// Where workloads are made: a namespace of the test's own, in which a probe runs that they are copies of.
pub(crate) struct Place<'a> {
    pub(crate) scope: &'a Scope,
    pub(crate) cluster: &'a Arc<Cluster>,
    pub(crate) namespace: &'a str,
}

impl Place<'_> {
    /// Applies an object into the namespace.
    pub(crate) async fn apply(&self, mut object: Value) -> Result<(), Error> {
        object["metadata"]["namespace"] = self.namespace.into();
        self.scope.apply(self.cluster, &mut object).await
    }

    /// A policy for the pods of one workload.
    pub(crate) async fn policy(&self, name: &str, app: &str, mut spec: Value) -> Result<(), Error> {
        spec["selector"] = json!({ "matchLabels": { "app": app } });
        let kind = json!({ "apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication" });
        let mut object = kind;
        object["metadata"] = json!({ "name": name });
        object["spec"] = spec;
        self.apply(object).await
    }

    /// The template of a pod like the probe's, with a label of its own and two declared ports.
    pub(crate) async fn template(&self, app: &str) -> Result<Value, Error> {
        let model = &probe::declared(self.cluster)?.meshed;
        let found = self.cluster.api::<Deployment>(self.namespace).get(&model.deployment).await;
        let found = found.map_err(self.cluster.failed(format!("read deployment {}", model.deployment)))?;
        let spec = found.spec.and_then(|spec| spec.template.spec);
        let mut spec = serde_json::to_value(spec).map_err(Error::suite)?;
        let ports = probe::declared(self.cluster)?.ports;
        spec["containers"][0]["ports"] = json!([
            { "name": "http", "containerPort": ports.http },
            { "name": "tcp", "containerPort": ports.tcp },
        ]);
        Ok(json!({ "metadata": { "labels": { "app": app } }, "spec": spec }))
    }

    /// A Deployment of one pod, and its service.
    pub(crate) async fn deployment(&self, app: &str, template: Value) -> Result<(), Error> {
        self.service(app, false).await?;
        self.apply(json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": app },
            "spec": { "replicas": 1, "selector": { "matchLabels": { "app": app } }, "template": template },
        }))
        .await
    }

    /// A StatefulSet of one pod, and its headless service.
    pub(crate) async fn stateful_set(&self, app: &str, template: Value) -> Result<(), Error> {
        self.service(app, true).await?;
        self.apply(json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": { "name": app },
            "spec": {
                "replicas": 1, "serviceName": app, "selector": { "matchLabels": { "app": app } }, "template": template,
            },
        }))
        .await
    }

    async fn service(&self, app: &str, headless: bool) -> Result<(), Error> {
        let ports = probe::declared(self.cluster)?.ports;
        let mut spec = json!({
            "selector": { "app": app },
            "ports": [{ "name": "http", "port": ports.http }, { "name": "tcp", "port": ports.tcp }],
        });
        if headless {
            spec["clusterIP"] = "None".into();
        }
        self.apply(json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": app }, "spec": spec })).await
    }

    /// A Job whose pod ends at once.
    pub(crate) async fn job(&self, app: &str, mut template: Value) -> Result<(), Error> {
        template["metadata"]["labels"]["sidecar.istio.io/inject"] = "false".into();
        template["spec"]["restartPolicy"] = "Never".into();
        template["spec"]["containers"][0]["args"] = json!(["dial", "[]"]);
        for asked in ["startupProbe", "readinessProbe"] {
            template["spec"]["containers"][0][asked] = Value::Null;
        }
        self.apply(json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": app },
            "spec": { "backoffLimit": 0, "template": template },
        }))
        .await
    }

    /// A Deployment whose proxy has the certificate of another service account mounted, and serves it.
    pub(crate) async fn borrower(&self, app: &str, lender: &str) -> Result<(), Error> {
        let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": lender } });
        self.apply(account).await?;
        let lent = Workload {
            cluster: Arc::clone(self.cluster),
            namespace: self.namespace.into(),
            pod: lender.into(),
            address: String::new(),
            service_account: lender.into(),
            node: String::new(),
        };
        let certificate = issue(&self.scope.testbed, &lent).await?;
        let files = json!({
            "cert-chain.pem": certificate.chain_pem, "key.pem": certificate.key_pem,
            "root-cert.pem": self.scope.testbed.record.mesh.trust.roots.concat(),
        });
        let metadata = json!({ "name": lender });
        let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": files });
        self.apply(secret).await?;
        let mut template = self.template(app).await?;
        // Istio's agent prefers certificates that it finds there to those that it would ask for.
        let (volume, mount) = (
            json!([{ "name": "lent", "secret": { "secretName": lender } }]),
            json!([{ "name": "lent", "mountPath": "/etc/certs", "readOnly": true }]),
        );
        template["metadata"]["annotations"] = json!({
            "sidecar.istio.io/userVolume": volume.to_string(),
            "sidecar.istio.io/userVolumeMount": mount.to_string(),
        });
        self.deployment(app, template).await
    }

    /// Waits until the pods of these workloads are ready.
    pub(crate) async fn ready(&self, apps: &[&str]) -> Result<(), Error> {
        for app in apps {
            let selector = format!("app={app}");
            Workload::await_ready(self.cluster, self.namespace, &selector, READY).await?;
        }
        Ok(())
    }
}
