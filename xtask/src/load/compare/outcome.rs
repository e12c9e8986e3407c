//! The results of a comparison's runs, by scenario and generator.

use std::collections::BTreeMap;

use meshproof::report::Table;

use super::Compare;
use super::generator::{Generator, Scenario};

/// Latencies, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Latencies {
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    /// `None` for wrk, which does not report p99.9.
    pub(super) p99_9_ms: Option<f64>,
}

impl Latencies {
    /// The quantiles of `latency`. `None` if `latency` is empty.
    pub(super) fn read(latency: &meshproof_load::Latency) -> Option<Self> {
        let milliseconds = |quantile| latency.quantile(quantile).map(|nanos| nanos as f64 / 1e6);
        let p99_9_ms = milliseconds(0.999);
        Some(Self { p50_ms: milliseconds(0.5)?, p99_ms: milliseconds(0.99)?, p99_9_ms })
    }
}

/// One run of one generator.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Outcome {
    /// Requests per second, counted by the server.
    pub(super) rate: f64,
    /// The generator's CPU time per request, in microseconds.
    pub(super) cpu_us: f64,
    /// Latencies that the generator reports.
    pub(super) reported: Latencies,
    /// Latencies that the server recorded.
    pub(super) truth: Latencies,
}

impl Outcome {
    /// Requests per second that one core supports.
    pub(super) fn of_a_core(&self) -> f64 {
        1e6 / self.cpu_us
    }
}

/// All runs.
#[derive(Debug, Default)]
pub(super) struct Measured(BTreeMap<(Scenario, Generator), Vec<Outcome>>);

impl Measured {
    pub(super) fn add(&mut self, scenario: Scenario, generator: Generator, outcome: Outcome) {
        self.0.entry((scenario, generator)).or_default().push(outcome);
    }

    /// The median of `value` over the runs of a generator. `None` if there is no value.
    pub(super) fn median(
        &self,
        scenario: Scenario,
        generator: Generator,
        value: impl Fn(&Outcome) -> Option<f64>,
    ) -> Option<f64> {
        let outcomes = self.0.get(&(scenario, generator))?;
        median(&sorted(outcomes.iter().map(value).collect::<Option<_>>()?))
    }

    /// Medians, with the smallest and the largest value in brackets.
    pub(super) fn table(&self, compare: &Compare, scenario: Scenario) -> Table {
        let title = format!(
            "{}; {} connections, {} × {} s, one core each for server and generator",
            scenario.title(compare.rate),
            compare.connections,
            compare.rounds,
            compare.seconds
        );
        let header = [
            "generator",
            "requests/s",
            "CPU µs/request",
            "requests/s of a whole core",
            "p50 ms",
            "p99 ms",
            "p99.9 ms",
            "server's p50 ms",
            "server's p99 ms",
            "server's p99.9 ms",
        ];
        let mut table = Table::new(title, &header);
        for &generator in scenario.generators() {
            let Some(outcomes) = self.0.get(&(scenario, generator)) else { continue };
            let column = |value: &dyn Fn(&Outcome) -> Option<f64>, digits| spread(outcomes, value, digits);
            table.rows.push(vec![
                generator.name().to_owned(),
                column(&|outcome| Some(outcome.rate), 0),
                column(&|outcome| Some(outcome.cpu_us), 1),
                column(&|outcome| Some(outcome.of_a_core()), 0),
                column(&|outcome| Some(outcome.reported.p50_ms), 3),
                column(&|outcome| Some(outcome.reported.p99_ms), 3),
                column(&|outcome| outcome.reported.p99_9_ms, 3),
                column(&|outcome| Some(outcome.truth.p50_ms), 3),
                column(&|outcome| Some(outcome.truth.p99_ms), 3),
                column(&|outcome| outcome.truth.p99_9_ms, 3),
            ]);
        }
        table
    }
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

fn median(sorted: &[f64]) -> Option<f64> {
    let upper = sorted.get(sorted.len() / 2)?;
    let lower = sorted.get(sorted.len().checked_sub(1)? / 2)?;
    Some(f64::midpoint(*lower, *upper))
}

fn spread(outcomes: &[Outcome], value: &dyn Fn(&Outcome) -> Option<f64>, digits: usize) -> String {
    let values = sorted(outcomes.iter().filter_map(value).collect());
    let (Some(median), Some(least), Some(most)) = (median(&values), values.first(), values.last()) else {
        return "–".into();
    };
    format!("{median:.digits$} ({least:.digits$}–{most:.digits$})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_lies_in_the_middle_and_none_has_none() {
        assert_eq!(median(&[1.0, 2.0, 9.0]), Some(2.0));
        assert_eq!(median(&[1.0, 2.0, 4.0, 9.0]), Some(3.0));
        assert_eq!(median(&[]), None);
    }
}
