//! One cluster of the record.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::HostPort;

/// One cluster of the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// Name in the mesh (Istio's `clusterName`).
    pub name: String,
    /// Istio's network name. Workloads of one network reach each other's addresses.
    pub network: String,
    /// Kubeconfig file; relative to the record's directory unless absolute.
    pub kubeconfig: PathBuf,
    /// Context in that file.
    pub context: String,
    /// Domain of the cluster's services, for example `cluster.local`.
    pub domain: String,
    /// Address families of its pods.
    pub address_families: Vec<AddressFamily>,
    /// Its Istio installation.
    pub istio: Istio,
    /// Its gateways.
    pub gateways: Gateways,
    /// What signs the certificates of its workloads. None where the root signs them, or where the issuer is not known before a
    /// workload sends its chain.
    #[serde(default)]
    pub issuers: Vec<Issuer>,
    /// Pods that dial and answer for suites.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probes: Option<Probes>,
    /// Namespaces with clients and servers for performance comparisons.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bench: Option<Bench>,
    /// Namespace of the Lease that keeps two people from judging the mesh at once; none where no Lease may be written.
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

/// How Istio is installed in a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Istio {
    /// Namespace of the control plane, for example `istio-system`.
    pub namespace: String,
    /// Revision of the control plane; none for the default revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Label that has a namespace's pods injected.
    pub injection: Label,
    /// istiod.
    pub control_plane: ControlPlane,
    /// The proxies of its workloads.
    pub proxy: Proxy,
    /// Access log by which suites read what proxies saw; none where proxies keep no such log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_log: Option<AccessLog>,
}

/// A label, and the value that it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Label {
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// Where istiod answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ControlPlane {
    /// Labels of its pods, for example `app=istiod`.
    pub selector: String,
    /// Its TLS port for workloads, usually 15012.
    pub port: u16,
    /// The name in its certificate.
    pub server_name: String,
}

/// The proxy of a workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proxy {
    /// Its container, for example `istio-proxy`.
    pub container: String,
    /// The agent's program in it, for example `pilot-agent`.
    pub agent: String,
    /// Whether it is an init container that stays (a native sidecar).
    pub native_sidecar: bool,
}

/// An access log that proxies write to standard output, one JSON object a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessLog {
    /// Name of the provider in the mesh's configuration that a `Telemetry` object switches on.
    pub provider: String,
}

/// The gateways of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gateways {
    /// Where clients from outside enter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<Gateway>,
    /// Where workloads of other networks enter; none in a mesh of one network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eastwest: Option<Gateway>,
}

/// A gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gateway {
    /// Its namespace.
    pub namespace: String,
    /// Its Deployment.
    pub deployment: String,
    /// Labels of its pods, for example `istio=eastwestgateway`.
    pub selector: String,
    /// Port that its pods listen on.
    pub port: u16,
    /// Where its clients reach that port: this machine, for an ingress gateway; workloads of the other clusters, for an
    /// east-west gateway. None where they cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<HostPort>,
}

/// A certificate authority that signs workload certificates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Issuer {
    /// PEM, one certificate each: the one that signs workloads first, then those above it, without the root.
    pub certificates: Vec<String>,
    /// The first one's signing key, where this machine has it; relative to the record's directory unless absolute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
}

/// Pods that dial and answer for suites.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probes {
    /// Container that holds `/probe`.
    pub container: String,
    /// Where they listen, as pods and as services.
    pub ports: ProbePorts,
    /// In the mesh: answers calls, and has a service of one name in every cluster.
    pub meshed: Probe,
    /// In the mesh, with an identity of its own: only calls, so that a call within a cluster crosses two proxies.
    pub caller: Probe,
    /// Outside the mesh: no proxy.
    pub naked: Probe,
}

/// Where probes listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbePorts {
    /// HTTP/1.1.
    pub http: u16,
    /// HTTP/2 without TLS.
    pub http2: u16,
    /// gRPC.
    pub grpc: u16,
    /// TCP, the client speaks first.
    pub tcp: u16,
    /// TCP, the server speaks first.
    pub server_first: u16,
    /// TLS by the application itself.
    pub tls: u16,
}

/// One probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// Its namespace.
    pub namespace: String,
    /// Its Deployment.
    pub deployment: String,
    /// Labels of its pods.
    pub selector: String,
    /// DNS name of its service, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Host name by which the ingress gateways route to it, where they do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress_host: Option<String>,
}

/// Namespaces with a client and a server each, for performance comparisons.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bench {
    /// With sidecars.
    pub meshed: String,
    /// As [`meshed`](Self::meshed), for the other arm of a comparison.
    pub meshed_twin: String,
    /// Without sidecars.
    pub naked: String,
    /// As [`naked`](Self::naked), for the other arm.
    pub naked_twin: String,
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.key, self.value)
    }
}

impl Cluster {
    /// Where this machine reaches the ingress gateway.
    pub fn ingress_address(&self) -> Option<&HostPort> {
        self.gateways.ingress.as_ref()?.address.as_ref()
    }

    /// Where workloads of the other clusters reach the east-west gateway.
    pub fn eastwest_address(&self) -> Option<&HostPort> {
        self.gateways.eastwest.as_ref()?.address.as_ref()
    }

    /// The first issuer whose signing key this machine has, and that key's path.
    pub fn signer(&self) -> Option<(&Issuer, &PathBuf)> {
        self.issuers.iter().find_map(|issuer| Some((issuer, issuer.key.as_ref()?)))
    }
}
