//! Finds out what a record must know of a cluster, by reading.

use std::collections::BTreeMap;
use std::path::PathBuf;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use kube::api::DynamicObject;
use kube::{Client, ResourceExt};

use super::control_planes::{ControlPlane, ControlPlanes};
use super::error::{Error, Result};
use super::found::{Asked, FoundCluster, FoundControlPlane};
use super::injector::{self, Injected};
use super::probes::Names;
use super::reader::Reader;
use super::{gateways, mesh_config, peers, surroundings, trust};
use crate::cluster::{self, http};
use crate::identity::Certificate;
use crate::istio::MeshConfig;
use crate::record::{self, AccessLog, AddressFamily, HostPort, Issuer, Istio, Label, Proxy, TrustDomain};

/// Label of Istio's namespace with the cluster's network.
const NETWORK: &str = "topology.istio.io/network";

/// Port at which workloads ask istiod.
const WORKLOADS: i32 = 15012;

/// Port at which istiod tells its version.
const MONITORING: u16 = 15014;

/// What a reader may say in place of what cannot be found out.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Revision or tag to judge.
    pub revision: Option<String>,
    /// Istio's `meshID`.
    pub mesh_id: Option<String>,
    /// Trust domain.
    pub trust_domain: Option<String>,
    /// Label that enables injection for a namespace's pods.
    pub injection: Option<Label>,
    /// Root certificates, in PEM.
    pub roots: Vec<String>,
    /// Addresses of east-west gateways, by the names of the clusters.
    pub eastwest: BTreeMap<String, HostPort>,
    /// The namespaces that suites will create.
    pub names: Names,
}

/// Reads the cluster of a context. Creates nothing.
///
/// # Errors
/// [`Error::Forbidden`], [`Error::NoIstio`], [`Error::Revisions`], [`Error::UnknownRevision`], [`Error::NotReady`].
/// [`Error::Asked`]: an option must tell what cannot be found out. [`Error::Cluster`].
pub async fn discover(client: &Client, context: &str, options: &Options) -> Result<FoundCluster> {
    let reader = Reader::new(client.clone(), context);
    let planes = ControlPlanes::find(&reader).await?;
    let plane = planes.choose(context, options.revision.as_deref())?;
    let objects = Objects::read(&reader, &plane).await?;
    let discovery = Discovery { reader: &reader, options, plane: &plane, objects: &objects };
    discovery.cluster(planes.all()).await
}

/// The objects of a cluster from which its entry is made.
struct Objects {
    kubernetes: String,
    uid: Option<String>,
    network: Option<String>,
    istiods: Vec<Pod>,
    deployments: Vec<Deployment>,
    daemon_sets: Vec<DaemonSet>,
    services: Vec<Service>,
    listeners: Vec<DynamicObject>,
    config: MeshConfig,
}

impl Objects {
    async fn read(reader: &Reader, plane: &ControlPlane) -> Result<Self> {
        let home = plane.namespace();
        let listener = gateways::listener_kind();
        let (version, system, home, istiods, deployments, daemon_sets, services, listeners, config) = futures::try_join!(
            async {
                let failed = |source| cluster::Error::Api {
                    cluster: reader.context.clone(),
                    doing: "ask for its version".into(),
                    source: Box::new(source),
                };
                Ok(reader.client.apiserver_version().await.map_err(failed)?)
            },
            reader.get_global::<Namespace>("kube-system", "two contexts of one cluster cannot be told apart"),
            reader.get_global::<Namespace>(&home, "the network is known from the injector only"),
            plane.pods(reader),
            reader.list::<Deployment>(None, "", "gateways are unknown"),
            reader.list::<DaemonSet>(None, "", "gateways that run on every node are unknown"),
            reader.list::<Service>(None, "", "addresses of gateways and names of istiod are unknown"),
            reader.list_dynamic(&listener, "which gateways lead to services of other networks, is unknown"),
            mesh_config::read(reader, plane),
        )?;
        if istiods.is_empty() {
            let (context, namespace) = (reader.context.clone(), plane.namespace());
            return Err(Error::NotReady { context, namespace, selector: plane.selector() });
        }
        let network = home.flatten().and_then(|home| home.labels().get(NETWORK).cloned());
        Ok(Self {
            kubernetes: version.git_version,
            uid: system.flatten().and_then(|system| system.uid()),
            network,
            istiods,
            deployments: deployments.unwrap_or_default(),
            daemon_sets: daemon_sets.unwrap_or_default(),
            services: services.unwrap_or_default(),
            listeners: listeners.unwrap_or_default(),
            config,
        })
    }
}

struct Discovery<'a> {
    reader: &'a Reader,
    options: &'a Options,
    plane: &'a ControlPlane,
    objects: &'a Objects,
}

/// What no record can do without.
struct Essentials {
    name: String,
    mesh_id: String,
    trust_domain: String,
    injection: Label,
    control_plane: record::ControlPlane,
    proxy: Proxy,
}

impl Discovery<'_> {
    async fn cluster(&self, control_planes: Vec<FoundControlPlane>) -> Result<FoundCluster> {
        let Self { reader, options, plane, objects } = self;
        let (injected, roots, version) =
            futures::try_join!(async { Ok(self.injected().await) }, self.roots(), async { Ok(self.version().await) })?;
        let essentials = self.essentials(injected.as_ref(), &roots).await?;
        let injected = injected.unwrap_or_default();
        let Essentials { name, mesh_id, trust_domain, injection, control_plane, proxy } = essentials;
        let network = objects.network.clone().or(injected.network).unwrap_or_default();
        let gateways = self.gateways(&network, &name);
        let ours = options.names.all();
        let (issuers, peers, surroundings) = futures::try_join!(
            async { Ok(self.issuers(&control_plane, &roots).await) },
            peers::find(reader, plane, &objects.istiods, &name),
            surroundings::read(reader, &injection, &ours),
        )?;
        let roots = roots.iter().map(|root| trust::to_pem(root.der())).collect();
        let trust = TrustDomain { name: trust_domain, aliases: objects.config.trust_domain_aliases.clone(), roots };
        let domain = injected.domain.or_else(|| plane.argument("--domain"));
        let record = record::Cluster {
            name,
            network,
            kubeconfig: PathBuf::new(),
            context: reader.context.clone(),
            domain: domain.unwrap_or_else(|| "cluster.local".into()),
            address_families: self.address_families(),
            istio: Istio {
                namespace: plane.namespace(),
                revision: plane.revision(),
                injection,
                control_plane,
                proxy,
                access_log: Some(AccessLog::Filter),
            },
            gateways: gateways.gateways,
            issuers,
            probes: None,
            bench: None,
            lease_namespace: None,
        };
        Ok(FoundCluster {
            context: reader.context.clone(),
            uid: objects.uid.clone(),
            kubernetes: objects.kubernetes.clone(),
            record,
            mesh_id,
            istio_version: version,
            trust,
            control_planes,
            other_gateways: gateways.others,
            peers,
            surroundings,
            unread: reader.unread(),
        })
    }

    /// What must be known, from the first source that tells it.
    ///
    /// # Errors
    /// [`Error::Asked`], with all that no source tells.
    async fn essentials(&self, injected: Option<&Injected>, roots: &[Certificate]) -> Result<Essentials> {
        let Self { reader, options, plane, objects } = self;
        let told = |field: fn(&Injected) -> &Option<String>| injected.and_then(|injected| field(injected).clone());
        let config = &objects.config;
        let mut missing = Missing { context: &reader.context, asked: Vec::new() };
        let name = plane.variable("CLUSTER_ID").or_else(|| told(|injected| &injected.cluster));
        let name = missing.unless(name, "its name in the mesh", "set CLUSTER_ID of its istiod");
        let mesh_id = options.mesh_id.clone().or_else(|| told(|injected| &injected.mesh_id));
        let mesh_id = mesh_id.or_else(|| config.default_config.mesh_id.clone());
        let mesh_id = missing.unless(mesh_id, "the mesh id", "name it with --mesh-id");
        let trust_domain = options.trust_domain.clone().or_else(|| config.trust_domain.clone());
        let trust_domain = trust_domain.or_else(|| told(|injected| &injected.trust_domain));
        let trust_domain = missing.unless(trust_domain, "the trust domain", "name it with --trust-domain");
        let injection = options.injection.clone().or_else(|| plane.injection());
        let injection =
            missing.unless(injection, "the label that enables injection", "name it with --injection KEY=VALUE");
        let control_plane =
            missing.unless(self.control_plane(), "the Service of istiod with port 15012", "ask for `list services`");
        let proxy = self.proxy(injected).await?;
        let how = "ask for `create pods/portforward` in Istio's namespace, to ask the injector";
        let proxy = missing.unless(proxy, "how a proxy is put into a pod", how);
        if roots.is_empty() {
            missing.add("the root certificates of the mesh", "name a file of them with --root FILE");
        }
        let essentials = (name, mesh_id, trust_domain, injection, control_plane, proxy);
        match essentials {
            (Some(name), Some(mesh_id), Some(trust_domain), Some(injection), Some(control_plane), Some(proxy))
                if missing.asked.is_empty() =>
            {
                Ok(Essentials { name, mesh_id, trust_domain, injection, control_plane, proxy })
            }
            _ => Err(Error::Asked { asked: missing.asked }),
        }
    }

    /// What the injector adds to a pod. `None` if it cannot be asked.
    async fn injected(&self) -> Option<Injected> {
        let Self { reader, options, plane, objects } = self;
        let asked = match objects.istiods.first() {
            Some(istiod) => injector::ask(reader, plane, istiod, &objects.services, &options.names.inside).await,
            None => Err("no istiod is ready".into()),
        };
        let so = "network, mesh id and kind of sidecar are taken from configuration and from running pods";
        asked.inspect_err(|reason| reader.note("ask the injector about a pod", reason, so)).ok()
    }

    /// The roots that are named, or else those that the mesh publishes.
    async fn roots(&self) -> Result<Vec<Certificate>> {
        let mut roots = Vec::new();
        for pem in &self.options.roots {
            roots.extend(Certificate::all_from_pem("the named roots", pem)?);
        }
        if roots.is_empty() {
            roots = trust::roots(self.reader, &self.plane.namespace()).await?;
        }
        for pem in self.objects.config.roots() {
            roots.extend(Certificate::all_from_pem("caCertificates of the mesh configuration", pem)?);
        }
        let mut distinct: Vec<Certificate> = Vec::new();
        roots.into_iter().for_each(|root| {
            if !distinct.contains(&root) {
                distinct.push(root)
            }
        });
        Ok(distinct)
    }

    /// The version that istiod tells, or else the tag of its image.
    async fn version(&self) -> String {
        let Self { reader, plane, objects, .. } = self;
        let asking = async {
            let istiod = objects.istiods.first().ok_or("no istiod is ready")?;
            let stream = reader.connect(&plane.namespace(), &istiod.name_any(), MONITORING).await?;
            http::get(stream, "/version").await
        };
        match http::bounded(asking).await {
            // VERSION-REVISION-STATUS, and a version may have hyphens.
            Ok(text) => text.trim().rsplitn(3, '-').last().unwrap_or_default().to_owned(),
            Err(reason) => {
                reader.note("ask istiod for its version", reason, "the version is that of its image's tag");
                plane.image_tag().unwrap_or_else(|| "unknown".into())
            }
        }
    }

    /// istiod's address for workloads.
    fn control_plane(&self) -> Option<record::ControlPlane> {
        let namespace = self.plane.namespace();
        let istiod = self.objects.istiods.first();
        let of_revision = |service: &&Service| {
            let labels = istiod.map(|pod| pod.labels());
            let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
            let selects = selector.zip(labels).is_some_and(|(selector, labels)| {
                !selector.is_empty() && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
            });
            service.namespace().as_ref() == Some(&namespace) && selects
        };
        let asked = self.plane.webhooks.iter().filter_map(|webhook| webhook.service.as_ref());
        let asked: Vec<&String> = asked.map(|service| &service.name).collect();
        let services = self.objects.services.iter().filter(of_revision);
        let port = |service: &Service| injector::pod_port(service, WORKLOADS, istiod?);
        let mut found: Vec<(String, u16)> =
            services.filter_map(|service| Some((service.name_any(), port(service)?))).collect();
        // Services of tags select the same pods, and istiod's certificate names only its own.
        found.sort_by_key(|(name, _)| (!self.plane.is_own_service(name), !asked.contains(&name)));
        let (name, port) = found.into_iter().next()?;
        let server_name = format!("{name}.{namespace}.svc");
        Some(record::ControlPlane { selector: self.plane.selector(), port, server_name })
    }

    /// How the proxy is put into a pod: as the injector says, or else as in a running pod.
    async fn proxy(&self, injected: Option<&Injected>) -> Result<Option<Proxy>> {
        let agent = String::from("pilot-agent");
        if let Some(Injected { container, native_sidecar, init_container, .. }) = injected {
            let (native_sidecar, init_container) = (*native_sidecar, *init_container);
            return Ok(Some(Proxy { container: container.clone(), agent, native_sidecar, init_container }));
        }
        let so = "how sidecars are put into pods, is unknown";
        let meshed = self.reader.list::<Pod>(None, "security.istio.io/tlsMode=istio", so).await?.unwrap_or_default();
        let running = meshed.iter().find_map(injector::running);
        Ok(running.map(|running| Proxy {
            container: running.container,
            agent,
            native_sidecar: running.native_sidecar,
            init_container: running.init_container,
        }))
    }

    fn gateways(&self, network: &str, cluster: &str) -> gateways::Found {
        let Objects { deployments, daemon_sets, services, listeners, config, .. } = self.objects;
        let mut found = gateways::Sources { deployments, daemon_sets, services, listeners, config, network }.find();
        if let (Some(gateway), Some(named)) = (&mut found.gateways.eastwest, self.options.eastwest.get(cluster)) {
            gateway.address = Some(named.clone());
        }
        found
    }

    /// The CA that signs the workloads. Empty if istiod does not show it.
    async fn issuers(&self, plane: &record::ControlPlane, roots: &[Certificate]) -> Vec<Issuer> {
        let asked = match self.objects.istiods.first() {
            Some(istiod) => trust::issuer(self.reader, plane, istiod, roots).await,
            None => Err("no istiod is ready".into()),
        };
        let so = "certificates below an intermediate CA are judged only where the peer sends its chain";
        let noted = asked.inspect_err(|reason| self.reader.note("the CA that signs the workloads", reason, so));
        noted.into_iter().collect()
    }

    /// The address families of istiod's pods, as those of all pods.
    fn address_families(&self) -> Vec<AddressFamily> {
        let status = self.objects.istiods.iter().filter_map(|pod| pod.status.as_ref());
        let addresses: Vec<&str> =
            status.flat_map(|status| status.pod_ips.iter().flatten()).map(|pod_ip| pod_ip.ip.as_str()).collect();
        let mut families = Vec::new();
        if addresses.iter().any(|address| !address.contains(':')) || addresses.is_empty() {
            families.push(AddressFamily::Ipv4);
        }
        if addresses.iter().any(|address| address.contains(':')) {
            families.push(AddressFamily::Ipv6);
        }
        families
    }
}

/// Gathers what must be told.
struct Missing<'a> {
    context: &'a str,
    asked: Vec<Asked>,
}

impl Missing<'_> {
    fn add(&mut self, what: &str, remedy: &str) {
        self.asked.push(Asked { context: self.context.into(), what: what.into(), remedy: remedy.into() });
    }

    fn unless<T>(&mut self, found: Option<T>, what: &str, remedy: &str) -> Option<T> {
        if found.is_none() {
            self.add(what, remedy);
        }
        found
    }
}

#[cfg(test)]
mod tests;
