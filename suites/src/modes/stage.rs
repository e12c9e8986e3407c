//! The servers and clients of the table, made at once and waited for together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future::{try_join, try_join_all};
use k8s_openapi::api::core::v1::Pod;
use meshproof::identity::{Minter, SpiffeId, Validity};
use meshproof::istio::{await_services, configuration, evidence_log};
use meshproof::policy::Configuration;
use meshproof::probe::{self, Protocol, evidence_label};
use meshproof::record::Label;
use meshproof::scope::{ProbePlan, deploy_probes};
use meshproof::{Cluster, Error, Scope, Workload};
use serde_json::Value;

use super::columns::{self, Diallers, From, Kind, Rule, SPOKEN, clients};
use super::objects::{self, Port};
use super::rows::{Captured, Group, Row};

/// Namespace of the clients without a rule.
const AUTOMATIC: &str = "from-meshed";

/// What a test has made.
pub(crate) struct Stage {
    pub(crate) groups: Vec<Group>,
    /// Namespaces, by group.
    pub(crate) namespaces: BTreeMap<&'static str, String>,
    pub(crate) ports: Vec<Port>,
    /// What istiod reads, by cluster.
    pub(crate) configurations: Vec<Configuration>,
    /// Servers, by group and row.
    pub(crate) servers: BTreeMap<(&'static str, String), Workload>,
    /// Clients, by cluster.
    pub(crate) diallers: Vec<Diallers>,
    pub(crate) clusters: Vec<Arc<Cluster>>,
    /// The rules of clients.
    pub(crate) rules: Vec<Rule>,
}

impl Stage {
    /// Makes everything, and waits until all clients know all servers that they can reach.
    pub(crate) async fn set(scope: &Scope, groups: Vec<Group>, rules: &[Rule]) -> Result<Self, Error> {
        let clusters = scope.testbed.clusters.clone();
        let mut making = Making { scope, clusters: &clusters, groups: &groups, rules, spaces: BTreeMap::new() };
        making.namespaces().await?;
        let ports = ports_of(&clusters[0])?;
        making.objects(&ports).await?;
        making.root_rules(&ports).await?;
        // Before the pods are there: whoever changes a policy later makes cells red.
        let read = clusters.iter().map(async |cluster| configuration(cluster).await);
        let configurations = futures::future::join_all(read).await;
        let (servers, diallers) = try_join(making.servers(), making.clients()).await?;
        let names = groups.iter().map(|group| (group.name, making.spaces[&rows_of(group)].clone())).collect();
        Ok(Self {
            groups,
            namespaces: names,
            ports,
            configurations,
            servers,
            diallers,
            clusters,
            rules: rules.to_vec(),
        })
    }

    /// The clients of the columns, those in the servers' namespaces once.
    pub(crate) fn columns(&self) -> Vec<From> {
        let mut named = BTreeSet::new();
        let all = self.groups.iter().flat_map(|group| self.columns_of(group));
        all.filter(|from| named.insert(from.to_string())).collect()
    }

    /// The clients of a group's servers.
    pub(crate) fn columns_of(&self, group: &Group) -> Vec<From> {
        let is_made = |from: &From| match from.kind {
            Kind::Ruled(rule) => self.rules.contains(&rule),
            Kind::HostNetwork => self.diallers.iter().any(|diallers| diallers.contains_key(&Kind::HostNetwork)),
            _ => true,
        };
        let inside = if group.inside { columns::both(&[Kind::Inside(group.name)]) } else { Vec::new() };
        clients().into_iter().filter(is_made).chain(inside).collect()
    }

    /// The cluster of a group's servers, by number.
    pub(crate) fn home(&self, group: &Group) -> usize {
        if group.in_last { self.clusters.len() - 1 } else { 0 }
    }

    /// The first cluster on another network than this one.
    pub(crate) fn elsewhere(&self, home: usize) -> Option<usize> {
        let network = &self.clusters[home].record().network;
        self.clusters.iter().position(|cluster| cluster.record().network != *network)
    }

    /// Full name of a row's service.
    pub(crate) fn host(&self, group: &Group, row: &Row) -> String {
        let domain = &self.clusters[self.home(group)].record().domain;
        format!("{}.{}.svc.{domain}", row.name, self.namespaces[group.name])
    }

    /// Waits until the proxies of a cluster's clients have healthy endpoints of these upstream clusters.
    pub(crate) async fn await_known(&self, wanted: &BTreeMap<(usize, Kind), BTreeSet<String>>) -> Result<(), Error> {
        let waits = wanted.iter().map(async |((cluster, kind), names)| {
            let proxy = self.diallers[*cluster].get(kind).and_then(|dialler| dialler.proxy.as_ref());
            match proxy {
                Some(proxy) => Ok::<(), Error>(await_services(proxy, names).await?),
                None => Ok(()),
            }
        });
        try_join_all(waits).await.map(drop)
    }
}

/// The probes' ports, with names by which Istio knows their protocols.
pub(crate) fn ports_of(cluster: &Cluster) -> Result<Vec<Port>, Error> {
    let named = |protocol: Protocol| match protocol {
        Protocol::Http2 => "http2",
        Protocol::Grpc => "grpc",
        Protocol::Tcp => "tcp",
        Protocol::ServerFirst => "tcp-server-first",
        Protocol::Tls => "tls",
        _ => "http",
    };
    let mut ports: Vec<Port> = Vec::new();
    for protocol in SPOKEN.map(|spoken| spoken.protocol) {
        let number = probe::port(cluster, protocol)?;
        if !ports.iter().any(|port| port.number == number) {
            ports.push(Port { protocol, name: named(protocol), number });
        }
    }
    Ok(ports)
}

/// Name of the use of a group's namespace.
fn rows_of(group: &Group) -> String {
    format!("rows-{}", group.name)
}

/// The pod of a client with a sidecar.
fn client_plan(kind: Kind) -> ProbePlan {
    let mut plan = ProbePlan { name: objects::CLIENT.into(), ..ProbePlan::default() };
    match kind {
        Kind::Uncaptured => {
            plan.name = "client-uncaptured".into();
            plan.annotations.insert("traffic.sidecar.istio.io/includeInboundPorts".into(), String::new());
        }
        Kind::Ruled(Rule::Mutual) => objects::mount_own(&mut plan.annotations),
        _ => {}
    }
    plan
}

struct Making<'a> {
    scope: &'a Scope,
    clusters: &'a [Arc<Cluster>],
    groups: &'a [Group],
    rules: &'a [Rule],
    /// Namespaces, by use. The same in all clusters.
    spaces: BTreeMap<String, String>,
}

impl Making<'_> {
    fn home(&self, group: &Group) -> &Arc<Cluster> {
        &self.clusters[if group.in_last { self.clusters.len() - 1 } else { 0 }]
    }

    /// Uses of the clients' namespaces.
    fn callers(&self) -> Vec<String> {
        std::iter::once(AUTOMATIC.to_owned()).chain(self.rules.iter().map(|rule| rule.purpose())).collect()
    }

    async fn namespaces(&mut self) -> Result<(), Error> {
        let uses: Vec<String> = self.groups.iter().map(rows_of).chain(self.callers()).collect();
        let making = uses.iter().flat_map(|purpose| self.clusters.iter().map(move |cluster| (purpose, cluster)));
        let making = making.map(async |(purpose, cluster)| {
            let injection = cluster.record().istio.injection.clone();
            // What the pods of some rows do, such as sharing their node's network, is refused at any other level.
            let level = Label { key: "pod-security.kubernetes.io/enforce".into(), value: "privileged".into() };
            let name = self.scope.namespace(cluster, purpose, &[injection, level]).await?;
            Ok::<_, Error>((purpose.clone(), name))
        });
        self.spaces = try_join_all(making).await?.into_iter().collect();
        Ok(())
    }

    async fn objects(&self, ports: &[Port]) -> Result<(), Error> {
        // The oldest policy of a workload counts, and ages are told in whole seconds: the younger ones come last.
        for age in 0..3 {
            let applying = self
                .clusters
                .iter()
                .map(async |cluster| self.scope.apply_all(cluster, self.of_age(age, cluster, ports)).await);
            try_join_all(applying).await?;
        }
        Ok(())
    }

    /// The rules in the root namespace. The rest of the mesh calls no server of theirs.
    async fn root_rules(&self, ports: &[Port]) -> Result<(), Error> {
        for group in self.groups {
            for (row, mode) in group.rows.iter().filter_map(|row| Some((row, row.root_rule?))) {
                let placing = self.clusters.iter().map(async |cluster| {
                    let (record, namespace) = (cluster.record(), self.space(group));
                    let host = format!("{}.{namespace}.svc.{}", row.name, record.domain);
                    let (name, root) = (format!("{namespace}-{}", row.name), &record.istio.namespace);
                    self.scope.place(cluster, objects::rule(&name, root, &host, mode, ports, false)).await
                });
                try_join_all(placing).await?;
            }
        }
        Ok(())
    }

    fn of_age(&self, age: usize, cluster: &Cluster, ports: &[Port]) -> Vec<Value> {
        let each = || self.groups.iter().flat_map(|group| group.rows.iter().map(move |row| (group, row)));
        let policies = |age: usize| {
            each().filter_map(move |(group, row)| objects::of_row(row, self.space(group)).into_iter().nth(age))
        };
        match age {
            0 => {
                let whole = self.groups.iter().filter_map(|group| objects::of_namespace(group, self.space(group)));
                whole.chain(policies(0)).collect()
            }
            1 => self.others(cluster, ports),
            _ => policies(1).collect(),
        }
    }

    fn space(&self, group: &Group) -> &str {
        &self.spaces[&rows_of(group)]
    }

    /// All objects that are no policies.
    fn others(&self, cluster: &Cluster, ports: &[Port]) -> Vec<Value> {
        let record = cluster.record();
        let mut seen_by: Vec<String> = self.callers().iter().map(|purpose| self.spaces[purpose].clone()).collect();
        let gateways = [&record.gateways.ingress, &record.gateways.eastwest];
        seen_by.extend(gateways.into_iter().flatten().map(|gateway| gateway.namespace.clone()));
        seen_by.dedup();
        let mut all = Vec::new();
        for group in self.groups {
            let (namespace, home) = (self.space(group), self.home(group));
            let seen_by: Vec<String> = seen_by.iter().cloned().chain(group.inside.then(|| ".".to_owned())).collect();
            all.extend(group.inside.then(|| objects::calls_neighbours(namespace)));
            let elsewhere = home.name() != cluster.name();
            for row in &group.rows {
                all.push(objects::service(row, namespace, ports, &seen_by, row.renamed && elsewhere));
                let ruled = row.rule.filter(|rule| elsewhere || !rule.elsewhere_only);
                let host = format!("{}.{namespace}.svc.{}", row.name, record.domain);
                all.extend(ruled.map(|rule| objects::rule(&row.name, namespace, &host, rule.mode, ports, false)));
            }
            for rule in self.rules {
                let (host, from) = (format!("*.{namespace}.svc.{}", record.domain), &self.spaces[&rule.purpose()]);
                all.push(objects::rule(group.name, from, &host, rule.tls(), ports, true));
            }
            let routed = SPOKEN.iter().filter(|spoken| spoken.is_routed()).filter_map(|spoken| {
                let number = probe::port(cluster, spoken.protocol).ok()?;
                Some(Port { protocol: spoken.protocol, name: "http", number })
            });
            let routed: Vec<Port> = routed.collect();
            all.extend(objects::routes(group, namespace, cluster, &routed).into_iter().flatten());
            all.push(objects::calls_nobody(namespace));
            let gateway = record.gateways.eastwest.as_ref();
            all.extend(gateway.and_then(|gateway| meshproof::istio::exposed(gateway, namespace, &record.domain)));
        }
        if let Some(log) = &record.istio.access_log {
            let label = evidence_label();
            all.extend(self.spaces.values().map(|namespace| evidence_log(log, "evidence", namespace, &label)));
        }
        all
    }

    async fn servers(&self) -> Result<BTreeMap<(&'static str, String), Workload>, Error> {
        let deploying = self.groups.iter().map(async |group| {
            let plans: Vec<ProbePlan> = group.rows.iter().map(Row::plan).collect();
            let ready = deploy_probes(self.scope, self.home(group), self.space(group), &plans).await?;
            for (row, pod) in group.rows.iter().zip(&ready) {
                if let Some(native) = row.native {
                    has_sidecar(pod, native).await?;
                }
            }
            let named = group.rows.iter().zip(ready).map(|(row, pod)| ((group.name, row.name.clone()), pod));
            Ok::<Vec<_>, Error>(named.collect())
        });
        Ok(try_join_all(deploying).await?.into_iter().flatten().collect())
    }

    async fn clients(&self) -> Result<Vec<Diallers>, Error> {
        try_join_all(self.clusters.iter().map(async |cluster| self.clients_of(cluster).await)).await
    }

    async fn clients_of(&self, cluster: &Arc<Cluster>) -> Result<Diallers, Error> {
        let inside = self.groups.iter().filter(|group| group.inside);
        let kinds = [Kind::Automatic, Kind::Uncaptured].map(|kind| (kind, AUTOMATIC.to_owned())).into_iter();
        let kinds = kinds
            .chain(self.rules.iter().map(|rule| (Kind::Ruled(*rule), rule.purpose())))
            .chain(inside.map(|group| (Kind::Inside(group.name), rows_of(group))));
        let own = Minter::authority("meshproof-stranger")?;
        let own = own.mint(&SpiffeId::workload("stranger.example", "none", "none"), Validity::Now)?;
        let meshed = kinds.map(async |(kind, purpose)| {
            let plan = client_plan(kind);
            if kind == Kind::Ruled(Rule::Mutual) {
                self.scope.apply(cluster, &mut objects::own_certificate(&self.spaces[&purpose], &own)).await?;
            }
            let mut ready = deploy_probes(self.scope, cluster, &self.spaces[&purpose], &[plan]).await?;
            Ok::<_, Error>((kind, columns::meshed(ready.remove(0), BTreeMap::new())))
        });
        let mut all: Diallers = try_join_all(meshed).await?.into_iter().collect();
        all.insert(Kind::Naked, columns::probe_naked(cluster).await?);
        all.extend(columns::gateway(cluster).await?.map(|gateway| (Kind::Gateway, gateway)));
        all.extend(self.in_host_network(cluster).await?.map(|client| (Kind::HostNetwork, columns::naked(client))));
        Ok(all)
    }

    /// The pod of a cluster that shares its node's network. Two of them on one node would want the same ports: so the
    /// server of the row is the client as well.
    async fn in_host_network(&self, cluster: &Arc<Cluster>) -> Result<Option<Workload>, Error> {
        let is_it = |row: &Row| row.capture == Captured::HostNetwork;
        let found = self.groups.iter().find_map(|group| Some((group, group.rows.iter().find(|row| is_it(row))?)));
        let Some((group, row)) = found else { return Ok(None) };
        let mut plan = row.plan();
        if self.home(group).name() != cluster.name() {
            // Not of the row's service.
            plan.name = "client".into();
        }
        Ok(deploy_probes(self.scope, cluster, self.space(group), &[plan]).await?.pop())
    }
}

/// Checks that the sidecar of a pod is a native one, or that it is an ordinary container.
async fn has_sidecar(workload: &Workload, native: bool) -> Result<(), Error> {
    let Workload { cluster, namespace, pod, .. } = workload;
    let found = cluster.api::<Pod>(namespace).get(pod).await;
    let found = found.map_err(cluster.failed(format!("read pod {namespace}/{pod}")))?;
    let spec = found.spec.unwrap_or_default();
    let containers = if native { spec.init_containers.unwrap_or_default() } else { spec.containers };
    if containers.iter().any(|container| container.name == cluster.record().istio.proxy.container) {
        return Ok(());
    }
    let kind = if native { "a native sidecar" } else { "an ordinary container as its sidecar" };
    Err(Error::suite(format!("{workload} has not {kind}: istiod does not heed sidecar.istio.io/nativeSidecar")))
}
