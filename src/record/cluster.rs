//! A cluster in the record.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Error, HostPort, Result};

/// One cluster of the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// Name in the mesh (Istio's `clusterName`).
    pub name: String,
    /// Istio's network name. Workloads of one network reach each other's addresses.
    pub network: String,
    /// Kubeconfig file, absolute or relative to the record's directory.
    pub kubeconfig: PathBuf,
    /// Context in the kubeconfig file.
    pub context: String,
    /// Domain of the cluster's services, for example `cluster.local`.
    pub domain: String,
    /// Address families of the cluster's pods.
    pub address_families: Vec<AddressFamily>,
    /// The cluster's Istio installation.
    pub istio: Istio,
    /// The cluster's gateways.
    pub gateways: Gateways,
    /// CAs that sign the cluster's workload certificates. Empty if the root signs them, or if the issuer is unknown
    /// until a workload sends its chain.
    #[serde(default)]
    pub issuers: Vec<Issuer>,
    /// Pods that dial and answer for suites.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probes: Option<Probes>,
    /// Namespaces with clients and servers for performance comparisons.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bench: Option<Bench>,
    /// Namespace of the Lease that prevents two runs from judging the mesh at once. `None` if no Lease may be written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_namespace: Option<String>,
}

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AddressFamily {
    /// IPv4.
    #[serde(rename = "IPv4")]
    Ipv4,
    /// IPv6.
    #[serde(rename = "IPv6")]
    Ipv6,
}

/// A cluster's Istio installation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Istio {
    /// Namespace of the control plane, for example `istio-system`.
    pub namespace: String,
    /// Revision of the control plane. `None` for the default revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Label that enables injection for a namespace's pods.
    pub injection: Label,
    /// istiod.
    pub control_plane: ControlPlane,
    /// The workloads' proxies.
    pub proxy: Proxy,
    /// Access log of the proxies, for suites to read. `None` if proxies write none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_log: Option<AccessLog>,
}

/// A label and its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Label {
    /// Key.
    pub key: String,
    /// Value.
    pub value: String,
}

/// Address of istiod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ControlPlane {
    /// Label selector of istiod's pods, for example `app=istiod`.
    pub selector: String,
    /// TLS port for workloads, usually 15012.
    pub port: u16,
    /// Server name in istiod's certificate.
    pub server_name: String,
}

/// The proxy of a workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proxy {
    /// Name of the container, for example `istio-proxy`.
    pub container: String,
    /// The agent's program in the container, for example `pilot-agent`.
    pub agent: String,
    /// Whether the proxy is a native sidecar (an init container that keeps running).
    pub native_sidecar: bool,
    /// Whether an init container redirects the pod's traffic to the proxy. The init container needs capabilities that
    /// Pod Security `restricted` refuses. With Istio CNI there is no such container.
    #[serde(default)]
    pub init_container: bool,
}

/// How proxies are told to write an access log to standard output, one JSON object per line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AccessLog {
    /// By a `Telemetry` object that enables the provider with this name in the mesh config.
    Provider(String),
    /// By an `EnvoyFilter` in the namespace of the workloads. The mesh config has no part in it, so a mesh that is not
    /// ours can stay as it is. Gateways log nothing.
    Filter,
}

/// The gateways of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gateways {
    /// Entry for clients from outside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<Gateway>,
    /// Entry for workloads of other networks. `None` in a single-network mesh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eastwest: Option<Gateway>,
}

/// A gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gateway {
    /// Namespace.
    pub namespace: String,
    /// Name of the object that runs it: a Deployment, unless `kind` says otherwise.
    pub deployment: String,
    /// Kind of that object.
    #[serde(default, skip_serializing_if = "GatewayKind::is_deployment")]
    pub kind: GatewayKind,
    /// Label selector of the gateway's pods, for example `istio=eastwestgateway`.
    pub selector: String,
    /// Port that the gateway's pods listen on.
    pub port: u16,
    /// Address of the port for clients: this machine for an ingress gateway, workloads of the other clusters for an
    /// east-west gateway. `None` if the clients cannot reach the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<HostPort>,
}

impl Gateway {
    /// The object that runs the gateway, as `KIND NAMESPACE/NAME`.
    pub fn object(&self) -> String {
        format!("{} {}/{}", self.kind, self.namespace, self.deployment)
    }
}

/// Kind of the object that runs a gateway.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum GatewayKind {
    /// Some pods, wherever there is room.
    #[default]
    Deployment,
    /// A pod on each node.
    DaemonSet,
}

impl GatewayKind {
    fn is_deployment(&self) -> bool {
        *self == Self::Deployment
    }
}

impl fmt::Display for GatewayKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deployment => "Deployment",
            Self::DaemonSet => "DaemonSet",
        })
    }
}

/// A certificate authority that signs workload certificates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Issuer {
    /// PEM, one certificate per entry: first the certificate that signs workloads, then its parents, without the root.
    pub certificates: Vec<String>,
    /// Private key of the first certificate, if this machine has it. Absolute or relative to the record's directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// Private key of the authority that signed the first certificate: of the second one, or of the root. As above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_key: Option<PathBuf>,
}

/// Pods that dial and answer for suites.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probes {
    /// Container with `/probe`.
    pub container: String,
    /// Ports of the probes, the same for pods and services.
    pub ports: ProbePorts,
    /// Probe in the mesh. Answers calls, and has a service with the same name in every cluster.
    pub meshed: Probe,
    /// Probe in the mesh with its own identity. Only makes calls, so that a call within a cluster crosses two proxies.
    pub caller: Probe,
    /// Probe outside the mesh, without a proxy.
    pub naked: Probe,
    /// How to deploy the probes: the first suite does. `None` if the writer of the record has deployed them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<ProbeDeployment>,
}

/// How to deploy the probes. The first suite deploys them; later suites find them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeDeployment {
    /// Image of the probe. The image names a numeric user other than root.
    pub image: String,
    /// Kubernetes' `imagePullPolicy`. `None` for Kubernetes' own choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_policy: Option<String>,
    /// Secret with the credentials for the registry, as `NAMESPACE/NAME`. The Secret is copied beside the probes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_secret: Option<String>,
}

/// Ports of the probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbePorts {
    /// HTTP/1.1.
    pub http: u16,
    /// HTTP/2 without TLS.
    pub http2: u16,
    /// gRPC.
    pub grpc: u16,
    /// TCP, client speaks first.
    pub tcp: u16,
    /// TCP, server speaks first.
    pub server_first: u16,
    /// TLS terminated by the application.
    pub tls: u16,
}

/// One probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// Namespace.
    pub namespace: String,
    /// Deployment.
    pub deployment: String,
    /// Label selector of the probe's pods.
    pub selector: String,
    /// DNS name of the probe's service, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Host name by which the ingress gateways route to the probe, if they do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress_host: Option<String>,
}

/// Namespaces for performance comparisons, each with a client and a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bench {
    /// With sidecars.
    pub meshed: String,
    /// Like [`meshed`](Self::meshed), for the other arm of a comparison.
    pub meshed_twin: String,
    /// Without sidecars.
    pub naked: String,
    /// Like [`naked`](Self::naked), for the other arm.
    pub naked_twin: String,
    /// How to deploy clients and servers: the first suite does. `None` if the writer of the record has deployed them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<BenchDeployment>,
}

/// How to deploy the workloads of performance comparisons. The registry's credentials are those of the probes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BenchDeployment {
    /// Image of the load driver, which is the server as well. The image names a numeric user other than root.
    pub image: String,
    /// Kubernetes' `imagePullPolicy`. `None` for Kubernetes' own choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_policy: Option<String>,
}

/// An issuer whose private key this machine has.
#[derive(Debug, Clone, Copy)]
pub struct Signer<'a> {
    /// The issuer.
    pub issuer: &'a Issuer,
    /// The key's path, relative to the testbed's directory.
    pub key: &'a Path,
}

impl Cluster {
    /// `offered`, if the record has it. `what` describes it in the error.
    ///
    /// # Errors
    /// [`Error::NotDeclared`], with `what` and the cluster's name.
    pub fn declared<T>(&self, what: &str, offered: Option<T>) -> Result<T> {
        offered.ok_or_else(|| Error::not_declared(format!("{what} of {}", self.name)))
    }

    /// The ingress gateway.
    ///
    /// # Errors
    /// [`Error::NotDeclared`].
    pub fn ingress(&self) -> Result<&Gateway> {
        self.declared("an ingress gateway", self.gateways.ingress.as_ref())
    }

    /// The east-west gateway.
    ///
    /// # Errors
    /// [`Error::NotDeclared`].
    pub fn eastwest(&self) -> Result<&Gateway> {
        self.declared("an east-west gateway", self.gateways.eastwest.as_ref())
    }

    /// Address of the ingress gateway for this machine.
    ///
    /// # Errors
    /// [`Error::NotDeclared`], also if this machine cannot reach the gateway.
    pub fn ingress_address(&self) -> Result<&HostPort> {
        self.declared("an address of the ingress gateway", self.ingress()?.address.as_ref())
    }

    /// Address of the east-west gateway for workloads of the other clusters.
    ///
    /// # Errors
    /// [`Error::NotDeclared`], also if the other clusters cannot reach the gateway.
    pub fn eastwest_address(&self) -> Result<&HostPort> {
        self.declared("an address of the east-west gateway", self.eastwest()?.address.as_ref())
    }

    /// The first issuer whose private key this machine has.
    ///
    /// # Errors
    /// [`Error::NotDeclared`].
    pub fn signer(&self) -> Result<Signer<'_>> {
        let signer = self.issuers.iter().find_map(|issuer| Some(Signer { issuer, key: issuer.key.as_ref()? }));
        self.declared("a signing key", signer)
    }

    /// The first issuer of whose parent this machine has the private key. The signer's `key` is the parent's.
    ///
    /// # Errors
    /// [`Error::NotDeclared`].
    pub fn parent_signer(&self) -> Result<Signer<'_>> {
        let signer = self.issuers.iter().find_map(|issuer| Some(Signer { issuer, key: issuer.parent_key.as_ref()? }));
        self.declared("a key that signs authorities of clusters", signer)
    }
}
