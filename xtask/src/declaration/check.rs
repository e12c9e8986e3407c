//! Checks that a declaration makes sense: that names are names, subnets do not overlap, and clusters can meet.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::Ipv4Net;
use toml::Spanned;

use super::fault::Unsound;
use super::file::{self, File};
use super::{
    Application, Authority, Cluster, Declaration, Gateway, Injection, Istio, Layout, MOST_CLUSTERS, MOST_NODES, Mesh,
    Namespace, PodSecurity,
};
use crate::dns;

/// Names of clusters that would collide with a directory of the testbed's secrets.
const TAKEN: [&str; 2] = ["root", "issuing"];

/// Namespaces that Kubernetes and `up` make.
const OF_UP: [&str; 3] = ["default", "istio-system", "pinnacle"];

/// How further namespaces of Kubernetes and of `up` begin.
const OF_UP_PREFIXES: [&str; 2] = ["kube-", "meshproof-"];

/// The smallest subnet for pods or services, as the length of the prefix.
const SMALLEST: u8 = 24;

/// The largest service subnet that Kubernetes accepts.
const LARGEST_SERVICES: u8 = 12;

type Result<T> = std::result::Result<T, Unsound>;

/// The checked declaration.
///
/// # Errors
/// Fails with the first fault.
pub(super) fn declaration(file: File) -> Result<Declaration> {
    let File { networks, mesh: mesh_entry, istio: istio_entry, suites, application, cluster, namespace } = file;
    let prepared = suites.prepare.unwrap_or(true);
    let mut subnets = Subnets::default();
    for candidate in networks.as_ref() {
        let net = subnet(candidate)?;
        subnets.add(candidate, net, "the container network".to_owned())?;
    }
    if networks.as_ref().is_empty() {
        return Err(at(
            &networks,
            "`networks` is empty: list a subnet for the container network, such as 10.231.0.0/24",
        ));
    }
    if !(1..=MOST_CLUSTERS).contains(&cluster.len()) {
        let place = cluster.last().map_or(0..0, Spanned::span);
        return Err(Unsound::new(
            place,
            format!("{} clusters are declared; a testbed has 1 to {MOST_CLUSTERS}", cluster.len()),
        ));
    }
    let clusters = clusters(&cluster, &mut subnets)?;
    if let Some(entry) = application.as_ref().filter(|_| !prepared) {
        return Err(at(entry, "the application is prepared for suites: remove [application], or `prepare = false`"));
    }
    let application = application.map(|entry| application_of(&entry, clusters.len())).transpose()?;
    let networks = networks.as_ref().iter().map(subnet).collect::<Result<_>>()?;
    let (mesh, istio) = (mesh(&mesh_entry)?, istio(&istio_entry)?);
    let namespaces = namespaces(&namespace, &istio, &clusters)?;
    Ok(Declaration { networks, mesh, istio, prepared, application, clusters, namespaces })
}

fn mesh(entry: &file::Mesh) -> Result<Mesh> {
    let id = entry.id.as_ref().map_or(Ok("mesh1".to_owned()), |id| label(id, "the mesh's id"))?;
    let trust_domain =
        entry.trust_domain.as_ref().map_or(Ok("cluster.local".to_owned()), |name| domain(name, "the trust domain"))?;
    let mut aliases: Vec<String> = Vec::new();
    for alias in &entry.aliases {
        let name = domain(alias, "an alias of the trust domain")?;
        if name == trust_domain || aliases.contains(&name) {
            return Err(at(alias, format!("the trust domain already has the name `{name}`: remove the alias")));
        }
        aliases.push(name);
    }
    Ok(Mesh {
        id,
        trust_domain,
        aliases,
        authority: entry.authority.unwrap_or(Authority::SharedRoot),
        policy: entry.policy,
    })
}

fn istio(entry: &file::Istio) -> Result<Istio> {
    let revision = entry.revision.as_ref().map(|name| label(name, "the revision")).transpose()?;
    let mut tags: Vec<String> = Vec::new();
    for tag in &entry.tags {
        let name = label(tag, "a revision tag")?;
        if revision.is_none() {
            return Err(at(tag, format!("the tag `{name}` points to no revision: give `revision` as well")));
        }
        if revision.as_ref() == Some(&name) || tags.contains(&name) {
            return Err(at(tag, format!("`{name}` names the revision already: remove the tag")));
        }
        tags.push(name);
    }
    let injection = entry.injection.as_ref().map_or(Injection::IstioInjection, |entry| *entry.as_ref());
    if let (Some(name), Injection::IstioInjection) = (&revision, injection)
        && !tags.iter().any(|tag| tag == "default")
    {
        let place = entry.injection.as_ref().map(Spanned::span).or(entry.revision.as_ref().map(Spanned::span));
        return Err(Unsound::new(
            place.unwrap_or_default(),
            format!(
                "nothing would be injected: `istio-injection` selects the default revision, and the only revision is \
                 `{name}`; set `injection = \"istio.io/rev\"`, or add the tag `default`"
            ),
        ));
    }
    let native_sidecars = entry.native_sidecars.unwrap_or(true);
    Ok(Istio { revision, tags, injection, native_sidecars, cni: entry.cni })
}

fn application_of(entry: &Spanned<file::Application>, clusters: usize) -> Result<Application> {
    if clusters < 2 {
        return Err(at(
            entry,
            "the application is spread over two clusters, and one is declared: remove [application]",
        ));
    }
    let layout: Layout = entry.as_ref().layout;
    Ok(Application { layout })
}

fn clusters(entries: &[Spanned<file::Cluster>], subnets: &mut Subnets) -> Result<Vec<Cluster>> {
    let mut clusters: Vec<Cluster> = Vec::new();
    let mut nodes = BTreeSet::new();
    for entry in entries {
        let cluster = cluster(entry.as_ref(), subnets)?;
        if let Some(doubled) = cluster.node_names().into_iter().find(|node| !nodes.insert(node.clone())) {
            return Err(at(
                &entry.as_ref().name,
                format!("two nodes would have the name `{doubled}`: rename the cluster"),
            ));
        }
        clusters.push(cluster);
    }
    for (entry, cluster) in entries.iter().zip(&clusters) {
        let mut peers = clusters.iter().filter(|other| other.network == cluster.network);
        let alone = clusters.iter().all(|other| other.network == cluster.network);
        if !alone && !peers.any(|peer| peer.eastwest.is_some()) {
            return Err(Unsound::new(
                entry.as_ref().eastwest.as_ref().map_or(entry.span(), Spanned::span),
                format!(
                    "network `{}` has no east-west gateway, so clusters on other networks cannot reach `{}`: enable \
                     one, or declare one network",
                    cluster.network, cluster.name
                ),
            ));
        }
    }
    Ok(clusters)
}

fn cluster(entry: &file::Cluster, subnets: &mut Subnets) -> Result<Cluster> {
    let name = label(&entry.name, "a cluster's name")?;
    if TAKEN.contains(&name.as_str()) || name.starts_with("root-") {
        return Err(at(&entry.name, format!("no cluster can have the name `{name}`: an authority of the mesh has it")));
    }
    let nodes = entry.nodes.as_ref().map_or(1, |nodes| *nodes.as_ref());
    if let Some(place) = entry.nodes.as_ref().filter(|_| !(1..=MOST_NODES).contains(&nodes)) {
        return Err(at(place, format!("`{name}` has {nodes} nodes; a cluster has 1 to {MOST_NODES}")));
    }
    let pods = subnet(&entry.pod_subnet)?;
    let services = subnet(&entry.service_subnet)?;
    for (net, place) in [(pods, &entry.pod_subnet), (services, &entry.service_subnet)] {
        if net.prefix_len() > SMALLEST {
            return Err(at(place, format!("{net} is too small: give a /{SMALLEST} or larger")));
        }
    }
    if services.prefix_len() < LARGEST_SERVICES {
        let reason =
            format!("{services} is larger than Kubernetes accepts for services: give a /{LARGEST_SERVICES} or smaller");
        return Err(at(&entry.service_subnet, reason));
    }
    subnets.add(&entry.pod_subnet, pods, format!("the pods of {name}"))?;
    subnets.add(&entry.service_subnet, services, format!("the services of {name}"))?;
    let ingress = gateway(entry.ingress.as_ref(), "ingressgateway")?;
    let eastwest = gateway(entry.eastwest.as_ref(), "eastwestgateway")?;
    if let (Some(one), Some(other), Some(place)) =
        (&ingress, &eastwest, entry.eastwest.as_ref().or(entry.ingress.as_ref()))
        && one.namespace == other.namespace
        && (one.name == other.name || one.labels == other.labels)
    {
        return Err(at(place, format!("both gateways of `{name}` have the same name or labels: give each its own")));
    }
    let network = label(&entry.network, "a network")?;
    let network_policies = entry.network_policies;
    Ok(Cluster { name, network, nodes, pods, services, ingress, eastwest, network_policies })
}

fn gateway(entry: Option<&Spanned<file::Gateway>>, kind: &str) -> Result<Option<Gateway>> {
    let default = Gateway {
        name: format!("istio-{kind}"),
        namespace: "istio-system".into(),
        labels: BTreeMap::from([("istio".into(), kind.into())]),
    };
    let Some(entry) = entry else { return Ok(Some(default)) };
    let file::Gateway { enabled, name, namespace, labels } = entry.as_ref();
    if !enabled {
        if name.is_some() || namespace.is_some() || labels.is_some() {
            return Err(at(entry, "the gateway is not enabled: remove its other keys, or `enabled = false`"));
        }
        return Ok(None);
    }
    let labels = match labels {
        None => default.labels,
        Some(labels) if labels.as_ref().is_empty() => {
            return Err(at(labels, "a gateway without labels cannot be selected: give one label"));
        }
        Some(labels) => labels
            .as_ref()
            .iter()
            .map(|(key, value)| Ok((key.clone(), label(value, "a label")?)))
            .collect::<Result<_>>()?,
    };
    Ok(Some(Gateway {
        name: name.as_ref().map_or(Ok(default.name), |name| label(name, "a gateway's name"))?,
        namespace: namespace.as_ref().map_or(Ok(default.namespace), |name| label(name, "a namespace"))?,
        labels,
    }))
}

fn namespaces(entries: &[file::Namespace], istio: &Istio, clusters: &[Cluster]) -> Result<Vec<Namespace>> {
    let gateways: Vec<&str> =
        clusters.iter().flat_map(Cluster::gateways).map(|gateway| gateway.namespace.as_str()).collect();
    let mut namespaces: Vec<Namespace> = Vec::new();
    for entry in entries {
        let name = label(&entry.name, "a namespace")?;
        if namespaces.iter().any(|other| other.name == name) {
            return Err(at(&entry.name, format!("the namespace `{name}` is declared twice: remove one")));
        }
        let of_up = OF_UP.contains(&name.as_str()) || gateways.contains(&name.as_str());
        if of_up || OF_UP_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
            return Err(at(&entry.name, format!("`up` makes the namespace `{name}` itself: give another name")));
        }
        let pod_security = entry.pod_security.as_ref();
        let level = pod_security.map(|level| *level.as_ref());
        if let Some(place) = pod_security.filter(|_| level != Some(PodSecurity::Privileged))
            && entry.injected
            && !istio.cni
        {
            return Err(at(
                place,
                format!(
                    "no pod of `{name}` would start: its sidecar's init container changes the pod's network, which this \
                     level refuses; set `cni = true` in [istio]"
                ),
            ));
        }
        namespaces.push(Namespace { name, injected: entry.injected, pod_security: level, quota: entry.quota });
    }
    Ok(namespaces)
}

/// The subnets that are declared so far, and what each is for.
#[derive(Default)]
struct Subnets(Vec<(Ipv4Net, String)>);

impl Subnets {
    fn add(&mut self, place: &Spanned<String>, net: Ipv4Net, purpose: String) -> Result<()> {
        let overlap = |one: &Ipv4Net| one.contains(&net) || net.contains(one);
        if let Some((other, taken)) = self.0.iter().find(|(other, _)| overlap(other)) {
            let reason = format!("{net} for {purpose} overlaps {other}, which is for {taken}: give another subnet");
            return Err(at(place, reason));
        }
        self.0.push((net, purpose));
        Ok(())
    }
}

fn subnet(text: &Spanned<String>) -> Result<Ipv4Net> {
    let net: Ipv4Net = text
        .as_ref()
        .parse()
        .map_err(|_| at(text, format!("`{}` is not a subnet such as 10.0.0.0/24", text.as_ref())))?;
    if net != net.trunc() {
        return Err(at(text, format!("`{net}` is not a subnet: the subnet of that address is {}", net.trunc())));
    }
    Ok(net)
}

/// A DNS label as Kubernetes requires for names (RFC 1123).
fn label(text: &Spanned<String>, what: &str) -> Result<String> {
    if !dns::is_label(text.as_ref()) {
        return Err(at(text, format!("{what} is `{}`, which is no DNS label ({})", text.as_ref(), dns::RULE)));
    }
    Ok(text.as_ref().clone())
}

fn domain(text: &Spanned<String>, what: &str) -> Result<String> {
    if text.as_ref().len() > 253 || !text.as_ref().split('.').all(dns::is_label) {
        return Err(at(text, format!("{what} is `{}`, which is no DNS name in lower case", text.as_ref())));
    }
    Ok(text.as_ref().clone())
}

fn at<T>(place: &Spanned<T>, reason: impl Into<String>) -> Unsound {
    Unsound::new(place.span(), reason)
}
