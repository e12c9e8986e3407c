//! The objects of probes that a suite must deploy. They comply with Pod Security `restricted`.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, EnvVar, EnvVarSource, HTTPGetAction, LocalObjectReference, ObjectFieldSelector,
    PodSecurityContext, PodSpec, PodTemplateSpec, Probe as ContainerProbe, ResourceRequirements, SeccompProfile,
    Secret, SecurityContext, Service, ServiceAccount, ServicePort, ServiceSpec,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use meshproof_probe::port;

use crate::cluster::{Cluster, Result};
use crate::record::{self, Label, Probe, ProbeDeployment, ProbePorts, Probes};

/// Label of everything that belongs to the deployed probes.
pub const PROBES_LABEL: &str = "meshproof.dev/probes";

/// Value of [`PROBES_LABEL`].
const DEPLOYED: &str = "deployed";

/// Label of a probe's pods with the cluster. A probe's service selects the pods of one cluster.
const CLUSTER_LABEL: &str = "meshproof.dev/cluster";

/// Name of the copied Secret with the credentials for the registry.
pub(crate) const PULL_SECRET: &str = "meshproof-pull";

/// The label of the meshed probes' pods, for the object that enables their evidence log.
pub fn evidence_label() -> Label {
    Label { key: "meshproof.dev/evidence".into(), value: "both-ends".into() }
}

/// Labels of an object of the probes.
pub(crate) fn labels() -> BTreeMap<String, String> {
    [(PROBES_LABEL.to_owned(), DEPLOYED.to_owned())].into()
}

/// The probes to deploy in one cluster.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan<'a> {
    pub(crate) cluster: &'a record::Cluster,
    pub(crate) probes: &'a Probes,
    pub(crate) deployment: &'a ProbeDeployment,
}

impl<'a> Plan<'a> {
    /// The plan for a cluster. `None` if its probes need no deployment.
    pub(crate) fn of(cluster: &'a record::Cluster) -> Option<Self> {
        let (probes, deployment) = cluster.to_deploy()?;
        Some(Self { cluster, probes, deployment })
    }

    /// The namespaces of the probes, each with whether it is in the mesh.
    pub(crate) fn namespaces(&self) -> BTreeMap<&'a str, bool> {
        self.probes.each().map(|(probe, meshed)| (probe.namespace.as_str(), meshed)).into()
    }

    /// The service accounts. Meshed probes have identities of their own.
    pub(crate) fn accounts(&self) -> Vec<ServiceAccount> {
        let of = |probe: &Probe| ServiceAccount {
            metadata: metadata(&self.account(probe), &probe.namespace),
            ..ServiceAccount::default()
        };
        self.probes.each().map(|(probe, _)| of(probe)).into()
    }

    /// The deployments.
    pub(crate) fn deployments(&self) -> Vec<Deployment> {
        self.probes.each().map(|(probe, meshed)| self.deployment(probe, meshed)).into()
    }

    /// The service of the meshed probe, for every cluster: its name resolves everywhere.
    pub(crate) fn meshed_service(&self) -> Option<Service> {
        self.service(&self.probes.meshed)
    }

    /// The service of the naked probe, for its own cluster.
    pub(crate) fn naked_service(&self) -> Option<Service> {
        self.service(&self.probes.naked)
    }

    fn service(&self, probe: &Probe) -> Option<Service> {
        let name = probe.service_name(&self.cluster.domain)?;
        let spec = ServiceSpec {
            selector: Some(self.pod_labels(probe)),
            ports: Some(service_ports(&self.probes.ports)),
            ..ServiceSpec::default()
        };
        Some(Service { metadata: metadata(name, &probe.namespace), spec: Some(spec), ..Service::default() })
    }

    fn account(&self, probe: &Probe) -> String {
        let role = if *probe == self.probes.caller { "caller" } else { "probe" };
        format!("{role}-{}", legal(&self.cluster.name))
    }

    fn pod_labels(&self, probe: &Probe) -> BTreeMap<String, String> {
        let mut labels = probe.labels().unwrap_or_default();
        labels.insert(CLUSTER_LABEL.into(), legal(&self.cluster.name));
        labels
    }

    fn deployment(&self, probe: &Probe, meshed: bool) -> Deployment {
        let mut labels = self.pod_labels(probe);
        let selector = LabelSelector { match_labels: probe.labels(), ..LabelSelector::default() };
        if meshed {
            let Label { key, value } = evidence_label();
            labels.insert(key, value);
        }
        let secret = self.deployment.secret().map(|_| vec![LocalObjectReference { name: PULL_SECRET.into() }]);
        let pod = PodSpec {
            service_account_name: Some(self.account(probe)),
            termination_grace_period_seconds: Some(5),
            image_pull_secrets: secret,
            node_selector: Some([("kubernetes.io/os".to_owned(), "linux".to_owned())].into()),
            security_context: Some(pod_security()),
            containers: vec![self.container()],
            ..PodSpec::default()
        };
        let template = PodTemplateSpec {
            metadata: Some(ObjectMeta { labels: Some(labels), ..ObjectMeta::default() }),
            spec: Some(pod),
        };
        let spec = DeploymentSpec {
            replicas: Some(1),
            selector,
            // A quota may leave no room for two pods. And a pod that cannot start makes way for its successor.
            strategy: Some(DeploymentStrategy { type_: Some("Recreate".into()), rolling_update: None }),
            template,
            ..DeploymentSpec::default()
        };
        let metadata = metadata(&probe.deployment, &probe.namespace);
        Deployment { metadata, spec: Some(spec), ..Deployment::default() }
    }

    fn container(&self) -> Container {
        let get = HTTPGetAction {
            path: Some("/healthz".into()),
            port: IntOrString::Int(port::HEALTH.into()),
            ..HTTPGetAction::default()
        };
        let asked = |every, failures| ContainerProbe {
            http_get: Some(get.clone()),
            period_seconds: Some(every),
            failure_threshold: Some(failures),
            timeout_seconds: Some(5),
            ..ContainerProbe::default()
        };
        Container {
            name: self.probes.container.clone(),
            image: Some(self.deployment.image.clone()),
            image_pull_policy: self.deployment.pull_policy.clone(),
            args: Some(vec!["serve".into()]),
            env: Some(environment(&self.cluster.name)),
            // Asked every second until it has started, and seldom then: with dozens of probes, the kubelet's questions are a
            // load of their own.
            startup_probe: Some(asked(1, 300)),
            readiness_probe: Some(asked(10, 3)),
            resources: Some(ResourceRequirements {
                requests: Some(quantities("1m", "16Mi")),
                limits: Some(quantities("1", "128Mi")),
                ..ResourceRequirements::default()
            }),
            security_context: Some(container_security()),
            ..Container::default()
        }
    }
}

/// The copy for `namespace` of the Secret with the credentials for the registry, if the deployment names one.
///
/// # Errors
/// [`Error::Api`](crate::cluster::Error::Api): the Secret cannot be read.
pub(crate) async fn pull_secret(cluster: &Cluster, namespace: &str) -> Result<Option<Secret>> {
    let named = cluster.record().to_deploy().and_then(|(_, deployment)| deployment.secret());
    let Some((home, name)) = named else { return Ok(None) };
    let found = cluster.api::<Secret>(home).get(name).await;
    let found = found.map_err(cluster.failed(format!("read Secret {home}/{name}")))?;
    let data: Option<BTreeMap<String, ByteString>> = found.data;
    Ok(Some(Secret { metadata: metadata(PULL_SECRET, namespace), type_: found.type_, data, ..Secret::default() }))
}

pub(crate) fn metadata(name: &str, namespace: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.into()),
        namespace: Some(namespace.into()),
        labels: Some(labels()),
        ..ObjectMeta::default()
    }
}

/// The cluster's name as part of a Kubernetes name. A cloud's names have characters that Kubernetes refuses.
pub(crate) fn legal(cluster: &str) -> String {
    record::legal(cluster, 40)
}

fn environment(cluster: &str) -> Vec<EnvVar> {
    let named = EnvVar { name: "CLUSTER".into(), value: Some(cluster.into()), value_from: None };
    let fields = [
        ("POD_NAME", "metadata.name"),
        ("POD_NAMESPACE", "metadata.namespace"),
        ("SERVICE_ACCOUNT", "spec.serviceAccountName"),
        ("NODE_NAME", "spec.nodeName"),
    ];
    let of_pod = fields.map(|(name, path)| {
        let field = ObjectFieldSelector { field_path: path.into(), ..ObjectFieldSelector::default() };
        let source = EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() };
        EnvVar { name: name.into(), value: None, value_from: Some(source) }
    });
    std::iter::once(named).chain(of_pod).collect()
}

/// The ports, with names by which Istio knows the protocols.
fn service_ports(ports: &ProbePorts) -> Vec<ServicePort> {
    ports
        .named()
        .map(|(name, port)| ServicePort { name: Some(name.into()), port: port.into(), ..ServicePort::default() })
        .into()
}

pub(crate) fn quantities(cpu: &str, memory: &str) -> BTreeMap<String, Quantity> {
    [("cpu", cpu), ("memory", memory)].map(|(name, amount)| (name.to_owned(), Quantity(amount.into()))).into()
}

pub(crate) fn pod_security() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".into(), ..SeccompProfile::default() }),
        ..PodSecurityContext::default()
    }
}

pub(crate) fn container_security() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".into()]), ..Capabilities::default() }),
        read_only_root_filesystem: Some(true),
        run_as_non_root: Some(true),
        ..SecurityContext::default()
    }
}

#[cfg(test)]
mod tests;
