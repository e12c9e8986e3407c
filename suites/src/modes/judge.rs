//! Dials all cells, tells what each shows, and writes table and claims.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use futures::future::{join_all, try_join_all};
use meshproof::istio::{AccessEntry, inbound, issue, outbound};
use meshproof::policy::{Capture, Ending};
use meshproof::probe::{self, Dial, Exchange};
use meshproof::report::{self, Claim, Look, State, TruthTable};
use meshproof::{Error, Scope};
use tokio::sync::Semaphore;

use super::cells::{self, Cell, Fate};
use super::columns::{From, Kind, SPOKEN};
use super::observe::{Evidence, Observed};
use super::stage::Stage;

/// Most cells that a claim tells of. The table has all.
const TOLD: usize = 6;

/// Commands of quick dials that are made at once, each of up to 32 connections. All at once would measure how two
/// processors cope with thousands of handshakes.
const AT_ONCE: usize = 2;

/// Commands of dials that wait for a silence to end, and how many dials each of them makes: all at once, so that none
/// waits for another's wait. They need no processor.
const WAITING_AT_ONCE: usize = 8;
const WAITING: usize = 32;

/// A dial that was made.
struct Dialled {
    exchange: Exchange,
    /// The caller's proxy's line.
    at_caller: Option<AccessEntry>,
}

/// Judges all cells of a stage.
pub(crate) async fn judge(scope: &Scope, stage: &Stage) -> Result<TruthTable, Error> {
    let issuing = stage.clusters.iter().map(async |cluster| {
        let meshed = probe::meshed(cluster).await?;
        Ok::<_, Error>(issue(&scope.testbed, &meshed).await?)
    });
    let certificates = try_join_all(issuing).await?;
    let cells = cells::all(stage, &certificates)?;
    // The table has the evidence of each cell.
    scope.without_diagnostics();
    stage.await_known(&cells::wanted(stage)).await?;
    let began = Instant::now();
    let dialled = dial(stage, &cells).await?;
    println!("{} dials took {:.0?}", dialled.len(), began.elapsed());
    let at_server = at_servers(stage, &cells, &dialled).await?;
    let seen: Vec<Option<Observed>> = cells.iter().map(|cell| observed(stage, cell, &dialled, &at_server)).collect();
    let table = table(stage, &cells, &seen, &dialled);
    claims(scope, &table);
    report::record_truth(scope.directory(), table.clone()).map_err(Error::suite)?;
    Ok(table)
}

/// Dials by one command of one client.
struct Batch {
    client: (usize, Kind),
    dials: Vec<Dial>,
}

/// Makes all dials, and reads what the callers' proxies logged. By the dials' ids.
async fn dial(stage: &Stage, cells: &[Cell]) -> Result<BTreeMap<String, Dialled>, Error> {
    let mut quick: BTreeMap<(usize, Kind), Vec<Dial>> = BTreeMap::new();
    let mut slow = quick.clone();
    for (cell, made) in cells.iter().filter_map(|cell| Some((cell, cell.made()?))) {
        let client = (made.cluster, cell.from.kind);
        let of_client = if made.waits() { &mut slow } else { &mut quick };
        of_client.entry(client).or_default().push(made.judged.clone());
        if let Some(control) = &made.control {
            quick.entry(client).or_default().push(control.clone());
        }
    }
    // The longest waits first: they decide how long it takes.
    slow.values_mut().for_each(|dials| dials.sort_by_key(|dial| Reverse(dial.timeout_ms)));
    let slow = slow.iter().flat_map(|(client, dials)| {
        dials.chunks(WAITING).map(move |dials| Batch { client: *client, dials: dials.to_vec() })
    });
    let mut slow: Vec<Batch> = slow.collect();
    slow.sort_by_key(|batch| Reverse(batch.dials.first().map(|dial| dial.timeout_ms)));
    let quick = quick.into_iter().map(|(client, dials)| Batch { client, dials });
    let (few, many) = (Semaphore::new(AT_ONCE), Semaphore::new(WAITING_AT_ONCE));
    let slow = slow.into_iter().map(|batch| batch.make(stage, &many));
    let dialling = quick.map(|batch| batch.make(stage, &few)).chain(slow);
    let dialled = try_join_all(dialling).await?.into_iter().flatten();
    Ok(dialled.map(|one| (one.exchange.dial.id.clone(), one)).collect())
}

impl Batch {
    /// Dials once there is a permit, and then gives it up: logs come late, and need no processor until then.
    async fn make(self, stage: &Stage, permits: &Semaphore) -> Result<Vec<Dialled>, Error> {
        let (cluster, kind) = self.client;
        let dialler = &stage.diallers[cluster][&kind];
        let permit = permits.acquire().await.map_err(Error::suite)?;
        let exchanges = dialler.vantage.dial(self.dials).await?;
        drop(permit);
        let logged = match &dialler.proxy {
            Some(proxy) => outbound(&exchanges, proxy).await?,
            None => vec![None; exchanges.len()],
        };
        let dialled = exchanges.into_iter().zip(logged);
        Ok(dialled.map(|(exchange, at_caller)| Dialled { exchange, at_caller }).collect())
    }
}

/// What the servers' proxies logged of the answers, by the dials' ids.
async fn at_servers(
    stage: &Stage,
    cells: &[Cell],
    dialled: &BTreeMap<String, Dialled>,
) -> Result<BTreeMap<String, AccessEntry>, Error> {
    let mut of_row: BTreeMap<(&str, &str), Vec<Exchange>> = BTreeMap::new();
    for (cell, made) in cells.iter().filter_map(|cell| Some((cell, cell.made()?))) {
        if let Some(one) = dialled.get(&made.judged.id).filter(|_| captured(stage, cell)) {
            of_row.entry((cell.group, &cell.row)).or_default().push(one.exchange.clone());
        }
    }
    let reading = of_row.into_iter().map(async |((group, row), exchanges)| {
        let Some(server) = server(stage, group, row) else { return Ok(Vec::new()) };
        let entries = inbound(&exchanges, server).await?;
        let named = exchanges.into_iter().zip(entries).filter_map(|(one, entry)| Some((one.dial.id, entry?)));
        Ok::<Vec<_>, Error>(named.collect())
    });
    let read = join_all(reading).await.into_iter().collect::<Result<Vec<_>, Error>>()?;
    Ok(read.into_iter().flatten().collect())
}

fn server<'a>(stage: &'a Stage, group: &str, row: &str) -> Option<&'a meshproof::Workload> {
    stage.servers.iter().find(|((of, name), _)| *of == group && name == row).map(|(_, server)| server)
}

/// Whether the server's proxy takes the connections of a cell.
fn captured(stage: &Stage, cell: &Cell) -> bool {
    let rows = stage.groups.iter().filter(|group| group.name == cell.group).flat_map(|group| &group.rows);
    let row = rows.into_iter().find(|row| row.name == cell.row);
    let spoken = SPOKEN.iter().find(|spoken| spoken.protocol.to_string() == cell.protocol);
    let port = spoken.and_then(|spoken| probe::port(&stage.clusters[0], spoken.protocol).ok());
    row.zip(port).is_some_and(|(row, port)| row.capture.of(port) == Capture::Sidecar)
}

fn observed(
    stage: &Stage,
    cell: &Cell,
    dialled: &BTreeMap<String, Dialled>,
    at_server: &BTreeMap<String, AccessEntry>,
) -> Option<Observed> {
    let made = cell.made()?;
    let one = dialled.get(&made.judged.id)?;
    let evidence = Evidence {
        exchange: &one.exchange,
        server: server(stage, cell.group, &cell.row)?,
        captured: captured(stage, cell),
        at_server: at_server.get(&made.judged.id),
        proxied: stage.diallers[made.cluster][&cell.from.kind].proxy.is_some(),
        at_caller: one.at_caller.as_ref(),
    };
    Some(evidence.observed(made.foretold.ending))
}

/// What was answered: controls of what was refused.
struct Answers<'a> {
    /// By group, row and protocol.
    places: BTreeMap<(&'a str, &'a str, &'a str), String>,
    /// By caller and protocol.
    callers: BTreeMap<(usize, From, &'a str), String>,
}

impl<'a> Answers<'a> {
    fn of(cells: &'a [Cell], seen: &[Option<Observed>], dialled: &BTreeMap<String, Dialled>) -> Self {
        let mut answers = Self { places: BTreeMap::new(), callers: BTreeMap::new() };
        for (cell, observed) in cells.iter().zip(seen) {
            let control = cell.made().and_then(|made| dialled.get(&made.control.as_ref()?.id));
            if let (Some(made), Some(control)) =
                (cell.made(), control.filter(|one| one.exchange.outcome().is_answered()))
            {
                let id = format!("{} from {}, {}", cell.row_id(), cell.from, control.exchange.destination());
                answers.callers.entry((made.cluster, cell.from, &cell.protocol)).or_insert(id);
            }
            let answered = observed.as_ref().and_then(|one| one.ending).is_some_and(Ending::is_answer);
            let Some(made) = cell.made().filter(|_| answered) else { continue };
            let id = || format!("{} from {}", cell.row_id(), cell.from);
            answers.places.entry((cell.group, &cell.row, &cell.protocol)).or_insert_with(id);
            answers.callers.entry((made.cluster, cell.from, &cell.protocol)).or_insert_with(id);
        }
        answers
    }

    /// The control of a refused cell: its own, otherwise what shows that the server answers others, and that others
    /// answer the caller. `Err` with what is missing.
    fn control(&self, cell: &Cell, dialled: &BTreeMap<String, Dialled>) -> Result<String, String> {
        let Some(made) = cell.made() else { return Err("it was not made".into()) };
        if let Some(control) = made.control.as_ref().and_then(|control| dialled.get(&control.id)) {
            let (to, outcome) = (control.exchange.destination(), control.exchange.outcome());
            let said = format!("the same client to the same pod, {to}: {outcome}");
            return if outcome.is_answered() { Ok(said) } else { Err(format!("its control was not answered: {said}")) };
        }
        let place = self.places.get(&(cell.group, cell.row.as_str(), cell.protocol.as_str()));
        let caller = self.callers.get(&(made.cluster, cell.from, cell.protocol.as_str()));
        match (place, caller) {
            (Some(place), Some(caller)) => {
                Ok(format!("the server answers ({place}), and the client is answered ({caller})"))
            }
            (None, _) => Err("it has no control: the server answered nobody in this protocol".into()),
            (_, None) => Err("it has no control: this client was answered by nobody in this protocol".into()),
        }
    }
}

fn table(stage: &Stage, cells: &[Cell], seen: &[Option<Observed>], dialled: &BTreeMap<String, Dialled>) -> TruthTable {
    let answers = Answers::of(cells, seen, dialled);
    let rows = stage.groups.iter().flat_map(|group| {
        let cluster = stage.clusters[stage.home(group)].name();
        let about = move |about: &str| match group.mode {
            Some(mode) => format!("namespace {mode}; {about}"),
            None => format!("namespace without a policy; {about}"),
        };
        group.rows.iter().map(move |row| report::Row {
            id: format!("{}/{}", group.name, row.name),
            cluster: cluster.into(),
            namespace: group.name.into(),
            about: about(&row.about),
        })
    });
    let mut columns = Vec::new();
    for from in stage.columns() {
        let udp = (from == From { kind: Kind::Automatic, elsewhere: false }).then(|| "udp".to_owned());
        for protocol in SPOKEN.iter().map(|spoken| spoken.protocol.to_string()).chain(udp) {
            let (id, vantage) = (format!("{from}/{protocol}"), from.to_string());
            columns.push(report::Column { id, vantage, protocol });
        }
    }
    let cells = cells.iter().zip(seen).map(|(cell, seen)| entry(cell, seen.as_ref(), &answers, dialled)).collect();
    TruthTable { rows: rows.collect(), columns, cells, ..TruthTable::of(super::SUITE) }
}

/// The entry of a cell in the table.
fn entry(
    cell: &Cell,
    seen: Option<&Observed>,
    answers: &Answers<'_>,
    dialled: &BTreeMap<String, Dialled>,
) -> report::Cell {
    let mut entry = report::Cell {
        row: cell.row_id(),
        column: cell.column_id(),
        state: State::NotMade,
        expected: String::new(),
        observed: String::new(),
        mark: String::new(),
        look: Look::Other,
        why: Vec::new(),
        evidence: Vec::new(),
    };
    let made = match &cell.fate {
        Fate::Unmade(reason) => {
            entry.why.push(reason.clone());
            return entry;
        }
        Fate::Made(made) => made,
    };
    (entry.expected, entry.why, entry.state) =
        (made.foretold.ending.to_string(), made.foretold.why.clone(), State::NotJudged);
    let Some(seen) = seen else { return entry };
    (entry.observed, entry.evidence) = (seen.words.clone(), seen.lines.clone());
    (entry.mark, entry.look) = seen.ending.map(look).unwrap_or_default();
    entry.state = if seen.ending == Some(made.foretold.ending) { State::Holds } else { State::Red };
    if let Some(missing) = &seen.missing {
        entry.evidence.push(missing.clone());
        entry.state = State::NotJudged;
    }
    if entry.state == State::Holds && !made.foretold.ending.is_answer() {
        match answers.control(cell, dialled) {
            Ok(control) => entry.evidence.push(format!("control: {control}")),
            Err(missing) => {
                entry.evidence.push(missing);
                entry.state = State::NotJudged;
            }
        }
    }
    entry
}

/// The letter and the look of an ending.
fn look(ending: Ending) -> (String, Look) {
    use meshproof::policy::Flag;
    let (mark, look) = match ending {
        Ending::MutualTls => ("M", Look::Secure),
        Ending::Plaintext => ("P", Look::Open),
        Ending::Reset => ("R", Look::Refused),
        Ending::Alert => ("A", Look::Refused),
        Ending::Unavailable(Flag::NoEndpoint) => ("H", Look::Refused),
        Ending::Unavailable(Flag::ConnectionFailed) => ("F", Look::Refused),
        Ending::Unavailable(Flag::ConnectionEnded) => ("C", Look::Refused),
        Ending::Unreadable => ("U", Look::Other),
        Ending::Silence => ("S", Look::Other),
    };
    (mark.to_owned(), look)
}

/// One claim for each namespace and client.
fn claims(scope: &Scope, table: &TruthTable) {
    let namespaces: BTreeSet<&str> = table.rows.iter().map(|row| row.namespace.as_str()).collect();
    let vantages: BTreeSet<&str> = table.columns.iter().map(|column| column.vantage.as_str()).collect();
    for namespace in namespaces {
        for vantage in &vantages {
            let (rows, columns) = (format!("{namespace}/"), format!("{vantage}/"));
            let cells =
                table.cells.iter().filter(|cell| cell.row.starts_with(&rows) && cell.column.starts_with(&columns));
            let made: Vec<&report::Cell> = cells.filter(|cell| cell.state != State::NotMade).collect();
            if !made.is_empty() {
                scope.claim(claim(namespace, vantage, &made));
            }
        }
    }
}

fn claim(namespace: &str, vantage: &str, cells: &[&report::Cell]) -> Claim {
    let wrong: Vec<&&report::Cell> = cells.iter().filter(|cell| cell.state != State::Holds).collect();
    let id = format!("modes/{namespace}/{}", vantage.replace(", ", "-").replace(' ', "-"));
    let mut claim = Claim::about(id, "each call ends as Istio's rules say for the policies in effect")
        .from(vantage)
        .to(format!("the servers of the namespace `{namespace}`"))
        .expects(format!("{} cells as the model foretells", cells.len()))
        .observes(
            &wrong,
            |wrong| format!("{} are, {} are not", cells.len() - wrong.len(), wrong.len()),
            |wrong| wrong.is_empty(),
        );
    for cell in wrong.iter().take(TOLD) {
        let because = cell.why.join("; ");
        claim = claim.with_fault(format!(
            "{} {}: {}, must be {} ({because})",
            cell.row, cell.column, cell.observed, cell.expected
        ));
        claim = cell.evidence.iter().fold(claim, |claim, line| claim.with_evidence(line.clone()));
    }
    if wrong.len() > TOLD {
        claim = claim.with_fault(format!("and {} more, in truth-table.json", wrong.len() - TOLD));
    }
    claim
}
