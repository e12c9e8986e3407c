//! The part of the record in which `up` describes the mesh.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use meshproof::attach::Names;
use meshproof::record::{
    self, AccessLog, AddressFamily, Bench, Capabilities, Command, ControlPlane, Gateway, GatewayKind, Gateways,
    HostPort, Issuer, Istio, Mesh, Probe, ProbeDeployment, Probes, Proxy, Record, TrustDomain, Write, fault, treatment,
};

use super::installed::Installed;
use crate::artifacts::Artifacts;
use crate::declaration;
use crate::mesh::application::{self, Spread};
use crate::mesh::authority::Authority;
use crate::mesh::global_namespace::Declaration;
use crate::mesh::install::{Member, SYSTEM};
use crate::mesh::suites::{PERF, PERF_NAKED, PERF_NAKED_TWIN, PERF_TWIN};
use crate::mesh::target::Target;
use crate::paths;
use crate::provider::Provider;

/// Namespace of the naked probes and of the Lease.
const NAKED: &str = "meshproof-naked";

/// Domain of the services of an installed cluster.
const DOMAIN: &str = "cluster.local";

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
    spread: Option<&Spread>,
    members: &[Member<'_>],
    authority: &Authority,
    kubeconfig: &Path,
    artifacts: &Artifacts,
) -> Result<Record> {
    let mut clusters = Vec::new();
    for member in members {
        clusters.push(cluster(member, authority, kubeconfig, artifacts)?);
    }
    let first = members.first().context("no cluster is defined")?;
    let declaration::Mesh { id, trust_domain, aliases, .. } = &first.declaration.mesh;
    let roots = authority.roots(&first.target.name)?;
    Ok(Record {
        schema: record::SCHEMA.into(),
        provider: provider.name().into(),
        mesh: Mesh {
            id: id.clone(),
            version: first.version().await?,
            trust: TrustDomain { name: trust_domain.clone(), aliases: aliases.clone(), roots },
        },
        clusters,
        application: spread.map(|spread| boutique(spread, members)).transpose()?,
        capabilities: capabilities(artifacts),
    })
}

fn boutique(spread: &Spread, members: &[Member<'_>]) -> Result<record::Application> {
    Ok(record::Application {
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
    })
}

fn cluster(
    member: &Member<'_>,
    authority: &Authority,
    kubeconfig: &Path,
    artifacts: &Artifacts,
) -> Result<record::Cluster> {
    let target = &member.target;
    let name = target.name.as_str();
    let Installed { istio, gateways, .. } = installed(member.declaration, member.declared);
    let prepared = member.declaration.prepared;
    let mesh_has_ingress = member.declaration.clusters.iter().any(|cluster| cluster.ingress.is_some());
    let names = if prepared { self::prepared() } else { Names::default() };
    let deployment = (!prepared).then(|| to_deploy(artifacts.programs.probe.image()));
    let mut probes = names.probes(name, &target.domain, deployment);
    if prepared && mesh_has_ingress {
        probes = behind_ingress(probes, name);
    }
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
            certificates: authority.issuers(name)?,
            // Whoever judges somebody else's mesh has no key of its authority.
            key: prepared.then(|| Path::new("secrets").join(name).join("ca-key.pem")),
            parent_key: prepared.then(|| Path::new("secrets").join(authority.parent(name)).join("ca-key.pem")),
        }],
        probes: Some(probes),
        bench: prepared.then(bench),
        lease_namespace: Some(names.outside),
    })
}

/// What `up` installs in a declared cluster. Addresses, and the names of services, are known when a cluster runs.
pub(super) fn installed(declaration: &declaration::Declaration, cluster: &declaration::Cluster) -> Installed {
    let gateways = Gateways {
        ingress: cluster.ingress.as_ref().map(|declared| gateway(declared, INGRESS_PORT)),
        eastwest: cluster.eastwest.as_ref().map(|declared| gateway(declared, EASTWEST_PORT)),
    };
    let probes = declaration.prepared.then(|| prepared().probes(&cluster.name, DOMAIN, None));
    Installed { istio: istio(declaration), gateways, probes }
}

/// Istio as `fixtures/mesh/control-plane.yaml` installs it.
fn istio(declaration: &declaration::Declaration) -> Istio {
    let declared = &declaration.istio;
    let revision = declared.revision.clone();
    Istio {
        namespace: SYSTEM.into(),
        injection: declared.injection_label(),
        control_plane: ControlPlane {
            selector: match &revision {
                None => "app=istiod".into(),
                Some(revision) => format!("app=istiod,istio.io/rev={revision}"),
            },
            port: 15012,
            server_name: format!("{}.{SYSTEM}.svc", declared.istiod()),
        },
        revision,
        proxy: Proxy {
            container: "istio-proxy".into(),
            agent: "pilot-agent".into(),
            native_sidecar: declared.native_sidecars,
            init_container: !declared.cni,
        },
        access_log: Some(match declaration.prepared {
            true => AccessLog::Provider("meshproof-evidence".into()),
            false => AccessLog::Filter,
        }),
    }
}

/// A gateway as `fixtures/mesh/gateways.yaml` installs it.
fn gateway(declared: &declaration::Gateway, port: u16) -> Gateway {
    let labels: Vec<String> = declared.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    Gateway {
        namespace: declared.namespace.clone(),
        deployment: declared.name.clone(),
        kind: GatewayKind::Deployment,
        selector: labels.join(","),
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

/// How to deploy the probes in a mesh that is not prepared for suites.
fn to_deploy(image: String) -> ProbeDeployment {
    // The image is in the node image.
    ProbeDeployment { image, pull_policy: Some("Never".into()), pull_secret: None }
}

/// The namespaces of the probes that `fixtures/mesh/probe.yaml` and `probe-naked.yaml` deploy.
fn prepared() -> Names {
    Names { inside: application::NAMESPACE.into(), outside: NAKED.into(), ..Names::default() }
}

/// The probes with the host name by which ingress gateways lead to them.
fn behind_ingress(probes: Probes, cluster: &str) -> Probes {
    let ingress_host = Some(format!("probe-{cluster}.{}", probes.meshed.namespace));
    Probes { meshed: Probe { ingress_host, ..probes.meshed }, ..probes }
}

fn bench() -> Bench {
    Bench {
        meshed: PERF.into(),
        meshed_twin: PERF_TWIN.into(),
        naked: PERF_NAKED.into(),
        naked_twin: PERF_NAKED_TWIN.into(),
        deployment: None,
    }
}

fn capabilities(artifacts: &Artifacts) -> Capabilities {
    let manifest = paths::root().join("Cargo.toml").display().to_string();
    // Cargo finds its configuration from the current directory, and `meshproof` runs anywhere.
    let config = paths::root().join(".cargo/config.toml").display().to_string();
    let xtask = ["run", "--quiet", "--config", &config, "--manifest-path", &manifest, "--package", "xtask", "--"];
    let quiesce = xtask.into_iter().chain(["testbed", "quiesce"]);
    let pause = Command { program: "cargo".into(), arguments: quiesce.map(str::to_owned).collect() };
    Capabilities {
        treatments: treatments(artifacts),
        faults: BTreeMap::from([(fault::PAUSE_CLUSTER.to_owned(), pause)]),
        writes: vec![Write::Namespaces, Write::Objects, Write::Replicas, Write::Placements, Write::NodeLabels],
        namespace_prefix: None,
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
