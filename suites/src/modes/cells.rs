//! The cells: what each must be by the model, the dial that shows it, and the control of what must be refused.

use std::collections::{BTreeMap, BTreeSet};

use meshproof::Error;
use meshproof::identity::ClientCertificate;
use meshproof::policy::{Call, Caller, Client, Ending, Foretold, Server, Service, Speech, foretell};
use meshproof::probe::{self, Dial, dial, handshake};
use meshproof::record::HostPort;

use super::columns::{From, Kind, SPOKEN, Spoken};
use super::objects::{open_port, routed_host, service_port};
use super::rows::{Group, Row};
use super::stage::Stage;

/// Time limit for a dial that must hear nothing, in milliseconds.
const SILENT_MS: u64 = 2_500;

/// Time limit for all other dials: a slow answer is no refusal.
const ANSWERED_MS: u64 = 20_000;

/// Time limit for a dial whose TLS reaches the application: longer than the 10 s that the probe, and a proxy's
/// handshake, wait before they end the connection.
const UNREADABLE_MS: u64 = 14_000;

/// A cell of the table.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    pub(crate) group: &'static str,
    pub(crate) row: String,
    pub(crate) from: From,
    pub(crate) protocol: String,
    pub(crate) fate: Fate,
}

/// Whether a cell is made.
#[derive(Debug, Clone)]
pub(crate) enum Fate {
    /// Not made, for this reason.
    Unmade(String),
    /// Made.
    Made(Box<Made>),
}

#[derive(Debug, Clone)]
pub(crate) struct Made {
    /// The caller's cluster, by number.
    pub(crate) cluster: usize,
    pub(crate) foretold: Foretold,
    pub(crate) judged: Dial,
    /// A dial from the same client to the same pod that must be answered. `None` if there is none: then others show it.
    pub(crate) control: Option<Dial>,
}

impl Made {
    /// Whether the dial ends only because somebody has waited long enough.
    pub(crate) fn waits(&self) -> bool {
        matches!(self.foretold.ending, Ending::Silence | Ending::Unreadable)
    }
}

impl Cell {
    /// Id of the row in the table.
    pub(crate) fn row_id(&self) -> String {
        format!("{}/{}", self.group, self.row)
    }

    /// Id of the column in the table.
    pub(crate) fn column_id(&self) -> String {
        format!("{}/{}", self.from, self.protocol)
    }

    pub(crate) fn made(&self) -> Option<&Made> {
        match &self.fate {
            Fate::Made(made) => Some(made),
            Fate::Unmade(_) => None,
        }
    }
}

/// All cells of a stage.
pub(crate) fn all(stage: &Stage, certificates: &[ClientCertificate]) -> Result<Vec<Cell>, Error> {
    let mut cells = Vec::new();
    for group in &stage.groups {
        for row in &group.rows {
            for from in stage.columns_of(group) {
                for spoken in SPOKEN {
                    let place = Place { stage, group, row, from, spoken };
                    let (row, protocol) = (row.name.clone(), spoken.protocol.to_string());
                    let fate = place.fate(certificates)?;
                    cells.push(Cell { group: group.name, row, from, protocol, fate });
                }
            }
            let reason = "Istio captures no UDP: what a client sends arrives as it is, whatever the mode";
            let from = From { kind: Kind::Automatic, elsewhere: false };
            let (row, protocol) = (row.name.clone(), "udp".to_owned());
            cells.push(Cell { group: group.name, row, from, protocol, fate: Fate::Unmade(reason.into()) });
        }
    }
    Ok(cells)
}

/// The endpoints that each client's proxy must know before anything is dialled.
pub(crate) fn wanted(stage: &Stage) -> BTreeMap<(usize, Kind), BTreeSet<String>> {
    let mut wanted: BTreeMap<(usize, Kind), BTreeSet<String>> = BTreeMap::new();
    for group in &stage.groups {
        for (row, from, spoken) in group.rows.iter().filter(|row| !row.headless).flat_map(|row| {
            stage.columns_of(group).into_iter().flat_map(move |from| SPOKEN.map(move |spoken| (row, from, spoken)))
        }) {
            let place = Place { stage, group, row, from, spoken };
            let Some(cluster) = place.client() else { continue };
            let Some(number) = place.container_port() else { continue };
            for port in [service_port(number), open_port(number)] {
                if place.foretold(cluster, port).is_some_and(|foretold| foretold.ending.is_answer()) {
                    let name = format!("outbound|{port}||{}", stage.host(group, row));
                    wanted.entry((cluster, from.kind)).or_default().insert(name);
                }
            }
        }
    }
    wanted
}

/// The place of a cell.
#[derive(Clone, Copy)]
struct Place<'a> {
    stage: &'a Stage,
    group: &'a Group,
    row: &'a Row,
    from: From,
    spoken: Spoken,
}

impl Place<'_> {
    /// The caller's cluster. `None` if there is no such cluster.
    fn client(&self) -> Option<usize> {
        let home = self.stage.home(self.group);
        if self.from.elsewhere { self.stage.elsewhere(home) } else { Some(home) }
    }

    fn container_port(&self) -> Option<u16> {
        let protocol = self.spoken.protocol;
        let named = probe::port(&self.stage.clusters[0], protocol).ok()?;
        self.stage.ports.iter().map(|port| port.number).find(|number| *number == named)
    }

    /// Why the cell cannot be made.
    fn hindrance(&self) -> Option<&'static str> {
        let without_proxy = matches!(self.from.kind, Kind::Naked | Kind::HostNetwork);
        Some(match self.client() {
            None => "no cluster of the mesh is on another network",
            Some(_) if self.from.elsewhere && without_proxy => {
                "without a proxy there is no route to the pods of another network"
            }
            Some(_) if self.from.elsewhere && self.row.headless => {
                "not supported by Istio: a headless service has no address outside its own network"
            }
            Some(_) if self.from.kind == Kind::Gateway && !self.spoken.is_routed() => {
                "the ingress gateway's listener routes by host name, which only HTTP has"
            }
            Some(cluster) if !self.stage.diallers[cluster].contains_key(&self.from.kind) => {
                "the record names no such client"
            }
            Some(_) => return None,
        })
    }

    fn fate(&self, certificates: &[ClientCertificate]) -> Result<Fate, Error> {
        if let Some(reason) = self.hindrance() {
            return Ok(Fate::Unmade(reason.into()));
        }
        let (Some(cluster), Some(number)) = (self.client(), self.container_port()) else {
            return Ok(Fate::Unmade("the probes have no port for it".into()));
        };
        let port = if self.row.headless { number } else { service_port(number) };
        let Some(foretold) = self.foretold(cluster, port) else {
            return Ok(Fate::Unmade("the policies in effect could not be read".into()));
        };
        let mut judged = self.dial("cell", cluster, port)?;
        judged.timeout_ms = match foretold.ending {
            Ending::Silence => SILENT_MS,
            Ending::Unreadable => UNREADABLE_MS,
            _ => judged.timeout_ms,
        };
        let control = if foretold.ending.is_answer() { None } else { self.control(cluster, number, certificates)? };
        Ok(Fate::Made(Box::new(Made { cluster, foretold, judged, control })))
    }

    fn foretold(&self, cluster: usize, port: u16) -> Option<Foretold> {
        let Self { stage, group, row, from, spoken } = self;
        let number = self.container_port()?;
        let namespace = stage.namespaces[group.name].clone();
        let service = Service {
            host: stage.host(group, row),
            namespace: namespace.clone(),
            port,
            headless: row.headless,
            renamed: row.renamed && from.elsewhere,
        };
        let server = Server {
            namespace,
            labels: [("app".to_owned(), row.name.clone())].into(),
            port: number,
            ports: stage.ports.iter().map(|port| port.number).collect(),
            capture: row.capture.of(number),
        };
        let home = stage.clusters[stage.home(group)].record();
        let gateway = home.gateways.eastwest.as_ref().map(|gateway| gateway.namespace.clone()).unwrap_or_default();
        let gateway = Client { namespace: gateway, is_gateway: true, ..Client::default() };
        let call = Call {
            speech: spoken.speech,
            caller: &stage.diallers[cluster].get(&from.kind)?.caller,
            service: &service,
            server: &server,
            through: from.elsewhere.then_some(&gateway),
            at_caller: &stage.configurations[cluster],
            at_server: &stage.configurations[stage.home(group)],
        };
        foretell(&call)
    }

    fn id(&self, what: &str) -> String {
        let Self { group, row, from, spoken, .. } = self;
        format!("{what}/{}/{}/{from}/{}", group.name, row.name, spoken.protocol)
    }

    fn dial(&self, what: &str, cluster: usize, port: u16) -> Result<Dial, Error> {
        let (Self { stage, group, row, spoken, .. }, id) = (self, self.id(what));
        let timeout_ms = ANSWERED_MS;
        if self.from.kind != Kind::Gateway {
            return Ok(Dial { timeout_ms, ..dial(id, spoken.protocol, stage.host(group, row), port) });
        }
        let HostPort { host, port } = stage.clusters[cluster].record().ingress_address()?;
        let authority = Some(routed_host(row, group, spoken.protocol));
        Ok(Dial { authority, timeout_ms, ..dial(id, spoken.protocol, host, *port) })
    }

    /// A dial from the same client to the same pod that must be answered: for a client with a proxy, by the port that no
    /// rule of a client names; for another, with the mesh's certificate in its hand.
    fn control(&self, cluster: usize, number: u16, certificates: &[ClientCertificate]) -> Result<Option<Dial>, Error> {
        let is_naked = self.stage.diallers[cluster].get(&self.from.kind).is_some_and(|one| one.caller == Caller::Naked);
        if is_naked {
            if self.spoken.speech == Speech::Tls || self.row.headless {
                return Ok(None);
            }
            let address = HostPort::new(self.stage.host(self.group, self.row), service_port(number));
            let certificate = certificates.get(cluster);
            let control = handshake(self.id("control"), &address, None, certificate, self.spoken.protocol);
            return Ok(Some(Dial { timeout_ms: ANSWERED_MS, ..control }));
        }
        let answers = |port| self.foretold(cluster, port).is_some_and(|foretold| foretold.ending.is_answer());
        let open = open_port(number);
        if self.row.headless || self.from.kind == Kind::Gateway || !answers(open) {
            return Ok(None);
        }
        self.dial("control", cluster, open).map(Some)
    }
}
