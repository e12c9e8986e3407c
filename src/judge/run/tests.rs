use rstest::rstest;

use super::*;
use crate::judge::tests::run;

fn recorded(directory: &Path) -> (Run, PathBuf) {
    let mut histogram = Histogram::new(3).unwrap();
    (1..=1_000).for_each(|value| histogram.record(value).unwrap());
    let mut run = run(1, 1_000.0);
    run.latency(&histogram).unwrap();
    (run.record(directory).unwrap(), directory.join("one/001-treatment.json"))
}

#[test]
fn a_run_is_read_as_it_was_written_with_its_histogram() {
    let directory = tempfile::tempdir().unwrap();
    let (run, path) = recorded(directory.path());
    assert_eq!(Run::read(&path).unwrap(), run);
    assert_eq!((run.metrics["p99_us"].value, run.metrics["p50_us"].value), (990.0, 500.0));
    let histogram = run.histogram("latency").unwrap();
    assert_eq!((histogram.len(), histogram.value_at_quantile(0.99)), (1_000, 990));
    assert!(!path.with_extension("partial").exists());
}

#[rstest]
#[case::schema("meshproof.run/v1", "meshproof.run/v2", "`schema`: `meshproof.run/v2` is not")]
#[case::truncated("\"receipts\"", "", "`(file)`")]
#[case::no_number("\"value\": 990.0", "\"value\": \"990\"", "`metrics.p99_us.value`: invalid type: string")]
#[case::no_ratio("\"value\": 990.0", "\"value\": 0.0", "`metrics.p99_us`: 0 has no ratio")]
#[case::another_median(
    "\"value\": 500.0",
    "\"value\": 50.0",
    "`metrics.p50_us`: 50 us is not what `histograms.latency` has there: 500 us"
)]
#[case::another_tail("\"value\": 990.0", "\"value\": 991.0", "`metrics.p99_us`: 991 us is not what")]
#[case::unknown("\"errors\"", "\"mistakes\"", "unknown field `mistakes`")]
#[case::histogram("\"hdr\": \"HIST", "\"hdr\": \"HISX", "`histograms.latency`: ")]
#[case::block("\"block\": 0", "\"block\": 7", "`block`: run 1 belongs to block 0")]
#[case::place("\"order\": 1", "\"order\": 2", "`order`: by what is in it, this file is named one/002-treatment.json")]
#[case::outside("\"comparison\": \"one\"", "\"comparison\": \"../one\"", "`comparison`: `../one` names no directory")]
#[case::nothing("\"requests\": 10000", "\"requests\": 0", "`requests`: a run without requests measured nothing")]
#[case::too_many("\"errors\": 0", "\"errors\": 10001", "`errors`: with those dropped, more than there were")]
fn a_damaged_run_is_refused_by_file_and_field(#[case] good: &str, #[case] bad: &str, #[case] reason: &str) {
    let directory = tempfile::tempdir().unwrap();
    let (_, path) = recorded(directory.path());
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(good), "{text}");
    std::fs::write(&path, text.replacen(good, bad, 1)).unwrap();
    let error = Run::read(&path).unwrap_err().to_string();
    assert!(error.contains("one/001-treatment.json") && error.contains(reason), "{error}");
}

#[test]
fn a_refused_attempt_is_recorded_beside_the_run_that_took_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let refused = Run { saturated: Some("late".into()), ..run(1, 1_000.0) };
    let refused = Run { refused: refused.refusals(), ..refused }.record(directory.path()).unwrap();
    assert_eq!(refused.file(), "one/001-refused-1-treatment.json");
    assert_eq!(refused.refused[0].reason, "the load generator was the bottleneck: late");
    let judged = Run { attempt: 2, ..run(1, 1_000.0) }.record(directory.path()).unwrap();
    let recording = crate::judge::recorded::read(directory.path()).unwrap();
    assert_eq!(recording["one"], [refused, judged]);
}

#[test]
fn an_attempt_that_measured_nothing_is_recorded() {
    let directory = tempfile::tempdir().unwrap();
    let interrupted = Run {
        requests: 0,
        metrics: BTreeMap::new(),
        refused: vec![Refusal::interrupted("it ended without output")],
        ..run(1, 1_000.0)
    };
    assert_eq!(interrupted.record(directory.path()).unwrap(), interrupted);
}

/// A run cannot be left out by hand.
#[rstest]
#[case::without_a_cause(|run: &mut Run| run.refused = vec![Refusal { cause: Cause::GeneratorSaturated, reason: "slow".into() }])]
#[case::for_another_cause(|run: &mut Run| {
    run.saturated = Some("late".into());
    run.refused = vec![Refusal { cause: Cause::NotFrozen, reason: "late".into() }];
})]
#[case::interrupted_and_measured(|run: &mut Run| run.refused = vec![Refusal::interrupted("no output")])]
#[case::attempt_0(|run: &mut Run| run.attempt = 0)]
fn a_refusal_that_does_not_follow_from_what_was_measured_is_itself_refused(#[case] spoil: fn(&mut Run)) {
    let directory = tempfile::tempdir().unwrap();
    let mut run = run(1, 1_000.0);
    spoil(&mut run);
    let error = run.record(directory.path()).unwrap_err().to_string();
    assert!(error.contains("`refused`: ") || error.contains("`attempt`: "), "{error}");
}
