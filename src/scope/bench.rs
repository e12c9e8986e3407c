//! The workloads of performance comparisons that suites deploy: in each namespace a client and a server, without pods until
//! a test scales them. They comply with Pod Security `restricted`. fixtures/perf/workloads.yaml has those of `up`, and says
//! why each setting is as it is.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec};
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, HTTPGetAction, LocalObjectReference, PodSpec, PodTemplateSpec, Probe as ReadinessProbe,
    ResourceRequirements, Service, ServicePort, ServiceSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};

use crate::probe::deploy::{PULL_SECRET, container_security, metadata, pod_security, quantities};
use crate::record::{self, BenchDeployment};

/// Port of the server.
const PORT: u16 = 8080;

/// Settings of the server's proxy: two workers, connections that a run spreads evenly over them, and the statistic that
/// shows whether TLS was used.
const SERVER_PROXY: &str = "concurrency: 2\nproxyMetadata:\n  ISTIO_META_IDLE_TIMEOUT: 500ms\n  \
    ISTIO_META_INBOUND_LISTENER_EXACT_BALANCE: \"true\"\nproxyStatsMatcher:\n  inclusionSuffixes: [ssl.handshake]\n";

/// Settings of the client's proxy.
const CLIENT_PROXY: &str = "concurrency: 2\nproxyMetadata:\n  ISTIO_META_OUTBOUND_LISTENER_EXACT_BALANCE: \"true\"\n";

/// The workloads to deploy in one cluster.
#[derive(Debug, Clone, Copy)]
pub(super) struct Benches<'a> {
    cluster: &'a record::Cluster,
    deployment: &'a BenchDeployment,
}

impl<'a> Benches<'a> {
    /// `None` if the cluster's record has no bench, or it stands already.
    pub(super) fn of(cluster: &'a record::Cluster) -> Option<Self> {
        let (_, deployment) = cluster.bench_to_deploy()?;
        Some(Self { cluster, deployment })
    }

    /// The namespaces, each with whether it is in the mesh.
    pub(super) fn namespaces(&self) -> BTreeMap<&'a str, bool> {
        self.cluster.bench.iter().flat_map(record::Bench::each).collect()
    }

    /// The servers' services.
    pub(super) fn services(&self) -> Vec<Service> {
        let spec = || ServiceSpec {
            selector: Some(app("server")),
            ports: Some(vec![ServicePort { name: Some("http".into()), port: PORT.into(), ..ServicePort::default() }]),
            ..ServiceSpec::default()
        };
        let namespaces = self.namespaces().into_keys();
        let of =
            |namespace| Service { metadata: metadata("server", namespace), spec: Some(spec()), ..Service::default() };
        namespaces.map(of).collect()
    }

    /// Ends the connections between the proxies between runs, so that each run spreads its connections anew.
    pub(super) fn rules(&self) -> Vec<Value> {
        let domain = &self.cluster.domain;
        let of = |namespace: &str| {
            json!({
                "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
                "metadata": { "name": "server", "namespace": namespace },
                "spec": {
                    "host": format!("server.{namespace}.svc.{domain}"),
                    "trafficPolicy": { "connectionPool": { "http": { "idleTimeout": "300ms" } } },
                    // The twins do not see each other.
                    "exportTo": ["."],
                },
            })
        };
        self.namespaces().into_keys().map(of).collect()
    }

    /// A client and a server in each namespace, with no pod.
    pub(super) fn deployments(&self) -> Vec<Deployment> {
        let both = |namespace| [self.server(namespace), self.client(namespace)];
        self.namespaces().into_keys().flat_map(both).collect()
    }

    fn server(&self, namespace: &str) -> Deployment {
        let get = HTTPGetAction { path: Some("/".into()), port: IntOrString::Int(PORT.into()), ..Default::default() };
        let container = Container {
            ports: Some(vec![ContainerPort {
                name: Some("http".into()),
                container_port: PORT.into(),
                ..ContainerPort::default()
            }]),
            readiness_probe: Some(ReadinessProbe {
                http_get: Some(get),
                period_seconds: Some(1),
                failure_threshold: Some(60),
                ..ReadinessProbe::default()
            }),
            ..self.container("server", &format!("0.0.0.0:{PORT}"), "30m")
        };
        self.workload(namespace, container, SERVER_PROXY)
    }

    /// The container only waits: a test starts the driver in it.
    fn client(&self, namespace: &str) -> Deployment {
        self.workload(namespace, self.container("client", "127.0.0.1:9999", "220m"), CLIENT_PROXY)
    }

    fn container(&self, name: &str, listen: &str, cpu: &str) -> Container {
        Container {
            name: name.into(),
            image: Some(self.deployment.image.clone()),
            image_pull_policy: self.deployment.pull_policy.clone(),
            args: Some(["serve", "--listen", listen].map(str::to_owned).into()),
            resources: Some(ResourceRequirements {
                requests: Some(quantities(cpu, "16Mi")),
                // Throttles nobody: each has few threads.
                limits: Some(quantities("4", "128Mi")),
                ..ResourceRequirements::default()
            }),
            security_context: Some(container_security()),
            ..Container::default()
        }
    }

    fn workload(&self, namespace: &str, container: Container, proxy: &str) -> Deployment {
        let name = container.name.clone();
        let secret = self.cluster.to_deploy().and_then(|(_, probes)| probes.secret());
        let pod = PodSpec {
            termination_grace_period_seconds: Some(1),
            enable_service_links: Some(false),
            automount_service_account_token: Some(false),
            image_pull_secrets: secret.map(|_| vec![LocalObjectReference { name: PULL_SECRET.into() }]),
            node_selector: Some([("kubernetes.io/os".to_owned(), "linux".to_owned())].into()),
            security_context: Some(pod_security()),
            containers: vec![container],
            ..PodSpec::default()
        };
        let annotations = [("proxy.istio.io/config".to_owned(), proxy.to_owned())].into();
        let of_pod = ObjectMeta { labels: Some(app(&name)), annotations: Some(annotations), ..ObjectMeta::default() };
        let spec = DeploymentSpec {
            replicas: Some(0),
            selector: LabelSelector { match_labels: Some(app(&name)), ..LabelSelector::default() },
            template: PodTemplateSpec { metadata: Some(of_pod), spec: Some(pod) },
            ..DeploymentSpec::default()
        };
        Deployment { metadata: metadata(&name, namespace), spec: Some(spec), ..Deployment::default() }
    }
}

fn app(name: &str) -> BTreeMap<String, String> {
    [("app".to_owned(), name.to_owned())].into()
}

/// Whether suites deploy this namespace of a cluster for performance comparisons: all in it is meshproof's own.
pub(super) fn is_own(cluster: &record::Cluster, namespace: &str) -> bool {
    Benches::of(cluster).is_some_and(|benches| benches.namespaces().contains_key(namespace))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::deploy;
    use crate::record::ProbeDeployment;
    use crate::record::tests::cluster;

    fn to_deploy() -> record::Cluster {
        let mut cluster = cluster("east");
        let image = || "registry.example/load:1".to_owned();
        let pull_secret = Some("vault/registry".to_owned());
        cluster.probes.as_mut().unwrap().deployment =
            Some(ProbeDeployment { image: image(), pull_policy: None, pull_secret });
        cluster.bench.as_mut().unwrap().deployment = Some(BenchDeployment { image: image(), pull_policy: None });
        cluster
    }

    #[test]
    fn every_pod_complies_with_pod_security_restricted_and_has_limits_and_the_pull_secret() {
        let cluster = to_deploy();
        let deployments = Benches::of(&cluster).unwrap().deployments();
        assert_eq!(deployments.len(), 8);
        for deployment in deployments {
            assert_eq!(deployment.metadata.labels, Some(deploy::labels()));
            let spec = deployment.spec.unwrap();
            assert_eq!(spec.replicas, Some(0), "a test scales it");
            let pod = spec.template.spec.unwrap();
            assert_eq!(pod.image_pull_secrets.unwrap()[0].name, PULL_SECRET);
            assert_eq!(pod.security_context.unwrap().run_as_non_root, Some(true));
            let [container] = pod.containers.as_slice() else { panic!("one container") };
            assert_eq!(container.image.as_deref(), Some("registry.example/load:1"));
            let security = container.security_context.as_ref().unwrap();
            assert_eq!(security.allow_privilege_escalation, Some(false));
            let resources = container.resources.as_ref().unwrap();
            for amounts in [&resources.requests, &resources.limits] {
                assert!(["cpu", "memory"].iter().all(|name| amounts.as_ref().unwrap().contains_key(*name)));
            }
        }
    }

    #[test]
    fn a_bench_that_stands_already_is_not_deployed_and_its_namespaces_are_not_ours() {
        let mut cluster = to_deploy();
        assert!(is_own(&cluster, "meshproof-perf-naked") && !is_own(&cluster, "pinnacle"));
        cluster.bench.as_mut().unwrap().deployment = None;
        assert!(Benches::of(&cluster).is_none() && !is_own(&cluster, "meshproof-perf-naked"));
    }
}
