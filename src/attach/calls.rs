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

/// Requests for certificates to one istiod, in the suite `mtls`: by new proxies, and for clients of direct dials.
const CERTIFICATES: usize = 15;

/// Further requests for certificates, for each other cluster that is called through a gateway.
const CERTIFICATES_FOR_GATEWAY: usize = 15;

/// New proxies in a cluster: those of the probes, and those of the tests.
const PROXIES: usize = 4;

/// Requests of the suite `mtls` to one API server: watches, logs, commands in probes.
const REQUESTS: usize = 1_500;

/// The calls of `attach` and of the suite `mtls`, one a line.
pub(super) fn calls(record: &Record) -> String {
    let mut text = String::new();
    let mut line = |what: &str| {
        let _ = writeln!(text, "  {what}");
    };
    line("attach, in every cluster: 17 reads of the API server, 8 at once; a list is one more read per 500 objects");
    line("attach, istiod: its version, its clusters, one question to its injector (a dry run), one TLS handshake");
    if !record.capabilities.may_write(Write::Namespaces) {
        return text;
    }
    line(&format!("mtls, API server of every cluster: {REQUESTS} requests"));
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
            line(&format!("mtls, {name}: {count} connections from {} {how}", from.name));
        }
        let elsewhere = record.clusters.iter().filter(|other| other.network != to.network).count();
        let certificates = CERTIFICATES + CERTIFICATES_FOR_GATEWAY * elsewhere;
        line(&format!("mtls, istiod of {name}: {certificates} certificates, {PROXIES} new proxies"));
    }
    line("tests run at the same time: `cargo test --test mtls -- --test-threads 1` calls for one test after the other");
    line(
        "no call goes to a workload that is not a probe; but east-west gateways are asked for istiod, for the API server",
    );
    line("and for a service outside the mesh, by names that they must refuse");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::{cluster, record};

    fn networks(names: &[&str]) -> Record {
        let clusters = names.iter().map(|name| {
            let mut cluster = cluster(name);
            cluster.network = format!("vpc-{name}");
            cluster.issuers.clear();
            cluster
        });
        record(clusters.collect())
    }

    #[test]
    fn every_pair_of_networks_is_called_through_the_gateway_of_the_one_that_is_called() {
        let two = calls(&networks(&["east", "west"]));
        assert!(two.contains("west: 40 connections from east through istio-system/istio-eastwestgateway"), "{two}");
        assert!(two.contains("istiod of west: 30 certificates"), "{two}");
        let three = calls(&networks(&["east", "west", "north"]));
        assert_eq!(three.matches("through").count(), 6);
        assert!(three.contains("istiod of west: 45 certificates"), "{three}");
    }

    #[test]
    fn a_gateway_that_is_not_there_is_not_called_and_without_writes_there_is_no_suite() {
        let mut mesh = networks(&["east", "west"]);
        mesh.clusters[1].gateways.eastwest = None;
        assert!(!calls(&mesh).contains("mtls, west: 40"));
        mesh.capabilities.writes.clear();
        assert!(!calls(&mesh).contains("mtls"));
    }
}
