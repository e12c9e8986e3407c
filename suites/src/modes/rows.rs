//! The rows: servers, and the policies over them.

use std::collections::BTreeMap;

use meshproof::policy::{Capture, ClientTls};
use meshproof::scope::ProbePlan;

/// The modes of a `PeerAuthentication`, in the order in which the rows with modes by port go through them.
pub(crate) const MODES: [&str; 4] = ["STRICT", "PERMISSIVE", "DISABLE", "UNSET"];

/// A namespace of servers, in one cluster.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    /// Name in the table.
    pub(crate) name: &'static str,
    /// Mode of the namespace's own policy.
    pub(crate) mode: Option<&'static str>,
    /// Whether the servers are in the last cluster. Otherwise in the first.
    pub(crate) in_last: bool,
    /// Whether a client is in the servers' own namespace as well.
    pub(crate) inside: bool,
    pub(crate) rows: Vec<Row>,
}

/// A server.
#[derive(Debug, Clone, Default)]
pub(crate) struct Row {
    /// Name in its group: of the workload, the service and the row.
    pub(crate) name: String,
    /// What is special about it.
    pub(crate) about: String,
    /// Policies that select it, the oldest first.
    pub(crate) policies: Vec<Workload>,
    pub(crate) capture: Captured,
    /// Whether the service is headless, of a StatefulSet.
    pub(crate) headless: bool,
    /// TLS mode of a rule in the service's namespace.
    pub(crate) rule: Option<Ruled>,
    /// TLS mode of a rule for it in the root namespace.
    pub(crate) root_rule: Option<ClientTls>,
    /// Whether the sidecar is a native one. `None`: as the mesh has them.
    pub(crate) native: Option<bool>,
    /// Whether the service's ports have other names in the other clusters.
    pub(crate) renamed: bool,
}

/// A policy for a workload.
#[derive(Debug, Clone)]
pub(crate) struct Workload {
    pub(crate) mode: &'static str,
    /// Modes by port.
    pub(crate) ports: BTreeMap<u16, &'static str>,
}

/// A rule in the service's namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ruled {
    pub(crate) mode: ClientTls,
    /// Whether the rule is in the other clusters only. Otherwise in all.
    pub(crate) elsewhere_only: bool,
}

/// Who takes the connections to a server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Captured {
    #[default]
    All,
    /// All but these ports.
    Except(Vec<u16>),
    /// No port: the sidecar serves calls of the pod only.
    Nothing,
    /// The pod has no sidecar.
    NoSidecar,
    /// The pod shares its node's network, and so has no sidecar.
    HostNetwork,
}

impl Captured {
    /// Who takes the connections to a container's port.
    pub(crate) fn of(&self, port: u16) -> Capture {
        match self {
            Self::All => Capture::Sidecar,
            Self::Except(ports) if !ports.contains(&port) => Capture::Sidecar,
            Self::Except(_) | Self::Nothing => Capture::Uncaptured,
            Self::NoSidecar | Self::HostNetwork => Capture::NoSidecar,
        }
    }
}

impl Row {
    fn new(name: impl Into<String>, about: impl Into<String>) -> Self {
        Self { name: name.into(), about: about.into(), ..Self::default() }
    }

    fn with(mut self, mode: &'static str) -> Self {
        self.policies.push(Workload { mode, ports: BTreeMap::new() });
        self
    }

    fn with_ports(mut self, mode: &'static str, ports: impl IntoIterator<Item = (u16, &'static str)>) -> Self {
        self.policies.push(Workload { mode, ports: ports.into_iter().collect() });
        self
    }

    /// The probe that serves the row.
    pub(crate) fn plan(&self) -> ProbePlan {
        let mut plan = ProbePlan { name: self.name.clone(), stateful: self.headless, ..ProbePlan::default() };
        if let Some(native) = self.native {
            plan.annotations.insert("sidecar.istio.io/nativeSidecar".into(), native.to_string());
        }
        let traffic = |name: &str| format!("traffic.sidecar.istio.io/{name}");
        match &self.capture {
            Captured::All => {}
            Captured::Except(ports) => {
                let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
                plan.annotations.insert(traffic("excludeInboundPorts"), ports.join(","));
            }
            Captured::Nothing => drop(plan.annotations.insert(traffic("includeInboundPorts"), String::new())),
            Captured::NoSidecar => drop(plan.labels.insert("sidecar.istio.io/inject".into(), "false".into())),
            Captured::HostNetwork => plan.host_network = true,
        }
        plan
    }
}

/// The groups of the table. `ports` are the containers' ports, the first of them HTTP's.
pub(crate) fn groups(ports: &[u16]) -> Vec<Group> {
    let group = |name, mode, in_last, rows| Group { name, mode, in_last, inside: false, rows };
    let inside = |group: Group| Group { inside: true, ..group };
    vec![
        group("none", None, false, vec![plain(), of_workload("UNSET")]),
        group("unset", Some("UNSET"), false, by_workload()),
        group("disable", Some("DISABLE"), false, by_workload()),
        inside(group(
            "permissive",
            Some("PERMISSIVE"),
            true,
            [by_workload(), by_port(ports), ruled(), oldest()].concat(),
        )),
        inside(group(
            "strict",
            Some("STRICT"),
            false,
            [by_workload(), by_port(ports), ruled(), special(ports)].concat(),
        )),
        group("host", Some("STRICT"), false, vec![host()]),
    ]
}

/// The groups of the table under a mode of the whole mesh.
pub(crate) fn of_mesh(mode: &'static str) -> Vec<Group> {
    let group = |name, mode, rows| Group { name, mode, in_last: false, inside: false, rows };
    let inheriting = || vec![plain(), of_workload("UNSET")];
    match mode {
        "STRICT" => vec![
            group("mesh-strict", None, inheriting()),
            group("mesh-strict-unset", Some("UNSET"), vec![plain()]),
            group("mesh-strict-permissive", Some("PERMISSIVE"), inheriting()),
        ],
        "DISABLE" => vec![
            group("mesh-disable", None, [inheriting(), vec![of_workload("STRICT")]].concat()),
            group("mesh-disable-unset", Some("UNSET"), vec![plain()]),
            group("mesh-disable-strict", Some("STRICT"), inheriting()),
        ],
        _ => vec![
            group("mesh-permissive", None, [inheriting(), root_ruled()].concat()),
            group("mesh-permissive-strict", Some("STRICT"), vec![plain(), of_workload("DISABLE")]),
        ],
    }
}

fn plain() -> Row {
    Row::new("plain", "no policy of its own")
}

fn of_workload(mode: &'static str) -> Row {
    Row::new(format!("workload-{}", mode.to_lowercase()), format!("a policy selects it: {mode}")).with(mode)
}

/// A row for each mode of a workload, and one without.
fn by_workload() -> Vec<Row> {
    std::iter::once(plain()).chain(MODES.map(of_workload)).collect()
}

/// Rows in which each port has a mode of its own, so that over all rows each port has each mode.
fn by_port(ports: &[u16]) -> Vec<Row> {
    let rotated = |first: usize| {
        let mode = |index: usize| MODES[(index + first) % MODES.len()];
        let modes = ports.iter().enumerate().map(|(index, port)| (*port, mode(index)));
        let about = format!("ports have modes of their own, HTTP/1.1 {}", mode(0));
        Row::new(format!("ports-{}", mode(0).to_lowercase()), about).with_ports("UNSET", modes)
    };
    (0..MODES.len()).map(rotated).collect()
}

/// Rows with a rule in the service's namespace.
fn ruled() -> Vec<Row> {
    let row = |mode: ClientTls, elsewhere_only: bool| {
        let place = if elsewhere_only { "elsewhere-" } else { "" };
        let name = format!("rule-{place}{}", mode.to_string().to_lowercase().replace('_', "-"));
        let about =
            format!("a rule in its namespace, {}: {mode}", if elsewhere_only { "in other clusters" } else { "in all" });
        Row { rule: Some(Ruled { mode, elsewhere_only }), ..Row::new(name, about) }
    };
    let mut rows: Vec<Row> =
        [ClientTls::IstioMutual, ClientTls::Disable, ClientTls::Simple].map(|mode| row(mode, false)).into();
    rows.push(row(ClientTls::Disable, true));
    rows
}

/// Rows with a rule in the root namespace, which counts where no other does.
fn root_ruled() -> Vec<Row> {
    let row = |mode: ClientTls| {
        let name = format!("root-rule-{}", mode.to_string().to_lowercase().replace('_', "-"));
        Row { root_rule: Some(mode), ..Row::new(name, format!("a rule for it in the root namespace: {mode}")) }
    };
    let mut rows: Vec<Row> = [ClientTls::IstioMutual, ClientTls::Disable, ClientTls::Simple].map(row).into();
    rows.push(Row {
        root_rule: Some(ClientTls::Disable),
        rule: Some(Ruled { mode: ClientTls::IstioMutual, elsewhere_only: false }),
        ..Row::new("root-rule-and-own", "a rule in the root namespace, DISABLE, and one in its own, ISTIO_MUTUAL")
    });
    rows
}

/// Rows with two policies for one workload (A2).
fn oldest() -> Vec<Row> {
    let row = |old: &'static str, young: &'static str| {
        let name = format!("oldest-{}", old.to_lowercase());
        Row::new(name, format!("two policies select it, the older {old}, the younger {young}")).with(old).with(young)
    };
    vec![row("PERMISSIVE", "STRICT"), row("STRICT", "PERMISSIVE")]
}

/// Rows with something that policies do not show.
fn special(ports: &[u16]) -> Vec<Row> {
    let http = ports[0];
    let captured = |name, about, capture| Row { capture, ..Row::new(name, about) };
    vec![
        // The service's port is the container's and 1,000 (A1).
        Row::new("port-of-service", "PERMISSIVE, and STRICT by the number of the service's port, not the container's")
            .with_ports("PERMISSIVE", [(super::objects::service_port(http), "STRICT")]),
        captured("excluded", "the port of HTTP/1.1 is excluded from capture", Captured::Except(vec![http])),
        captured("uncaptured", "a sidecar that captures no inbound port", Captured::Nothing),
        captured("no-sidecar", "a pod without a sidecar", Captured::NoSidecar),
        Row { native: Some(true), ..Row::new("sidecar-native", "its sidecar is a native one: an init container") },
        Row { native: Some(false), ..Row::new("sidecar-container", "its sidecar is an ordinary container") },
        Row { headless: true, ..Row::new("headless", "a StatefulSet behind a headless service") },
        Row { headless: true, ..Row::new("headless-disable", "the same, and a policy selects it: DISABLE") }
            .with("DISABLE"),
        Row { renamed: true, ..Row::new("renamed", "the service's ports have other names in other clusters") },
    ]
}

fn host() -> Row {
    Row { capture: Captured::HostNetwork, ..Row::new("host", "a pod that shares its node's network") }
}
