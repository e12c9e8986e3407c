//! The lines of a log by what a call may be known by: with hundreds of calls and lines, looking at every line for every
//! call takes seconds.

use std::collections::HashMap;

use super::{AccessEntry, without_trace_reason};
use crate::probe::{Exchange, Protocol, Vantage};

/// Fields whose whole value may tell a call.
const FIELDS: [&str; 4] = ["downstream_remote_address", "upstream_local_address", "requested_server_name", "authority"];

/// A log, and where each value stands in it.
#[derive(Debug)]
pub(in crate::istio) struct Index<'a> {
    log: &'a [AccessEntry],
    lines: HashMap<&'a str, Vec<usize>>,
}

impl<'a> Index<'a> {
    pub(in crate::istio) fn of(log: &'a [AccessEntry]) -> Self {
        let mut lines: HashMap<&str, Vec<usize>> = HashMap::new();
        for (at, entry) in log.iter().enumerate() {
            let whole = FIELDS.iter().filter_map(|field| entry.get(field));
            let request = entry.get("request_id").map(stem);
            let nonce = entry.get("path").and_then(|path| Some(path.rsplit_once("nonce=")?.1));
            for value in whole.chain(request).chain(nonce) {
                lines.entry(value).or_default().push(at);
            }
        }
        Self { log, lines }
    }

    /// The lines with one of these values, in the order of the log. A line may be there twice.
    pub(in crate::istio) fn with(&self, values: &[Option<&str>]) -> impl Iterator<Item = &'a AccessEntry> + use<'a> {
        let lines = values.iter().flatten().filter_map(|value| self.lines.get(value));
        let mut lines: Vec<usize> = lines.flatten().copied().collect();
        lines.sort_unstable();
        let log = self.log;
        lines.into_iter().map(move |at| &log[at])
    }

    /// The lines that may be the caller's proxy's about `exchange`.
    pub(super) fn of_source(&self, exchange: &Exchange) -> impl Iterator<Item = &'a AccessEntry> + use<'a> {
        let Exchange { dial, report, vantage, .. } = exchange;
        let told = report.who.as_ref().and_then(|who| who.request_id.as_deref());
        let is_grpc = matches!(dial.protocol, Protocol::Grpc | Protocol::GrpcStream);
        let authority = dial.authority.as_deref().filter(|_| is_grpc && matches!(vantage, Vantage::Host));
        self.with(&[Some(stem(&dial.nonce)), told.map(stem), report.local_address.as_deref(), authority])
    }

    /// The lines that may be the answering probe's proxy's about `exchange`.
    pub(super) fn of_destination(&self, exchange: &Exchange) -> impl Iterator<Item = &'a AccessEntry> + use<'a> {
        self.with(&[exchange.report.who.as_ref().map(|who| who.peer_address.as_str())])
    }
}

/// The part of a request's id that a proxy never changes.
fn stem(id: &str) -> &str {
    without_trace_reason(id).0
}
