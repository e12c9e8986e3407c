//! `cargo xtask judge`: recorded runs under today's bounds, with no cluster.

mod power;

use std::path::PathBuf;

use anyhow::{Result, bail};
use meshproof::judge::{recorded, table};

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
