//! What each task needs. Each rule stands for requests that `attach`, `scope`, `probe`, `istio` or a suite makes.

use std::collections::BTreeSet;

use super::rule::{Rule, merged};
use crate::record::{self, AccessLog, Write};

const CORE: &str = "";
const APPS: &str = "apps";
const NETWORKING: &str = "networking.istio.io";
const SECURITY: &str = "security.istio.io";

/// Verbs of an object that server-side apply makes, and that clean-up finds by its label.
const OWNED: &[&str] = &["list", "create", "patch", "delete"];

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// `attach`: find out how the mesh is set up.
    Attach,
    /// The suites: deploy probes, dial, read their proxies' logs, judge.
    Suites,
    /// `audit`: judge every port of every workload.
    Audit,
    /// `detach`: remove what was made.
    Detach,
}

/// Whether anything is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Nothing is written.
    ReadOnly,
    /// Suites write into namespaces of their own.
    Suites,
}

impl Mode {
    /// The tasks of a mode.
    pub fn tasks(self) -> &'static [Task] {
        match self {
            Self::ReadOnly => &[Task::Attach],
            Self::Suites => &[Task::Attach, Task::Suites, Task::Audit, Task::Detach],
        }
    }
}

/// The namespaces of a cluster that rules are about, and what suites write there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    /// Namespaces of control planes.
    pub istio: BTreeSet<String>,
    /// Namespaces of gateways whose logs are evidence.
    pub gateways: BTreeSet<String>,
    /// Namespaces of the probes.
    pub probes: BTreeSet<String>,
    /// Those of them that meshproof makes itself.
    pub own: BTreeSet<String>,
    /// Namespace of the Lease.
    pub lease: Option<String>,
    /// Namespace of the Secret with the credentials for the registry.
    pub pull_secret: Option<String>,
    /// What enables the evidence log.
    pub evidence: Option<AccessLog>,
    /// Whether probes are exposed at an east-west gateway.
    pub exposes: bool,
    /// Namespaces for performance comparisons.
    pub bench: BTreeSet<String>,
    /// Changes to objects that are not meshproof's.
    pub writes: Vec<Write>,
}

impl Places {
    /// The places of a control plane, before more is known.
    pub fn of_istio(namespace: &str) -> Self {
        Self { istio: [namespace.to_owned()].into(), ..Self::default() }
    }

    /// The places that a cluster's record names.
    pub fn of(cluster: &record::Cluster, writes: &[Write]) -> Self {
        let gateways = [&cluster.gateways.ingress, &cluster.gateways.eastwest];
        let of = |probes: &record::Probes| probes.each().map(|(probe, _)| probe.namespace.clone());
        let bench = cluster.bench.iter().flat_map(record::Bench::each).map(|(namespace, _)| namespace.to_owned());
        let bench: BTreeSet<String> = bench.collect();
        let of_bench = if cluster.bench_to_deploy().is_some() { bench.clone() } else { BTreeSet::new() };
        let secret = cluster.to_deploy().and_then(|(_, deployment)| deployment.secret());
        Self {
            istio: [cluster.istio.namespace.clone()].into(),
            gateways: gateways.into_iter().flatten().map(|gateway| gateway.namespace.clone()).collect(),
            probes: cluster.probes.iter().flat_map(of).collect(),
            own: cluster.to_deploy().into_iter().flat_map(|(probes, _)| of(probes)).chain(of_bench).collect(),
            lease: cluster.lease_namespace.clone(),
            pull_secret: secret.map(|(namespace, _)| namespace.to_owned()),
            evidence: cluster.istio.access_log.clone(),
            exposes: cluster.gateways.eastwest.is_some(),
            bench,
            writes: writes.to_vec(),
        }
    }
}

/// The rules for these tasks in a cluster.
pub fn needed(tasks: &[Task], places: &Places) -> Vec<Rule> {
    let of = |task: &Task| match task {
        Task::Attach => reading(places),
        Task::Suites => [judging(places), writing(places), changing(places), comparing(places)].concat(),
        Task::Audit => auditing(),
        Task::Detach => removing(places),
    };
    merged(tasks.iter().flat_map(of))
}

/// What `attach` reads.
fn reading(places: &Places) -> Vec<Rule> {
    let mut rules = vec![
        Rule::everywhere(CORE, "namespaces", &["get", "list"], "injection labels, networks, levels of Pod Security"),
        Rule::everywhere(CORE, "nodes", &["list"], "the nodes' architectures"),
        Rule::everywhere(CORE, "pods", &["list"], "istiod, and which workloads have a proxy"),
        Rule::everywhere(CORE, "services", &["list"], "addresses of gateways, names of istiod"),
        Rule::everywhere(CORE, "resourcequotas", &["list"], "quotas that could stop the probes"),
        Rule::everywhere(APPS, "deployments", &["list"], "control planes and gateways"),
        Rule::everywhere(APPS, "daemonsets", &["list"], "Istio's CNI agent, and gateways on every node"),
        Rule::everywhere(NETWORKING, "gateways", &["list"], "which gateways lead to other networks"),
        Rule::everywhere(
            "admissionregistration.k8s.io",
            "mutatingwebhookconfigurations",
            &["list"],
            "revisions and the labels that they inject by",
        ),
    ];
    for namespace in &places.istio {
        rules.extend([
            Rule::everywhere(CORE, "configmaps", &["get"], "mesh configuration and roots").within(namespace),
            Rule::everywhere(CORE, "secrets", &["list"], "names of remote secrets, never their contents")
                .within(namespace),
            to_istiod("ask istiod for its version, its CA and the clusters that it sees").within(namespace),
        ]);
    }
    rules
}

fn to_istiod(why: &str) -> Rule {
    // Kubernetes asks for `create` as well from 1.35 on.
    Rule::everywhere(CORE, "pods/portforward", &["get", "create"], why)
}

/// What suites read, and the requests to pods.
fn judging(places: &Places) -> Vec<Rule> {
    let mut rules = vec![
        Rule::everywhere(CORE, "namespaces", &["get", "list", "watch"], "wait for namespaces of meshproof to end"),
        Rule::everywhere(CORE, "pods", &["list", "watch"], "find the probes and wait for them"),
        Rule::everywhere(APPS, "deployments", &["get", "list", "watch"], "wait for the probes"),
        Rule::everywhere(CORE, "events", &["list"], "why a probe does not start"),
        Rule::everywhere("discovery.k8s.io", "endpointslices", &["list"], "each endpoint of the probes' services"),
        Rule::everywhere(CORE, "pods/exec", &["get", "create"], "dial from the probes, and ask their proxies"),
    ];
    // The namespaces that tests make have names that are not known before.
    rules.push(Rule::everywhere(CORE, "pods/log", &["get"], "evidence in the logs of the probes' proxies"));
    for namespace in &places.istio {
        let pods = Rule::everywhere(CORE, "pods", &["list", "watch"], "find istiod");
        rules.extend([pods.within(namespace), to_istiod("have istiod issue certificates").within(namespace)]);
    }
    for namespace in &places.gateways {
        let log = Rule::everywhere(CORE, "pods/log", &["get"], "evidence in the gateways' logs");
        rules.push(log.within(namespace));
    }
    for namespace in &places.probes {
        let token = "be a probe towards istiod, for a certificate of its identity";
        rules.push(Rule::everywhere(CORE, "serviceaccounts/token", &["create"], token).within(namespace));
    }
    rules
}

/// What suites make in namespaces of their own, and take away again. Tests make namespaces whose names are not known
/// before, so the rules are for the cluster.
fn writing(places: &Places) -> Vec<Rule> {
    let own = "in namespaces of meshproof";
    let mut rules = vec![
        Rule::everywhere(CORE, "namespaces", OWNED, "namespaces for the probes and for each test"),
        Rule::everywhere(APPS, "deployments", OWNED, &format!("the probes, {own}")),
        Rule::everywhere(CORE, "services", OWNED, &format!("the probes' services, {own}")),
        Rule::everywhere(CORE, "serviceaccounts", OWNED, &format!("the probes' identities, {own}")),
        Rule::everywhere(SECURITY, "peerauthentications", OWNED, &format!("STRICT and PERMISSIVE, {own}")),
        Rule::everywhere(SECURITY, "authorizationpolicies", OWNED, &format!("policies and what they decide, {own}")),
        Rule::everywhere(SECURITY, "requestauthentications", OWNED, &format!("issuers of tokens, {own}")),
        Rule::everywhere(NETWORKING, "virtualservices", OWNED, &format!("routes, {own}")),
        Rule::everywhere(NETWORKING, "destinationrules", OWNED, &format!("subsets and limits, {own}")),
        Rule::everywhere(NETWORKING, "serviceentries", OWNED, &format!("names of servers, {own}")),
        Rule::everywhere(NETWORKING, "sidecars", OWNED, &format!("what proxies know, {own}")),
        Rule::everywhere(NETWORKING, "envoyfilters", OWNED, &format!("broken servers, and evidence logs, {own}")),
    ];
    if let Some(AccessLog::Provider(_)) = &places.evidence {
        let why = format!("the evidence log of the probes, {own}");
        rules.push(Rule::everywhere("telemetry.istio.io", "telemetries", OWNED, &why));
    }
    if places.exposes {
        rules.push(Rule::everywhere(
            NETWORKING,
            "gateways",
            OWNED,
            &format!("let other networks reach the probes, {own}"),
        ));
    }
    if let Some(home) = &places.pull_secret {
        let copies = format!("copies of the registry's credentials, {own}");
        rules.push(Rule::everywhere(CORE, "secrets", &["create", "patch"], &copies));
        rules.push(Rule::everywhere(CORE, "secrets", &["get"], "the credentials for the registry").within(home));
    }
    if let Some(home) = &places.lease {
        let lease =
            Rule::everywhere("coordination.k8s.io", "leases", &["get", "create", "update"], "one run at a time");
        rules.push(lease.within(home));
    }
    rules
}

/// What suites change of other people's objects, if the record permits it, and put back.
fn changing(places: &Places) -> Vec<Rule> {
    let mut rules = Vec::new();
    if places.writes.contains(&Write::NodeLabels) {
        let verbs = &["get", "list", "patch"];
        rules.push(Rule::everywhere(CORE, "nodes", verbs, "change labels of nodes, and put them back"));
    }
    if places.writes.contains(&Write::Replicas) {
        let verbs = &["get", "list", "watch", "patch"];
        rules.push(Rule::everywhere(APPS, "deployments", verbs, "scale deployments, and scale them back"));
    }
    rules
}

/// What performance comparisons do.
fn comparing(places: &Places) -> Vec<Rule> {
    let jobs = |namespace: &String| {
        let verbs = &["get", "list", "watch", "create", "delete"];
        [
            Rule::everywhere("batch", "jobs", verbs, "load generators").within(namespace),
            Rule::everywhere(CORE, "pods/attach", &["get", "create"], "start all generators at once").within(namespace),
        ]
    };
    places.bench.iter().flat_map(jobs).collect()
}

/// What `audit` reads, beyond `attach`. Its vantages are the suites' probes.
fn auditing() -> Vec<Rule> {
    let explains = "explains a verdict";
    let mut rules = vec![
        Rule::everywhere(CORE, "namespaces", &["get", "list"], "which workloads there are"),
        Rule::everywhere(CORE, "pods", &["list", "watch"], "which ports each workload declares"),
        Rule::everywhere(CORE, "services", &["list"], "which ports services lead to"),
        Rule::everywhere("discovery.k8s.io", "endpointslices", &["list"], "which pods services lead to"),
        Rule::everywhere("networking.k8s.io", "networkpolicies", &["list"], explains),
    ];
    for resource in ["peerauthentications", "authorizationpolicies"] {
        rules.push(Rule::everywhere(SECURITY, resource, &["list"], explains));
    }
    rules.push(Rule::everywhere(NETWORKING, "destinationrules", &["list"], explains));
    rules
}

/// What `detach` does.
fn removing(places: &Places) -> Vec<Rule> {
    let written = writing(places).into_iter().filter(|rule| rule.verbs.contains(&"delete"));
    let mut rules: Vec<Rule> = written
        .map(|rule| Rule { verbs: vec!["list", "delete"], why: "remove what meshproof made".into(), ..rule })
        .collect();
    rules.push(Rule::everywhere(CORE, "namespaces", &["watch"], "wait until its namespaces are gone"));
    let running = Rule::everywhere("coordination.k8s.io", "leases", &["get"], "whether a run still judges the mesh");
    rules.extend(places.own.iter().map(|namespace| running.clone().within(namespace)));
    rules
}
