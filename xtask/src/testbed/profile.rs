//! The part of the record in which `up` describes the mesh.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use meshproof::probe::Protocol;
use meshproof::record::{
    self, AccessLog, AddressFamily, Bench, Capabilities, Command, ControlPlane, Gateway, Gateways, HostPort, Issuer,
    Istio, Label, Mesh, Probe, ProbePorts, Probes, Proxy, Record, TrustDomain, Write, fault, treatment,
};

use super::installed::Installed;
use crate::artifacts::Artifacts;
use crate::mesh::application::{self, Spread};
use crate::mesh::authority::Authority;
use crate::mesh::global_namespace::Declaration;
use crate::mesh::install::{MESH, Member, PERF, PERF_NAKED, PERF_NAKED_TWIN, PERF_TWIN, SYSTEM, TRUST_DOMAIN};
use crate::mesh::target::Target;
use crate::paths;
use crate::provider::Provider;

/// Namespace of the naked probes and of the Lease.
const NAKED: &str = "meshproof-naked";

/// HTTP port of an ingress gateway's pods.
const INGRESS_PORT: u16 = 8080;

/// Port of an east-west gateway for mutual TLS to services.
const EASTWEST_PORT: u16 = 15443;

/// The record of an installed mesh.
///
/// # Errors
/// Fails if a certificate cannot be read, or istiod does not report its version.
pub(super) async fn record(
    provider: Provider,
    spread: &Spread,
    members: &[Member<'_>],
    authority: &Authority,
    kubeconfig: &Path,
    artifacts: &Artifacts,
) -> Result<Record> {
    let mut clusters = Vec::new();
    for member in members {
        clusters.push(cluster(member, authority, kubeconfig)?);
    }
    let first = members.first().context("no cluster is defined")?;
    let roots = vec![authority.read(&first.target.name, "root-cert.pem")?];
    Ok(Record {
        schema: record::SCHEMA.into(),
        provider: provider.name().into(),
        mesh: Mesh {
            id: MESH.into(),
            version: first.version().await?,
            trust: TrustDomain { name: TRUST_DOMAIN.into(), aliases: vec![], roots },
        },
        clusters,
        application: Some(record::Application {
            name: "boutique".into(),
            layout: spread.layout().into(),
            namespace: application::NAMESPACE.into(),
            global_namespace: match spread {
                Spread::Services => None,
                Spread::GlobalNamespace(Declaration { name, domain, .. }) => {
                    Some(record::GlobalNamespace { name: name.clone(), domain: domain.clone() })
                }
            },
            places: application::places(members)?,
        }),
        capabilities: capabilities(artifacts),
    })
}

fn cluster(member: &Member<'_>, authority: &Authority, kubeconfig: &Path) -> Result<record::Cluster> {
    let target = &member.target;
    let name = target.name.as_str();
    let Installed { istio, gateways, probes } = installed();
    Ok(record::Cluster {
        name: name.into(),
        network: target.network.clone(),
        kubeconfig: kubeconfig.file_name().map(PathBuf::from).unwrap_or_default(),
        context: target.context.clone(),
        domain: target.domain.clone(),
        address_families: vec![AddressFamily::Ipv4],
        istio,
        gateways: reached(gateways, target),
        issuers: vec![Issuer {
            certificates: vec![authority.read(name, "ca-cert.pem")?],
            key: Some(Path::new("secrets").join(name).join("ca-key.pem")),
        }],
        probes: probes.map(|probes| named(probes, target)),
        bench: Some(bench()),
        lease_namespace: Some(NAKED.into()),
    })
}

/// What `up` installs in every cluster. Addresses, and the names of services, are known when a cluster runs.
pub(super) fn installed() -> Installed {
    let gateways = Gateways {
        ingress: Some(gateway("ingressgateway", INGRESS_PORT)),
        eastwest: Some(gateway("eastwestgateway", EASTWEST_PORT)),
    };
    Installed { istio: istio(), gateways, probes: Some(probes()) }
}

/// Istio as `fixtures/mesh/control-plane.yaml` installs it.
fn istio() -> Istio {
    Istio {
        namespace: SYSTEM.into(),
        revision: None,
        injection: Label { key: "istio-injection".into(), value: "enabled".into() },
        control_plane: ControlPlane {
            selector: "app=istiod".into(),
            port: 15012,
            server_name: format!("istiod.{SYSTEM}.svc"),
        },
        proxy: Proxy { container: "istio-proxy".into(), agent: "pilot-agent".into(), native_sidecar: false },
        access_log: Some(AccessLog { provider: "meshproof-evidence".into() }),
    }
}

/// A gateway as `fixtures/mesh/gateways.yaml` installs it.
fn gateway(name: &str, port: u16) -> Gateway {
    Gateway {
        namespace: SYSTEM.into(),
        deployment: format!("istio-{name}"),
        selector: format!("istio={name}"),
        port,
        address: None,
    }
}

/// The gateways with the addresses at which clients reach them.
fn reached(gateways: Gateways, target: &Target) -> Gateways {
    let at = |gateway: Option<Gateway>, address| gateway.map(|gateway| Gateway { address: Some(address), ..gateway });
    Gateways {
        ingress: at(gateways.ingress, target.gateways.ingress_from_here.clone()),
        eastwest: at(gateways.eastwest, HostPort::new(&target.gateways.eastwest, EASTWEST_PORT)),
    }
}

/// Probes as `fixtures/mesh/probe.yaml` and `probe-naked.yaml` deploy them.
fn probes() -> Probes {
    let probe = |namespace: &str, deployment: &str| Probe {
        namespace: namespace.into(),
        deployment: deployment.into(),
        selector: format!("app={deployment}"),
        service: None,
        ingress_host: None,
    };
    Probes {
        container: "probe".into(),
        ports: ProbePorts {
            http: Protocol::Http1.port(),
            http2: Protocol::Http2.port(),
            grpc: Protocol::Grpc.port(),
            tcp: Protocol::Tcp.port(),
            server_first: Protocol::ServerFirst.port(),
            tls: Protocol::Tls.port(),
        },
        meshed: probe(application::NAMESPACE, "probe"),
        caller: probe(application::NAMESPACE, "caller"),
        naked: probe(NAKED, "probe"),
    }
}

/// The probes with the names of their services, which have the cluster's name in them.
fn named(probes: Probes, target: &Target) -> Probes {
    let Target { name: cluster, domain, .. } = target;
    let Probes { meshed, naked, .. } = probes;
    let service = |name: &str, probe: &Probe| Some(format!("{name}-{cluster}.{}.svc.{domain}", probe.namespace));
    let ingress_host = Some(format!("probe-{cluster}.{}", meshed.namespace));
    Probes {
        meshed: Probe { service: service("probe", &meshed), ingress_host, ..meshed },
        naked: Probe { service: service("probe-naked", &naked), ..naked },
        ..probes
    }
}

fn bench() -> Bench {
    Bench {
        meshed: PERF.into(),
        meshed_twin: PERF_TWIN.into(),
        naked: PERF_NAKED.into(),
        naked_twin: PERF_NAKED_TWIN.into(),
    }
}

fn capabilities(artifacts: &Artifacts) -> Capabilities {
    let manifest = paths::root().join("Cargo.toml").display().to_string();
    let quiesce = ["run", "--quiet", "--manifest-path", &manifest, "--package", "xtask", "--", "testbed", "quiesce"];
    let pause = Command { program: "cargo".into(), arguments: quiesce.map(str::to_owned).into() };
    Capabilities {
        treatments: treatments(artifacts),
        faults: BTreeMap::from([(fault::PAUSE_CLUSTER.to_owned(), pause)]),
        writes: vec![Write::Namespaces, Write::Objects, Write::Replicas, Write::NodeLabels],
    }
}

/// The treatments that this machine and this Envoy support. The nodes share the machine's kernel and processor.
fn treatments(artifacts: &Artifacts) -> Vec<String> {
    let mut treatments = vec![treatment::TCP_BYPASS.into()];
    if std::arch::is_x86_feature_detected!("avx512ifma") {
        let own = if artifacts.cryptomb { treatment::PRIVATE_KEY_PROVIDER } else { treatment::MULTIBUFFER_TLS };
        treatments.push(own.into());
    }
    treatments
}
