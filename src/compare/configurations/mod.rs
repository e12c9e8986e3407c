//! Two configurations of a mesh, side by side: `meshproof compare`.
//!
//! Each side is a directory of manifests. Each arm is a namespace of our own with a client and a server, to which one side's
//! objects are applied. The proxies of both arms tell what they were given, and the difference is the [`Receipt`]: arms
//! that do not differ are refused. What the control does, the treatment must do (`conformance.rs`). Then both are measured
//! in turn (`measure.rs`).

mod conformance;
mod difference;
mod error;
mod file;
mod manifests;
mod measure;
mod normal;
mod outcome;
mod plan;
mod pushes;
mod receipt;
mod service;
mod source;
mod stage;
mod workloads;

use std::path::PathBuf;
use std::sync::Arc;

pub use difference::{Difference, End, Receipt};
pub use error::{Equal, Error, Result};
pub use file::{BASE, Planned, planned};
pub use manifests::{Declaration, Declared, Manifests, NAMESPACE, ObjectName, WORKLOADS};
pub use measure::ID;
pub use outcome::Outcome;
pub use plan::{Compare, Minutes, NotMinutes, OwnService, Sides};
pub use source::read;

use crate::cluster::Cluster;
use crate::judge::Trial;
use crate::record::{Requirement, Write};
use crate::report::{self, Table, table};
use crate::scope::Scope;
use stage::Twins;

/// The plan and the bounds of a comparison: those of the file, or the default ones. `minutes` is the time to measure.
///
/// # Errors
/// The file cannot be used, or has no comparison [`ID`].
pub fn trial(bounds: Option<&std::path::Path>, minutes: Minutes) -> Result<Trial> {
    measure::trial(bounds, minutes)
}

/// Compares, and gives claims and comparisons to `scope`. The receipt goes into the report and into `receipt.json` beside
/// it.
///
/// # Errors
/// Nothing was compared: see [`Error`].
pub async fn compare(scope: &Scope, compare: &Compare, trial: &Trial) -> Result<Outcome> {
    let declared = compare.sides.declared();
    scope.requires([Requirement::Probes, Requirement::Write(Write::Namespaces)])?;
    let cluster = chosen(scope, compare.cluster.as_deref())?;
    eprintln!("deploying a client and a server for each arm, in {}", cluster.name());
    let twins = Box::pin(Twins::deploy(scope, &cluster, compare)).await?;
    let receipt = match receipt::taken(&twins, declared).await {
        // A pod may be older than what istiod knows of the objects: its successor is not.
        Err(Error::NoDifference { .. }) => None,
        taken => Some(taken?),
    };
    let (twins, receipt) = match receipt {
        Some(receipt) => (twins, receipt),
        None => {
            let twins = twins.renewed().await?;
            let receipt = receipt::taken(&twins, declared).await?;
            (twins, receipt)
        }
    };
    record(scope, &receipt)?;
    let conformance = Box::pin(conformance::judged(scope, &twins)).await?;
    if let Some(seen) = &conformance.silent {
        return Err(conformance::silent(seen));
    }
    conformance.claims.iter().for_each(|claim| scope.claim(claim.clone()));
    if let Some(lost) = conformance.lost() {
        return Ok(Outcome::lost(lost));
    }
    let measurement = Box::pin(measure::measured(scope, twins, trial, compare, &receipt)).await?;
    scope.claim(measurement.errors.clone());
    println!("{}", table::comparisons(&measurement.comparisons));
    if let Some(pushes) = &measurement.pushes {
        println!("{pushes}");
        tell(scope, pushes.clone())?;
    }
    let outcome = Outcome::of(&conformance, &measurement);
    scope.compare(measurement.comparisons);
    Ok(outcome)
}

fn chosen(scope: &Scope, name: Option<&str>) -> Result<Arc<Cluster>> {
    let clusters = &scope.testbed.clusters;
    let found = match name {
        None => clusters.first(),
        Some(name) => clusters.iter().find(|cluster| cluster.name() == name),
    };
    found.cloned().ok_or_else(|| {
        let known: Vec<&str> = clusters.iter().map(|cluster| cluster.name()).collect();
        let reason = format!("the record has no such cluster; it has {}", known.join(", "));
        Error::Source { source_text: format!("--cluster {}", name.unwrap_or_default()), reason }
    })
}

/// Puts the receipt into the report, and all of it into a file.
fn record(scope: &Scope, receipt: &Receipt) -> Result<()> {
    let path: PathBuf = scope.directory().join("receipt.json");
    let failed = |reason: String| crate::scope::Error::from(report::Error { path: path.clone(), reason });
    eprintln!("{}", receipt.summary());
    tell(scope, receipt.table())?;
    let json = serde_json::to_vec_pretty(receipt).map_err(|error| failed(error.to_string()))?;
    Ok(std::fs::write(&path, json).map_err(|error| failed(error.to_string()))?)
}

/// Adds a table to the report.
fn tell(scope: &Scope, table: Table) -> Result<()> {
    let told = report::record_tables(scope.directory(), ID, scope.testbed.versions(), Vec::new(), vec![table]);
    Ok(told.map_err(crate::scope::Error::from)?)
}
