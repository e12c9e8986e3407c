//! Claims that the load driver is at least as good as the other generators.

use meshproof::report::Claim;

use super::Compare;
use super::generator::{Generator, STALL_MS, Scenario};
use super::outcome::{Latencies, Measured, Outcome};

/// Tolerance for a reported latency: a share of the known latency, or this number of milliseconds if that is larger.
const EXACT: (f64, f64) = (0.02, 0.05);

/// One claim: the requirement, and the two numbers that decide the claim, also in words.
struct Line {
    id: &'static str,
    owed: String,
    expected: String,
    observed: Option<String>,
    holds: bool,
}

/// All requirements, as claims. A claim without a measurement does not hold.
pub(super) fn claims(compare: &Compare, measured: &Measured) -> Vec<Claim> {
    let mut lines = exact(measured);
    lines.push(stall(compare, measured));
    lines.extend(new_connections(measured));
    lines.extend(kept(measured));
    lines.into_iter().map(|line| claim(compare, line)).collect()
}

fn claim(compare: &Compare, line: Line) -> Claim {
    let stated = Claim::about(format!("load/{}", line.id), line.owed)
        .from("the load driver, on a core of its own")
        .to("the built-in server, on another")
        .expects(line.expected);
    let claim = match &line.observed {
        Some(observed) => stated.observes(observed, String::clone, |_| line.holds),
        None => stated.not_judged("nothing was measured"),
    };
    claim.with_evidence(format!("medians of {} runs of {} s each", compare.rounds, compare.seconds))
}

/// Compares quantiles with the server's own record of the same run.
fn exact(measured: &Measured) -> Vec<Line> {
    type Quantile = fn(&Latencies) -> Option<f64>;
    let quantiles: [(&str, &str, Quantile); 3] = [
        ("exact/p50", "p50", |latencies| Some(latencies.p50_ms)),
        ("exact/p99", "p99", |latencies| Some(latencies.p99_ms)),
        ("exact/p99.9", "p99.9", |latencies| latencies.p99_9_ms),
    ];
    let line = |(id, name, of): (&'static str, &str, Quantile)| {
        let median =
            |value: &dyn Fn(&Outcome) -> Option<f64>| measured.median(Scenario::Known, Generator::Meshproof, value);
        let off = median(&|outcome| Some(of(&outcome.reported)? - of(&outcome.truth)?));
        let known = median(&|outcome| of(&outcome.truth));
        let both = off.zip(known);
        Line {
            id,
            owed: "latencies are the server's own".into(),
            expected: format!("{name} within 2 % or 50 µs of the server's"),
            observed: both.map(|(off, known)| format!("{:+.0} µs, of {known:.3} ms", off * 1e3)),
            holds: both.is_some_and(|(off, known)| off.abs() <= (known * EXACT.0).max(EXACT.1)),
        }
    };
    quantiles.into_iter().map(line).collect()
}

/// Of rate × seconds requests, those during the stall wait for the rest of the stall. The first of them are the slowest
/// 1 %.
fn stall(compare: &Compare, measured: &Measured) -> Line {
    let expected = STALL_MS - 10.0 * f64::from(compare.seconds);
    // The start of the stall between two requests is unknown: allow one interval.
    let tolerance = expected * EXACT.0 + 1e3 / f64::from(compare.rate);
    let p99 = |generator| measured.median(Scenario::Stall, generator, |outcome| Some(outcome.reported.p99_ms));
    let own = p99(Generator::Meshproof);
    let others = [Generator::Fortio, Generator::K6]
        .map(|other| format!("{} says {:.1} ms", other.name(), p99(other).unwrap_or(f64::NAN)));
    Line {
        id: "stall",
        owed: "a stall of 200 ms raises p99 as arithmetic says it must".into(),
        expected: format!("{expected:.1} ± {tolerance:.1} ms"),
        observed: own.map(|own| format!("{own:.1} ms; {}", others.join(", "))),
        holds: own.is_some_and(|own| (own - expected).abs() <= tolerance),
    }
}

/// The rate that one core of the generator supports. The measured rates depend on the server's core, the bottleneck.
fn new_connections(measured: &Measured) -> Vec<Line> {
    [("new-tls/k6", Generator::K6, 2.0), ("new-tls/wrk", Generator::Wrk, 1.0)]
        .into_iter()
        .map(|(id, other, factor)| {
            let of = |generator, value: fn(&Outcome) -> f64| {
                measured.median(Scenario::NewTls, generator, |outcome| Some(value(outcome)))
            };
            let cores = of(Generator::Meshproof, Outcome::of_a_core).zip(of(other, Outcome::of_a_core));
            let rates = of(Generator::Meshproof, |outcome| outcome.rate).zip(of(other, |outcome| outcome.rate));
            let name = other.name();
            Line {
                id,
                owed: "new TLS connections a second of a core (RSA-2048 server)".into(),
                expected: format!("at least {factor} × those of {name}"),
                observed: cores.zip(rates).map(|((own, others), (rate, other_rate))| {
                    format!(
                        "{own:.0} and {others:.0} by CPU time, × {:.2}; made {rate:.0} and {other_rate:.0} a second",
                        own / others
                    )
                }),
                holds: cores.is_some_and(|(own, others)| own >= factor * others),
            }
        })
        .collect()
}

fn kept(measured: &Measured) -> Vec<Line> {
    let both = |value: fn(&Outcome) -> f64| {
        let of = |generator| measured.median(Scenario::Kept, generator, |outcome| Some(value(outcome)));
        of(Generator::Meshproof).zip(of(Generator::Fortio))
    };
    let (rates, costs) = (both(|outcome| outcome.rate), both(|outcome| outcome.cpu_us));
    let owed = "kept-alive HTTP/1.1 requests";
    vec![
        Line {
            id: "kept/rate",
            owed: owed.into(),
            expected: "at least fortio's rate".into(),
            observed: rates.map(|(own, fortio)| format!("{own:.0} and {fortio:.0} requests/s")),
            holds: rates.is_some_and(|(own, fortio)| own >= fortio),
        },
        Line {
            id: "kept/cpu",
            owed: owed.into(),
            expected: "no more CPU time for each than fortio's".into(),
            observed: costs.map(|(own, fortio)| format!("{own:.1} and {fortio:.1} µs")),
            holds: costs.is_some_and(|(own, fortio)| own <= fortio),
        },
    ]
}

#[cfg(test)]
mod tests {
    use meshproof::report::Judgement;

    use super::*;

    const COMPARE: Compare = Compare { seconds: 3, rounds: 1, connections: 16, rate: 1000 };

    /// Runs in which the driver just meets every claim.
    fn measured(change: impl Fn(Scenario, Generator, &mut Outcome)) -> Measured {
        let mut measured = Measured::default();
        for scenario in Scenario::ALL {
            for &generator in scenario.generators() {
                let truth = Latencies { p50_ms: 10.0, p99_ms: 20.0, p99_9_ms: Some(40.0) };
                let reported = match scenario {
                    Scenario::Stall => Latencies { p99_ms: 170.0, ..truth },
                    _ => Latencies { p50_ms: 10.19, p99_ms: 20.39, p99_9_ms: Some(40.79) },
                };
                let cpu_us = match generator {
                    Generator::Meshproof | Generator::Wrk => 100.0,
                    Generator::Fortio | Generator::K6 => 200.0,
                };
                let mut outcome = Outcome { rate: 1000.0, cpu_us, reported, truth };
                change(scenario, generator, &mut outcome);
                measured.add(scenario, generator, outcome);
            }
        }
        measured
    }

    fn lost(measured: &Measured) -> Vec<String> {
        let claims = claims(&COMPARE, measured);
        claims.iter().filter(|claim| !claim.holds()).map(|claim| claim.id().to_owned()).collect()
    }

    #[test]
    fn what_is_owed_holds_at_its_edge_and_all_of_it_is_judged() {
        assert_eq!(claims(&COMPARE, &measured(|_, _, _| {})).len(), 8);
        assert_eq!(lost(&measured(|_, _, _| {})), [""; 0]);
    }

    #[test]
    fn each_line_is_lost_by_its_own_number() {
        let own = |generator| generator == Generator::Meshproof;
        type Spoil = fn(&mut Outcome);
        let cases: [(&str, Spoil, Scenario); 7] = [
            ("load/exact/p50", |outcome| outcome.reported.p50_ms = 9.79, Scenario::Known),
            ("load/exact/p99", |outcome| outcome.reported.p99_ms = 20.41, Scenario::Known),
            ("load/exact/p99.9", |outcome| outcome.reported.p99_9_ms = Some(40.81), Scenario::Known),
            ("load/stall", |outcome| outcome.reported.p99_ms = 5.0, Scenario::Stall),
            ("load/kept/rate", |outcome| outcome.rate = 999.0, Scenario::Kept),
            ("load/kept/cpu", |outcome| outcome.cpu_us = 201.0, Scenario::Kept),
            ("load/new-tls/k6 load/new-tls/wrk", |outcome| outcome.cpu_us = 101.0, Scenario::NewTls),
        ];
        for (id, break_it, broken) in cases {
            let measured = measured(|scenario, generator, outcome| {
                if scenario == broken && own(generator) {
                    break_it(outcome);
                }
            });
            assert_eq!(lost(&measured).join(" "), id);
        }
    }

    #[test]
    fn what_was_not_measured_is_not_judged_and_does_not_hold() {
        let claims = claims(&COMPARE, &Measured::default());
        assert!(claims.iter().all(|claim| claim.verdict() == Judgement::Error), "{claims:?}");
    }
}
