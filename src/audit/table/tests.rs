//! The table as a reader sees it.

use std::collections::BTreeMap;

use super::super::expected::Expected;
use super::super::kind::Wire;
use super::super::pace::Rates;
use super::super::pod::{Owner, PortKey, Transport};
use super::*;
use crate::identity::{SpiffeId, Verified};

fn cell(pod: &str, port: u16, kind: Kind) -> Cell {
    let served = matches!(kind, Kind::Strict | Kind::Permissive).then(|| Verified {
        id: SpiffeId::workload("cluster.local", "boutique", "cart"),
        issued_by: vec!["cluster1".into()],
        expires: SystemTime::now() + Duration::from_secs(7_300),
    });
    Cell {
        cluster: "cluster1".into(),
        vantage: "cluster1".into(),
        namespace: "boutique".into(),
        workload: Owner { kind: "Deployment".into(), name: "cart".into() },
        pod: pod.into(),
        address: None,
        port: PortKey { number: port, transport: Transport::Tcp },
        services: Vec::new(),
        wire: Wire { served, ..Wire::not_judged(kind) },
        versions: Vec::new(),
        expected: Expected::Strict,
        why: vec!["PeerAuthentication boutique/open (workload) is PERMISSIVE".into()],
    }
}

fn audit(cells: Vec<Cell>) -> Audit {
    let left_out = vec![LeftOut { cluster: "cluster1".into(), namespace: "kube-system".into(), pods: 7 }];
    let took = Duration::from_millis(2_500);
    let services = Vec::new();
    Audit {
        cells,
        services,
        left_out,
        expired: Vec::new(),
        unused: Vec::new(),
        without_ports: 1,
        rates: Rates::default(),
        took,
    }
}

fn plain(cells: Vec<Cell>) -> String {
    table(&audit(cells), Style::default())
}

#[test]
fn replicas_that_are_alike_are_one_line_and_one_that_differs_is_another() {
    let cells =
        vec![cell("cart-a", 80, Kind::Strict), cell("cart-b", 80, Kind::Strict), cell("cart-c", 80, Kind::Permissive)];
    let text = plain(cells);
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("cluster1")).collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(lines[0].contains("deployment/cart (2 pods)") && lines[0].contains("✓ STRICT"), "{text}");
    assert!(lines[1].contains("✗ PERMISSIVE") && lines[1].contains("boutique/cart, 2 h"), "{text}");
}

#[test]
fn only_what_is_not_as_expected_is_explained() {
    let text = plain(vec![cell("cart-a", 80, Kind::Strict), cell("cart-a", 81, Kind::Permissive)]);
    assert_eq!(text.matches("boutique/open").count(), 1, "{text}");
    assert!(text.contains("    expected STRICT"), "{text}");
}

#[test]
fn what_was_not_judged_and_what_was_left_out_is_counted_and_said() {
    let inconclusive = Kind::Inconclusive { why: "no connection".into() };
    let unreachable = Kind::Unreachable { how: "connection refused: nothing listens".into() };
    let text = plain(vec![cell("cart-a", 80, inconclusive), cell("cart-a", 81, unreachable)]);
    for part in [
        "? inconclusive",
        "no connection",
        "unreachable: connection refused",
        "2 ports: 0 as expected, 0 not as expected, 1 could not be told, 0 outside the mesh, 1 not judged",
        "left out: 7 pods of kube-system in cluster1",
        "1 pods have no port",
        "at most 20 connections a second to a pod, and 200 in all; 2.5 s",
    ] {
        assert!(text.contains(part), "`{part}` is not in:\n{text}");
    }
}

#[test]
fn a_narrow_terminal_cuts_names_in_the_middle_and_never_a_result() {
    let mut wide = cell("cart-a", 80, Kind::Permissive);
    wide.workload.name = "a-very-long-name-of-a-deployment-with-an-end".into();
    let style = Style { color: false, width: Some(100) };
    let text = table(&audit(vec![wide]), style);
    let line = text.lines().find(|line| line.starts_with("cluster1")).unwrap();
    assert!(line.chars().count() <= 100 && line.contains('…') && line.contains("✗ PERMISSIVE"), "{line}");
    assert!(line.contains("deployment/") && line.contains("end"), "{line}");
}

#[test]
fn colour_is_added_to_whole_lines_and_can_be_left_out() {
    let cells = || vec![cell("cart-a", 80, Kind::Permissive)];
    let colored = table(&audit(cells()), Style { color: true, width: None });
    assert!(colored.contains("\u{1b}[31mcluster1") && !plain(cells()).contains('\u{1b}'), "{colored}");
}

#[test]
fn the_report_counts_what_holds_and_an_empty_one_holds_nothing() {
    let mixed = audit(vec![cell("cart-a", 80, Kind::Strict), cell("cart-a", 81, Kind::Permissive)]);
    assert_eq!(mixed.counts(), BTreeMap::from([(Standing::Holds, 1), (Standing::Red, 1)]));
    assert!(!mixed.holds());
    assert!(audit(vec![cell("cart-a", 80, Kind::Strict)]).holds());
    let nothing = Kind::NotJudged { why: "UDP carries no mutual TLS".into() };
    assert!(!audit(vec![cell("cart-a", 80, nothing)]).holds(), "nothing judged is not all as expected");
    let unclear = Kind::Inconclusive { why: "no connection".into() };
    assert!(!audit(vec![cell("cart-a", 80, Kind::Strict), cell("cart-a", 81, unclear)]).holds());
}
