//! The JSON report of a suite: `target/meshproof/<suite>/report.json`, schema `meshproof.report/v1`.

pub mod against;
mod claim;
mod conclusion;
mod diagnosis;
mod error;
pub mod growth;
pub mod html;
mod junit;
mod markdown;
mod subject;
pub mod table;
mod tested;
mod truth;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use against::Against;
pub use claim::{Claim, Edge, Expectation, Judgement, Statement};
pub use conclusion::{Concluded, Conclusion};
pub use diagnosis::{Cause, Diagnosis, Layer, grouped};
pub use error::{Error, Result};
pub use junit::junit;
pub use markdown::{OPEN_LINES, markdown};
pub use subject::{Call, Ended, Must, Place, Speaks, Subject};
pub use table::Table;
pub use tested::{Kind, Outcome, Tested};
pub use truth::{
    Cell, Change, Column, Difference, Look, Row, State, TRUTH_TABLE, TRUTH_TABLE_SCHEMA, TruthTable, difference,
    read_truth, record_truth,
};

use crate::host::{self, Host};
use crate::judge::{Comparison, Growth};

/// Schema identifier in every report.
pub const SCHEMA: &str = "meshproof.report/v1";

/// The judgements of one run of a suite. A run of a single test leaves a report of only that test's claims.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// The suite.
    pub suite: String,
    /// Identifies the run. Claims of the same run are merged, claims of an older run are dropped.
    pub run: String,
    /// Revision of the source tree, with `-dirty` if there are uncommitted changes.
    pub revision: String,
    /// The machine that ran the suite.
    pub host: Host,
    /// Versions of the mesh, of each cluster's Kubernetes, and of meshproof.
    pub versions: BTreeMap<String, String>,
    /// Claims, by id.
    #[serde(default)]
    pub claims: Vec<Claim>,
    /// Comparisons, by id and metric.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub comparisons: Vec<Comparison>,
    /// Further measurements, by title.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<Table>,
    /// How figures grow, by id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub growths: Vec<Growth>,
    /// Why claims do not hold, by cause.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diagnoses: Vec<Diagnosis>,
    /// What became of each test, by name and attempt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tests: Vec<Tested>,
    /// The verdicts on comparisons of two configurations, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conclusions: Vec<Conclusion>,
}

/// Where this process puts its reports, if it was told.
static PLACE: OnceLock<PathBuf> = OnceLock::new();

/// Puts the reports of this process into `PLACE/<suite>`: for a program that cargo does not run. Only the first call
/// counts.
pub fn put_into(place: PathBuf) {
    let _ = PLACE.set(place);
}

/// Directory of a suite's records: in [`put_into`]'s, otherwise below the directory that cargo builds into.
pub fn directory(suite: &str) -> PathBuf {
    if let Some(place) = PLACE.get() {
        return place.join(suite);
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let package = || std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from).unwrap_or_default();
    target.unwrap_or_else(|| root(&package()).join("target")).join("meshproof").join(suite)
}

/// The root of the package's workspace: the nearest directory with a Cargo.lock.
fn root(package: &Path) -> &Path {
    package.ancestors().find(|ancestor| ancestor.join("Cargo.lock").is_file()).unwrap_or(package)
}

/// Adds claims, comparisons and why claims do not hold to this run's report in `directory`. `versions` are the versions
/// of the tested system.
///
/// # Errors
/// [`Error`].
pub fn record(
    directory: &Path,
    suite: &str,
    versions: BTreeMap<String, String>,
    claims: &[Claim],
    comparisons: &[Comparison],
    diagnoses: Vec<Diagnosis>,
) -> Result<()> {
    let (claims, comparisons) = (claims.to_vec(), comparisons.to_vec());
    merge(directory, Report { claims, comparisons, diagnoses, ..of(suite, versions) })
}

/// Adds claims and tables to this run's report in `directory`, for judgements without a testbed. `versions` are the
/// versions of the tested system.
///
/// # Errors
/// [`Error`].
pub fn record_tables(
    directory: &Path,
    suite: &str,
    versions: BTreeMap<String, String>,
    claims: Vec<Claim>,
    tables: Vec<Table>,
) -> Result<()> {
    merge(directory, Report { claims, tables, ..of(suite, versions) })
}

/// Adds growths to this run's report in `directory`. `versions` are the versions of the tested system.
///
/// # Errors
/// [`Error`].
pub fn record_growths(
    directory: &Path,
    suite: &str,
    versions: BTreeMap<String, String>,
    growths: Vec<Growth>,
) -> Result<()> {
    merge(directory, Report { growths, ..of(suite, versions) })
}

/// Adds a test to this run's report in `directory`.
///
/// # Errors
/// [`Error`].
pub fn record_test(directory: &Path, suite: &str, tested: Tested) -> Result<()> {
    merge(directory, Report { tests: vec![tested], ..of(suite, BTreeMap::new()) })
}

/// Adds the verdict on a comparison of two configurations to this run's report in `directory`.
///
/// # Errors
/// [`Error`].
pub fn record_conclusion(directory: &Path, suite: &str, conclusion: Conclusion) -> Result<()> {
    merge(directory, Report { conclusions: vec![conclusion], ..of(suite, BTreeMap::new()) })
}

/// An empty report of this run. Adds meshproof's own version to those of the tested system.
fn of(suite: &str, mut versions: BTreeMap<String, String>) -> Report {
    versions.insert("meshproof".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    Report {
        schema: SCHEMA.into(),
        suite: suite.into(),
        run: run().to_owned(),
        revision: host::revision(),
        host: Host::this(),
        versions,
        claims: Vec::new(),
        comparisons: Vec::new(),
        tables: Vec::new(),
        growths: Vec::new(),
        diagnoses: Vec::new(),
        tests: Vec::new(),
        conclusions: Vec::new(),
    }
}

/// Merges `report` into the report in `directory`. Other threads and processes may merge at the same time.
fn merge(directory: &Path, report: Report) -> Result<()> {
    merging(directory, "report.json", |older| merged(report, older))
}

/// Replaces the JSON file `name` in `directory` by what `merge` makes of it, under a lock. A file that is missing or
/// unreadable is none.
fn merging<T: Serialize + DeserializeOwned>(
    directory: &Path,
    name: &str,
    merge: impl FnOnce(Option<T>) -> T,
) -> Result<()> {
    let path = directory.join(name);
    let failed = |error: std::io::Error| Error { path: path.clone(), reason: error.to_string() };
    std::fs::create_dir_all(directory).map_err(failed)?;
    let lock = File::create(directory.join("report.lock")).map_err(failed)?;
    lock.lock().map_err(failed)?;
    let older = std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let json = serde_json::to_vec_pretty(&merge(older)).map_err(|error| failed(error.into()))?;
    let partial = directory.join(format!("{name}.partial"));
    std::fs::write(&partial, json).map_err(failed)?;
    std::fs::rename(&partial, &path).map_err(failed)
}

/// A report with what an older report of the same run has besides.
fn merged(mut report: Report, older: Option<Report>) -> Report {
    if let Some(older) = older.filter(|older| older.run == report.run) {
        keep(&mut report.claims, older.claims, |claim| claim.id().to_owned());
        keep(&mut report.comparisons, older.comparisons, Comparison::key);
        keep(&mut report.tables, older.tables, |table| table.title.clone());
        keep(&mut report.growths, older.growths, |growth| growth.id.clone());
        keep(&mut report.conclusions, older.conclusions, |one| one.comparison.clone());
        diagnosis::merge(&mut report.diagnoses, older.diagnoses);
        tested::merge(&mut report.tests, older.tests);
        for (name, version) in older.versions {
            report.versions.entry(name).or_insert(version);
        }
    }
    report.claims.sort_by(|one, other| one.id().cmp(other.id()));
    // A stable sort keeps the metrics of a comparison in the order of the bounds file.
    report.comparisons.sort_by_cached_key(|comparison| natural(&comparison.id));
    report.growths.sort_by(|one, other| one.id.cmp(&other.id));
    report
}

/// Adds those of `older` whose key is not among the newer ones.
fn keep<T>(newer: &mut Vec<T>, older: Vec<T>, key: impl Fn(&T) -> String) {
    let again: BTreeSet<String> = newer.iter().map(&key).collect();
    newer.extend(older.into_iter().filter(|one| !again.contains(&key(one))));
}

/// Sort key that puts `bypass_p99/16` before `bypass_p99/128`.
fn natural(id: &str) -> Vec<(Option<u64>, String)> {
    id.split('/').map(|part| (part.parse().ok(), part.to_owned())).collect()
}

/// Reads a report.
///
/// # Errors
/// [`Error`].
pub fn read(directory: &Path) -> Result<Report> {
    let path = directory.join("report.json");
    let failed = |reason: String| Error { path: path.clone(), reason };
    let text = std::fs::read_to_string(&path).map_err(|error| failed(error.to_string()))?;
    let report: Report = serde_json::from_str(&text).map_err(|error| failed(error.to_string()))?;
    if report.schema != SCHEMA {
        return Err(failed(format!("its schema `{}` is not `{SCHEMA}`", report.schema)));
    }
    Ok(report)
}

/// Id of this run: the same in all processes of a nextest run, and in all threads of a test binary.
pub(crate) fn run() -> &'static str {
    static RUN: OnceLock<String> = OnceLock::new();
    RUN.get_or_init(|| {
        std::env::var("NEXTEST_RUN_ID").unwrap_or_else(|_| {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            format!("{:x}-{:x}", since.as_secs(), std::process::id())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(id: &str, verdict: Judgement) -> Claim {
        Claim::about(id, "").equals(&Judgement::Pass, &verdict)
    }

    fn report(run: &str, ids: &[&str], verdict: Judgement) -> Report {
        let claims = ids.iter().map(|id| claim(id, verdict)).collect();
        Report { run: run.into(), claims, ..of("s", BTreeMap::new()) }
    }

    fn read(directory: &Path) -> Vec<(String, Judgement)> {
        let report: Report = serde_json::from_slice(&std::fs::read(directory.join("report.json")).unwrap()).unwrap();
        report.claims.into_iter().map(|claim| (claim.id().to_owned(), claim.verdict())).collect()
    }

    #[test]
    fn reports_of_a_member_are_where_cargo_builds_its_workspace() {
        let workspace = tempfile::tempdir().unwrap();
        let member = workspace.path().join("suites/own");
        std::fs::create_dir_all(&member).unwrap();
        assert_eq!(root(&member), member, "a package without a lock file");
        std::fs::write(workspace.path().join("Cargo.lock"), "").unwrap();
        assert_eq!(root(&member), workspace.path());
    }

    #[test]
    fn threads_of_one_run_add_up_and_another_run_starts_anew() {
        let directory = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for index in 0..16 {
                let directory = directory.path();
                let id = format!("claim-{index:02}");
                scope.spawn(move || merge(directory, report("one", &[&id], Judgement::Pass)).unwrap());
            }
        });
        assert_eq!(read(directory.path()).len(), 16);
        merge(directory.path(), report("two", &["b", "a"], Judgement::Fail)).unwrap();
        assert_eq!(read(directory.path()), [("a".into(), Judgement::Fail), ("b".into(), Judgement::Fail)]);
    }

    #[test]
    fn a_table_measured_again_replaces_itself_and_the_others_of_the_run_stay() {
        let directory = tempfile::tempdir().unwrap();
        let with = |title: &str, cell: &str| {
            let mut table = Table::new(title, &["generator"]);
            table.rows.push(vec![cell.to_owned()]);
            Report { tables: vec![table], ..report("one", &[], Judgement::Pass) }
        };
        for (title, cell) in [("a", "old"), ("b", "other"), ("a", "new")] {
            merge(directory.path(), with(title, cell)).unwrap();
        }
        let tables = super::read(directory.path()).unwrap().tables;
        let seen: Vec<_> = tables.iter().map(|table| (table.title.as_str(), table.rows[0][0].as_str())).collect();
        assert_eq!(seen, [("a", "new"), ("b", "other")]);
    }

    #[test]
    fn names_of_contexts_stay_as_they_are_in_json_and_are_escaped_in_junit() {
        let directory = tempfile::tempdir().unwrap();
        let names = ["<\"&'>", "a-b", "a/b", "admin@mesh/prod", "arn:aws:eks:us-east-1:0:cluster/mesh"];
        let ids = names.map(|name| format!("port/{name}/shop/cart/80"));
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        merge(directory.path(), report("one", &ids, Judgement::Fail)).unwrap();
        let again = super::read(directory.path()).unwrap();
        assert_eq!(again.claims.iter().map(Claim::id).collect::<Vec<_>>(), ids);
        let xml = junit(&again).unwrap();
        assert!(names[1..].iter().all(|name| xml.contains(&format!("\"port/{name}/shop/cart/80\""))), "{xml}");
        assert!(xml.contains("port/&lt;") && !xml.contains(names[0]), "{xml}");
    }

    #[test]
    fn a_claim_stated_again_replaces_itself_and_a_damaged_report_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("report.json"), "{ damaged").unwrap();
        merge(directory.path(), report("one", &["a"], Judgement::Fail)).unwrap();
        merge(directory.path(), report("one", &["a"], Judgement::Pass)).unwrap();
        assert_eq!(read(directory.path()), [("a".into(), Judgement::Pass)]);
    }
}
