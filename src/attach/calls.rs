//! How much is called: an upper bound that a reader can hold against what the mesh bears.

use std::fmt::Write as _;

use crate::record::{Record, Requirement, Write};

/// Dials through an east-west gateway to one network from another, in the suite `mtls`: 6 protocols between meshed
/// probes; certificates and versions of TLS, names and plaintext, each with its control.
const THROUGH_GATEWAY: usize = 40;

/// Dials within a cluster, in the suite `mtls`: all of them to probes.
const WITHIN: usize = 60;

/// Further dials on each path, if signing keys are there.
const WITH_KEYS: usize = 6;

/// Requests for certificates to one istiod, in the suite `mtls`.
const CERTIFICATES: usize = 40;

/// New proxies in a cluster: those of the probes, and those of the tests.
const PROXIES: usize = 4;

/// Most dials at once to one place. A test dials its pairs at once.
const AT_ONCE: usize = 12;

/// The calls of `attach` and of the suite `mtls`, one a line.
pub(super) fn calls(record: &Record) -> String {
    let mut text = String::new();
    let mut line = |what: &str| {
        let _ = writeln!(text, "  {what}");
    };
    line("attach, in every cluster: 15 lists and reads of the API server (pages of 500), 12 of them at once");
    line("attach, istiod: its version, its clusters, one question to its injector (a dry run), one TLS handshake");
    if !record.capabilities.may_write(Write::Namespaces) {
        return text;
    }
    let keys = record.requires([Requirement::SigningKeys]).is_ok();
    let further = if keys { WITH_KEYS } else { 0 };
    for to in &record.clusters {
        let name = &to.name;
        line(&format!("mtls, probes of {name}: {} connections from its own probes", WITHIN + further));
        for from in record.clusters.iter().filter(|from| from.name != to.name) {
            let how = match (from.network == to.network, &to.gateways.eastwest) {
                (true, _) => "to its probes".to_owned(),
                (false, Some(gateway)) => format!("through {}/{}", gateway.namespace, gateway.deployment),
                (false, None) => continue,
            };
            let count = THROUGH_GATEWAY + further;
            line(&format!("mtls, {name}: {count} connections from {} {how}, {AT_ONCE} at once", from.name));
        }
        line(&format!("mtls, istiod of {name}: {CERTIFICATES} certificates, {PROXIES} new proxies"));
    }
    line("no call goes to a workload that is not a probe");
    text
}
