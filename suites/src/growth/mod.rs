//! How the cost of the mesh grows: memory of a sidecar, size of its configuration, and istiod's time to make it, against
//! services, policies and connections. Each growth has a bound on what one more may cost.
//!
//! Runs by name only: `cargo test --test growth`. It takes the mesh alone for about three minutes.

mod bounds;
mod connections;
mod new_sidecar;
mod policies;
mod services;

use meshproof::judge::growth::{Growth, Slope};
use meshproof::report::{self, Claim};
use meshproof::{Error, Scope};

const SUITE: &str = "growth";

/// Number of measurements at each size.
const REPEATS: u32 = 3;

/// Claims for each growth that its slope is within its bound, and records the growths for the report.
fn judge(scope: &Scope, growths: Vec<Growth>) -> Result<(), Error> {
    for growth in &growths {
        scope.claim(claim(growth));
    }
    let recorded = report::record_growths(scope.directory(), SUITE, scope.testbed.versions(), growths);
    recorded.map_err(Error::suite)
}

fn claim(growth: &Growth) -> Claim {
    let requirement =
        format!("{}: one more of {} costs at most {} {}", growth.figure, growth.per, growth.at_most, growth.unit);
    let claim = Claim::about(format!("growth/{}", growth.id), requirement).to(&growth.figure);
    let judged = report::growth::judged(growth);
    let claim =
        match growth.judged() {
            Slope::Within(_) | Slope::Beyond(_) => claim
                .expects("a slope whose interval is within the bound")
                .observes(growth, |_| judged.clone(), |growth| matches!(growth.judged(), Slope::Within(_))),
            Slope::Undecided(_) | Slope::NoLine => {
                claim.expects("a slope whose interval is within the bound").not_judged(judged)
            }
        };
    let points = growth.points.iter().map(|point| format!("{}: {:.0}", point.size, point.value));
    claim.with_evidence(format!("the bound: {}", growth.source)).with_evidence(format!(
        "measured, in {}: {}",
        growth.unit,
        points.collect::<Vec<_>>().join(", ")
    ))
}

crate::trials! {
    mod services,
    mod policies,
    mod connections,
}
