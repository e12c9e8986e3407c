//! `cargo xtask judge`: recorded runs under today's bounds, with no cluster.

mod power;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use meshproof::judge::{Baselines, recorded};
use meshproof::report::{self, table};

use crate::paths;

/// Judge recorded runs again under today's bounds; it fails where a gate does not hold
#[derive(clap::Args)]
pub(crate) struct Judge {
    /// Where the runs are: what a suite leaves in target/meshproof/perf
    #[arg(required_unless_present = "power")]
    directory: Option<PathBuf>,
    /// Print the comparisons as JSON
    #[arg(long)]
    json: bool,
    /// The bounds
    #[arg(long, default_value_os_t = paths::fixture("perf/bounds.toml"))]
    bounds: PathBuf,
    /// Write what was measured as the baseline of machines of this kind, into baselines.json beside the bounds
    #[arg(long, conflicts_with = "power")]
    record_baseline: bool,
    /// Measure the judge itself instead: false alarms and power, on simulated runs
    #[arg(long, conflicts_with_all = ["directory", "json", "bounds"])]
    power: bool,
    /// Simulated comparisons for each number
    #[arg(long, requires = "power", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(100..))]
    comparisons: u32,
}

impl Judge {
    pub(crate) fn run(self) -> Result<()> {
        let Some(directory) = self.directory else {
            power::print(self.comparisons);
            return Ok(());
        };
        let recording = recorded::read(&directory)?;
        let comparisons = recorded::judge_all(&directory, &recording, &self.bounds)?;
        if self.record_baseline {
            let count = Baselines::beside(&self.bounds)?.record(
                &self.bounds,
                &recording,
                &comparisons,
                measured(&directory)?,
            )?;
            eprintln!("{count} ratios are the baseline of machines of this kind now");
        }
        if self.json {
            println!("{}", serde_json::to_string_pretty(&comparisons)?);
        } else {
            table::beside_others(&comparisons).iter().for_each(|table| println!("{table}"));
            println!("{}", table::comparisons(&comparisons));
        }
        let lost: Vec<String> =
            comparisons.iter().filter(|comparison| !comparison.holds).map(ToString::to_string).collect();
        if !lost.is_empty() {
            bail!("{} of {} comparisons do not hold\n{}", lost.len(), comparisons.len(), lost.join("\n"));
        }
        Ok(())
    }
}

/// What was measured by a suite that recorded in `directory`: its revision, and the versions of mesh and clusters.
fn measured(directory: &Path) -> Result<BTreeMap<String, String>> {
    let report = report::read(directory).context("a baseline says what was measured, which a suite's report knows")?;
    let mut measured = report.versions;
    measured.insert("revision".into(), report.revision);
    Ok(measured)
}
