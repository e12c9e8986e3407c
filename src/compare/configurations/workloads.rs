//! The workloads of an arm: a server, which is a copy of the cluster's own probe, and a client, which is a copy with the load
//! driver beside it. Probe and driver share the client's proxy, so what is judged is what is measured.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use serde_json::{Value, json};

use super::error::{Error, Result};
use super::manifests::{Manifests, WORKLOADS, patch};
use crate::cluster::Cluster;
use crate::compare::Side;
use crate::probe::{self, evidence_label};
use crate::record::Label;
use crate::scope::{CopiedProbe, copied_probe};

/// Label selector of an arm's client.
pub(super) const CLIENT: &str = "app=client";

/// Label selector of an arm's server, unless it is the user's own.
pub(super) const SERVER: &str = "app=server";

/// Label of the pods of both arms, which should run on one node.
const TOGETHER: &str = "meshproof.dev/compared";

/// A limit of processors that throttles nobody, for clusters that refuse a container without one.
const ENOUGH: &str = "4";

/// What the workloads are made of.
#[derive(Debug, Clone)]
pub(super) struct Models {
    /// The pod template of the probe.
    template: Value,
    /// The probe's container.
    container: String,
    /// The ports of the probe's service.
    ports: Value,
    /// Image of the load driver.
    driver: String,
}

impl Models {
    /// Reads the cluster's own probe, and finds the image of the load driver, unless `driver` names it.
    ///
    /// # Errors
    /// [`Error::NoDriver`]. The probe cannot be read.
    pub(super) async fn read(cluster: &Arc<Cluster>, driver: Option<&str>) -> Result<Self> {
        let container = probe::declared(cluster)?.container.clone();
        let CopiedProbe { service, deployment, .. } = copied_probe(cluster, "").await?;
        let driver = match driver {
            Some(image) => image.to_owned(),
            None => of_bench(cluster).await?,
        };
        let (template, ports) = (deployment["spec"]["template"].clone(), service["spec"]["ports"].clone());
        Ok(Self { template, container, ports, driver })
    }

    /// The service accounts, the server's service and both deployments, as the manifests patch them.
    pub(super) fn objects(&self, namespace: &str, manifests: &Manifests) -> Vec<Value> {
        let metadata = |name: &str| json!({ "name": name, "namespace": namespace });
        let mut objects: Vec<Value> = WORKLOADS
            .map(|name| json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata(name) }))
            .into();
        let mut service = metadata("server");
        // The other arm must not see it: its proxies would be given this arm's configuration.
        service["annotations"] = json!({ "networking.istio.io/exportTo": "." });
        objects.push(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": service,
            "spec": { "selector": { "app": "server" }, "ports": self.ports },
        }));
        for name in WORKLOADS {
            let mut deployment = json!({
                "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata(name),
                "spec": {
                    "replicas": 1,
                    "selector": { "matchLabels": { "app": name } },
                    "strategy": { "type": "Recreate" },
                    "template": self.pod(name),
                },
            });
            if let Some(change) = manifests.patch(name, namespace) {
                patch(&mut deployment, &change);
            }
            objects.push(deployment);
        }
        objects
    }

    /// The pod template of a workload.
    fn pod(&self, name: &str) -> Value {
        let mut template = self.template.clone();
        let annotations = template["metadata"]["annotations"].take();
        template["metadata"] = json!({ "labels": { "app": name, TOGETHER: "true" } });
        if annotations.is_object() {
            template["metadata"]["annotations"] = annotations;
        }
        // Its log would be part of what is measured.
        let Label { key, .. } = evidence_label();
        template["metadata"]["labels"].as_object_mut().map(|labels| labels.remove(&key));
        let spec = &mut template["spec"];
        spec["serviceAccountName"] = name.into();
        spec["terminationGracePeriodSeconds"] = 1.into();
        spec["affinity"] = json!({ "podAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": [{
            "weight": 100,
            "podAffinityTerm": {
                "labelSelector": { "matchLabels": { TOGETHER: "true" } },
                "namespaceSelector": {},
                "topologyKey": "kubernetes.io/hostname",
            },
        }] } });
        for container in spec["containers"].as_array_mut().into_iter().flatten() {
            if container["name"] == self.container.as_str() {
                // A share of processor time, so that the server does not wait for the proxies; and no throttling.
                container["resources"]["requests"]["cpu"] = "30m".into();
                container["resources"]["limits"]["cpu"] = ENOUGH.into();
            }
        }
        if name == "client"
            && let Some(containers) = spec["containers"].as_array_mut()
        {
            containers.push(self.driver());
        }
        template
    }

    /// The container of the load driver. It only waits: a driver is started in it for each run.
    fn driver(&self) -> Value {
        json!({
            "name": "client",
            "image": self.driver,
            "imagePullPolicy": "IfNotPresent",
            "args": ["serve", "--listen", "127.0.0.1:9999"],
            "securityContext": {
                "runAsNonRoot": true,
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": { "drop": ["ALL"] },
                "seccompProfile": { "type": "RuntimeDefault" },
            },
            // A large share of processor time: the driver must notice an answer at once.
            "resources": {
                "requests": { "cpu": "220m", "memory": "16Mi" }, "limits": { "cpu": ENOUGH, "memory": "128Mi" },
            },
        })
    }
}

/// The image of the load driver in the record, or in the testbed's own bench.
async fn of_bench(cluster: &Arc<Cluster>) -> Result<String> {
    if let Some((_, deployment)) = cluster.record().bench_to_deploy() {
        return Ok(deployment.image.clone());
    }
    let lacking = || Error::NoDriver { cluster: cluster.name().into() };
    let home = Side::Naked.namespace(cluster).map_err(|_| lacking())?;
    let client = cluster.api::<Deployment>(home).get_opt("client").await;
    let client = client.map_err(cluster.failed(format!("find the load driver's image: deployment {home}/client")))?;
    let spec = client.and_then(|client| client.spec?.template.spec);
    spec.and_then(|spec| spec.containers.into_iter().next()?.image).ok_or_else(lacking)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn models() -> Models {
        let probe =
            json!({ "name": "probe", "image": "probe:1", "resources": { "limits": { "cpu": "1", "memory": "1Mi" } } });
        Models {
            template: json!({
                "metadata": { "labels": { "app": "probe", "meshproof.dev/evidence": "both-ends" } },
                "spec": { "containers": [probe] },
            }),
            container: "probe".into(),
            ports: json!([{ "name": "http", "port": 8080 }]),
            driver: "load:1".into(),
        }
    }

    #[test]
    fn both_arms_have_the_same_workloads_but_for_the_namespace_and_the_declared_patch() {
        let patch = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: client}, spec: {template: {metadata: \
                     {annotations: {proxy.istio.io/config: 'concurrency: 1'}}}}}";
        let patched = Manifests::parse(patch, Path::new("p")).unwrap();
        let (plain, changed) = (models().objects("a", &Manifests::default()), models().objects("a", &patched));
        assert_eq!(plain.len(), 5);
        assert_eq!(plain[..3], changed[..3]);
        assert_eq!(plain[4], changed[4], "the server is not patched");
        let annotation = "/spec/template/metadata/annotations/proxy.istio.io~1config";
        assert_eq!(changed[3].pointer(annotation).unwrap(), "concurrency: 1");
        assert_eq!(changed[3]["metadata"], json!({ "name": "client", "namespace": "a" }));
        let other = json!(models().objects("b", &Manifests::default())).to_string();
        assert_eq!(json!(plain).to_string().replace("\"a\"", "\"b\""), other);
    }

    #[test]
    fn the_driver_runs_beside_the_clients_probe_and_nobody_is_throttled() {
        let pod = models().pod("client");
        let names: Vec<&str> =
            pod["spec"]["containers"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["probe", "client"]);
        let limits = pod.pointer("/spec/containers/0/resources/limits").unwrap();
        assert_eq!(limits, &json!({ "cpu": ENOUGH, "memory": "1Mi" }));
        assert!(pod.pointer("/metadata/labels/meshproof.dev~1evidence").is_none());
        assert_eq!(models().pod("server")["spec"]["containers"].as_array().unwrap().len(), 1);
    }
}
