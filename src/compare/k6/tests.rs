use rstest::rstest;

use super::*;

/// Summary of k6 1.1.0 for four users and three seconds, at the driver's own server with RSA-2048.
const RECORDED: &str = include_str!("../../../fixtures/perf/recorded/k6.json");

fn recorded(json: &str) -> std::result::Result<Run, String> {
    let (_, summary) = parse(&format!("2\n{json}"))?;
    let mut run = Run::new("one", 0, Host::default(), json!({}));
    summary.record(&mut run).map(|()| run)
}

#[test]
fn a_recorded_summary_has_the_seeds_fields() {
    let run = recorded(RECORDED).unwrap();
    let seen = |name: &str| run.metrics[name].value;
    for (name, milliseconds) in [
        ("total_mean_us", 11.396_439),
        ("total_p99_us", 56.850_489),
        ("p99_us", 56.850_489),
        ("request_mean_us", 5.857_417),
        ("request_p99_us", 31.985_009),
        ("handshake_mean_us", 4.930_675),
        ("handshake_p99_us", 28.186_203),
        ("request_tls_mean_us", 5.857_417 + 4.930_675),
        ("request_tls_p99_us", 31.985_009 + 28.186_203),
    ] {
        assert!((seen(name) - milliseconds * 1e3).abs() < 1.0, "{name}: {}", seen(name));
    }
    assert_eq!((seen("virtual_users"), seen("requests"), seen("checks")), (4.0, 1054.0, 1054.0));
    assert!((seen("requests_per_second") - 350.395).abs() < 0.01, "{}", seen("requests_per_second"));
    assert_eq!((run.requests, run.errors, run.dropped), (1054, 0, 0));
    // A k6 run is written and read like any other run.
    let directory = tempfile::tempdir().unwrap();
    let read = run.record(directory.path()).unwrap();
    assert!(read.metrics.keys().eq(run.metrics.keys()), "{:?}", read.metrics);
}

#[rstest]
#[case::not_a_summary("null".to_owned(), "its summary cannot be read")]
#[case::cut_off(RECORDED[..RECORDED.len() / 2].to_owned(), "its summary cannot be read")]
#[case::followed(format!("{RECORDED} x"), "more follows its summary")]
#[case::without_a_metric(RECORDED.replace("\"http_req_tls_handshaking\"", "\"other\""), "missing field `http_req_tls_handshaking`")]
#[case::without_a_percentile(RECORDED.replace("p(99)", "p(98)"), "metrics.")]
#[case::in_another_unit(RECORDED.replace("\"contains\":\"time\"", "\"contains\":\"data\""), "is `data` and no time")]
#[case::of_requests_that_were_not_checked(
    RECORDED.replace("\"passes\":1054", "\"passes\":1050"),
    "a check of each"
)]
#[case::without_an_answer(RECORDED.replace("{expected_response:true}", ""), "no request was answered")]
fn a_summary_that_is_not_as_expected_is_refused(#[case] json: String, #[case] reason: &str) {
    let error = recorded(&json).unwrap_err();
    assert!(error.contains(reason), "{error}");
}

#[test]
fn failed_checks_are_errors_and_users_that_were_not_free_dropped_requests() {
    let failing = RECORDED.replace("\"passes\":1054,\"fails\":0", "\"passes\":1050,\"fails\":4");
    let dropping = failing.replace(
        "\"metrics\":{",
        r#""metrics":{"dropped_iterations":{"type":"counter","contains":"default","values":{"count":7,"rate":1}},"#,
    );
    let run = recorded(&dropping).unwrap();
    assert_eq!((run.requests, run.errors, run.dropped), (1061, 4, 7));
}

#[test]
fn a_k6_that_used_its_processors_up_was_the_bottleneck() {
    assert_eq!(saturated(0.79, 1), None);
    assert_eq!(saturated(1.5, 2), None);
    let why = saturated(0.97, 1).unwrap();
    assert!(why.contains("97 % of its 1 processors, more than 80 %"), "{why}");
}

#[test]
fn the_gateway_is_asked_for_by_name_at_its_address() {
    let told = K6Spec {
        users: 8,
        seconds: 4,
        rate: None,
        name: "control.echo.test".into(),
        path: "/echo".into(),
        drain: Duration::ZERO,
    };
    let arguments = told.arguments("172.24.0.9");
    assert!(arguments.contains(&r#"HOSTS={"control.echo.test":"172.24.0.9"}"#.to_owned()), "{arguments:?}");
    assert!(arguments.contains(&"ADDRESS=https://control.echo.test:8443/echo".to_owned()), "{arguments:?}");
    assert!(arguments.contains(&"RATE=0".to_owned()), "as the seed: no rate");
}
