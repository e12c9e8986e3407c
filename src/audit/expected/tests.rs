//! The file of exceptions, and what it changes.

use std::time::UNIX_EPOCH;

use rstest::rstest;

use super::super::pod::Owner;
use super::*;
use crate::policy::Effective;
use crate::record::days;

const FILE: &str = r#"
[[allow]]
namespace = "legacy"
mode = "permissive"
until = 2026-06-30
reason = "the batch client has no sidecar yet"

[[allow]]
namespace = "legacy"
workload = "db"
port = 3306
mode = "plaintext"
until = 2999-12-31
reason = "a database of its own"
"#;

fn at(date: &str) -> SystemTime {
    let date: toml::value::Datetime = date.parse().unwrap();
    UNIX_EPOCH + std::time::Duration::from_secs(u64::try_from(days(date.date.unwrap())).unwrap() * 86_400)
}

fn pod(proxy: Proxy) -> Pod {
    Pod {
        namespace: "legacy".into(),
        name: "cart-1".into(),
        uid: "1".into(),
        service_account: "cart".into(),
        node: "node".into(),
        owner: Owner { kind: "Deployment".into(), name: "db".into() },
        labels: Default::default(),
        addresses: vec!["10.0.0.1".into()],
        proxy,
        absent: None,
        host_network: false,
        ready: true,
        uncaptured: None,
        ports: Default::default(),
    }
}

fn expected(file: &str, pod: &Pod, port: u16, on: &str) -> Expected {
    let place = Place { cluster: "east", pod, port, system: false };
    Expected::of(place, Basis::Strict, None, &Expectations::parse(file).unwrap(), at(on))
}

#[test]
fn an_exception_holds_to_the_end_of_its_last_day_and_not_longer() {
    let pod = pod(Proxy::Container);
    let on_last_day = expected(FILE, &pod, 80, "2026-06-30");
    assert_eq!(on_last_day.is_met_by(&Kind::Permissive), Some(true));
    assert_eq!(on_last_day.is_met_by(&Kind::Strict), Some(true), "better than allowed");
    assert_eq!(on_last_day.is_met_by(&Kind::PlaintextOnly), Some(false), "PERMISSIVE is not plaintext only");
    assert_eq!(expected(FILE, &pod, 80, "2026-07-01"), Expected::Strict);
}

#[test]
fn an_exception_for_a_port_is_for_that_port_of_that_workload() {
    let (missing, on) = (pod(Proxy::Missing { why: String::new() }), "2026-07-01");
    assert_eq!(expected(FILE, &missing, 3306, on).is_met_by(&Kind::PlaintextOnly), Some(true));
    assert_eq!(expected(FILE, &missing, 3307, on), Expected::Strict);
    let other = Pod { owner: Owner { kind: "Deployment".into(), name: "web".into() }, ..missing };
    assert_eq!(expected(FILE, &other, 3306, on), Expected::Strict);
}

#[test]
fn an_exception_that_matches_no_port_is_named_with_its_file_and_its_line() {
    let pod = pod(Proxy::Container);
    let read = Expectations::parse(FILE).unwrap();
    let expectations = Expectations { path: Some("expected.toml".into()), ..read };
    let found = |port| [Found { cluster: "east", pod: &pod, port }];
    let unused = |namespaces: &[String], port, on: &str| -> Vec<String> {
        expectations.unused(namespaces, &found(port), at(on)).iter().map(ToString::to_string).collect()
    };
    let on = "2026-01-01";
    assert_eq!(unused(&[], 3306, on), Vec::<String>::new());
    let named = "expected.toml:8: the exception for legacy/db/3306 until 2999-12-31 matches nothing";
    assert!(unused(&[], 80, on).concat().starts_with(named), "{:?}", unused(&[], 80, on));
    assert_eq!(unused(&["legacy".into()], 80, on).len(), 1);
    assert_eq!(unused(&["shop".into()], 80, on), Vec::<String>::new(), "what was not asked is not known");
    let nobody = expectations.unused(&[], &[], at("2026-07-01"));
    assert_eq!(nobody.len(), 1, "an exception that has ended is named as such: {nobody:?}");
}

#[rstest]
#[case::unknown_key("[[allow]]\nnamespace = \"a\"\nmode = \"permissive\"\nuntill = 2026-01-01\nreason = \"r\"", &["line 4", "untill"])]
#[case::unknown_table("[[allowed]]\nnamespace = \"a\"", &["line 1", "allowed"])]
#[case::no_end("[[allow]]\nnamespace = \"a\"\nmode = \"permissive\"\nreason = \"r\"", &["line 1", "until"])]
#[case::no_such_mode("[[allow]]\nnamespace = \"a\"\nmode = \"strict\"\nuntil = 2026-01-01\nreason = \"r\"", &["line 3", "permissive"])]
#[case::no_such_day("[[allow]]\nnamespace = \"a\"\nmode = \"permissive\"\nuntil = 2026-02-30\nreason = \"r\"", &["line 4"])]
#[case::no_reason("[[allow]]\nnamespace = \"a\"\nmode = \"permissive\"\nuntil = 2026-01-01\nreason = \" \"", &["empty `reason`"])]
fn an_unusable_file_is_refused_with_its_line(#[case] file: &str, #[case] parts: &[&str]) {
    let error = Expectations::parse(file).unwrap_err();
    for part in parts {
        assert!(error.contains(part), "`{part}` is not in: {error}");
    }
}

#[test]
fn outside_the_mesh_nothing_is_expected_and_a_missing_sidecar_is_not_outside() {
    let on = "2026-07-01";
    let outside = expected("", &pod(Proxy::Outside { why: "w".into() }), 80, on);
    assert_eq!(outside.is_met_by(&Kind::PlaintextOnly), None);
    let missing = expected("", &pod(Proxy::Missing { why: "w".into() }), 80, on);
    assert_eq!(missing.is_met_by(&Kind::PlaintextOnly), Some(false));
}

#[test]
fn by_policy_a_port_must_be_what_its_policy_says_and_neither_more_nor_less() {
    let pod = pod(Proxy::Native);
    let by = |mode: Mode| {
        let effective = Effective { mode, policy: None, by: String::new(), without_effect: Vec::new() };
        let place = Place { cluster: "east", pod: &pod, port: 80, system: false };
        Expected::of(place, Basis::Policy, Some(&effective), &Expectations::default(), SystemTime::now())
    };
    for (mode, owed) in
        [(Mode::Strict, Kind::Strict), (Mode::Permissive, Kind::Permissive), (Mode::Disable, Kind::PlaintextOnly)]
    {
        for kind in [Kind::Strict, Kind::Permissive, Kind::PlaintextOnly] {
            assert_eq!(by(mode).is_met_by(&kind), Some(kind == owed), "{mode}: {kind}");
        }
    }
}
