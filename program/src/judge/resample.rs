//! How often the judge is wrong on the machine of a recording, and how often it finds a change there.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use meshproof::judge::resample::{Resampled, resample};
use meshproof::judge::simulate::{Made, Outcomes, Share};
use meshproof::judge::{self, Bounds, Mode, Recording, Run};
use meshproof::report::Table;

use super::power::percent;

/// Factors by which the treatment is worse than the control.
const EFFECTS: [f64; 3] = [1.05, 1.10, 1.20];

/// A fixed seed: the same recording gives the same tables.
const SEED: u64 = 4_127;

/// Prints a table for each recorded comparison. One that cannot be drawn from is named.
pub(super) fn print(recording: &Recording, bounds: &Path, comparisons: u32) -> Result<()> {
    let mut printed = 0;
    for (id, runs) in recording {
        let mode = runs.first().map(Run::mode).unwrap_or_default();
        let of_mode = Bounds::load(bounds, mode)?;
        let trial = of_mode.trial(id);
        let trial = trial
            .with_context(|| format!("runs of `{id}` are recorded, for which {} has no bounds", bounds.display()))?;
        let drawn = |effect: f64| resample(trial, runs, &Made { effect, comparisons, seed: SEED });
        let tables = || -> judge::Result<Table> {
            let [least, more, most] = EFFECTS;
            let worse = [drawn(least)?, drawn(more)?, drawn(most)?];
            Ok(table(id, comparisons, mode, &drawn(1.0)?, &worse))
        };
        match tables() {
            Ok(table) => {
                println!("{table}");
                printed += 1;
            }
            Err(error) => eprintln!("note: {error}"),
        }
    }
    ensure!(printed > 0, "no comparison has enough pairs to draw from");
    Ok(())
}

fn table(id: &str, comparisons: u32, mode: Mode, equal: &Resampled, worse: &[Resampled; 3]) -> Table {
    let title = format!(
        "{id} ({}): {comparisons} comparisons for each number, drawn from the recorded pairs with their arms exchanged by chance; in brackets, \
         what the share is at most with 95 %. With a treatment that is worse by 5, 10 and 20 %: how often it is `regressed`, after how many \
         pairs",
        mode.name()
    );
    let header = ["metric", "equal: regressed", "equal: pass", "+5 %", "+10 %", "+20 %"];
    let mut table = Table::new(title, &header);
    let row = |name: &str, of: &dyn Fn(&Resampled) -> Outcomes| {
        let equal = of(equal);
        let mut row = vec![name.to_owned()];
        row.extend([equal.regressed, equal.pass].map(|count| {
            let Share { share, upper } = equal.share(count);
            format!("{} ({})", percent(share), percent(upper))
        }));
        row.extend(worse.iter().map(|worse| {
            let seen = of(worse);
            format!("{} ({:.1} pairs)", percent(seen.share(seen.regressed).share), seen.mean_pairs())
        }));
        row
    };
    let metrics = equal.metrics.keys();
    let of_metric = |name: &String| row(name, &|one| one.metrics.get(name).copied().unwrap_or_default());
    table.rows = metrics.map(of_metric).collect();
    table.rows.insert(0, row("all together", &|one| one.whole));
    table
}
