//! The scope of one test: the test's objects, changes and claims, with clean-up, diagnostics and the report.

pub mod change;
pub mod claims;
mod diagnostics;
mod each;
mod error;
mod failure;
mod label;
mod lease;
mod leftovers;
mod naming;
mod ownership;
mod prior;
mod probes;
mod revert;
mod standing;
mod sweep;
mod undeclared;
mod wanted;

use std::any::Any;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use futures::FutureExt;
use tracing::Instrument;

use crate::cluster::Testbed;
use crate::judge::Comparison;
use crate::record::Requirement;
use crate::report::{self, Claim, Judgement};
use change::Owned;
use diagnostics::Subject;
pub use error::{Error, Result};
pub use failure::Failure;
pub use label::{RUN_LABEL, TEST_ANNOTATION};
use lease::Leases;
pub use lease::{HOLDER_VARIABLE, NAME as LEASE, idle};
pub use probes::{deploy_probe, deploy_probe_serving};
pub use standing::{gone, remove_probes};
pub use sweep::{Swept, remove_everything, sweep};
pub use undeclared::NOT_DECLARED_VARIABLE;
use undeclared::Undeclared;
pub use wanted::{Planned, planned};

/// Environment variable that keeps the objects that tests create.
pub const KEEP_VARIABLE: &str = "MESHPROOF_KEEP";

/// Result of a test function.
pub type Verdict = Result<(), Failure>;

/// The scope of one test on the testbed.
pub struct Scope {
    /// The testbed.
    pub testbed: Testbed,
    /// Directory of the report and the diagnostics.
    directory: PathBuf,
    suite: &'static str,
    test: String,
    undeclared: Undeclared,
    claims: Mutex<Vec<Claim>>,
    comparisons: Mutex<Vec<Comparison>>,
    /// Objects and changes to restore. Each is listed before it is made, so that none is forgotten.
    owned: Mutex<Vec<Owned>>,
    /// Number of changes injected so far.
    injected: AtomicU64,
    /// Whether a failure is explained by the state of the pods.
    diagnoses: AtomicBool,
}

impl Scope {
    /// Connects to the testbed, runs `body`, and concludes: records claims, diagnoses failures, removes created
    /// objects, and resumes a panic of `body`.
    ///
    /// # Errors
    /// [`Failure`]: there is no testbed, [`NOT_DECLARED_VARIABLE`] has an unknown value, `body` fails, or a claim does
    /// not hold.
    pub async fn run<F>(suite: &'static str, test: impl Into<String>, body: F) -> Verdict
    where
        F: AsyncFnOnce(&Self) -> Result<()>,
    {
        Self::run_in(report::directory(suite), suite, test, body).await
    }

    /// Like [`Self::run`], with the report in `directory`: for a program that is no test.
    ///
    /// # Errors
    /// The errors of [`Self::run`].
    pub async fn run_in<F>(directory: PathBuf, suite: &'static str, test: impl Into<String>, body: F) -> Verdict
    where
        F: AsyncFnOnce(&Self) -> Result<()>,
    {
        diagnostics::subscribe();
        let test = test.into();
        let span = tracing::info_span!("test", suite, test);
        let running = async {
            let undeclared = Undeclared::selected().map_err(|error| Failure(error.to_string()))?;
            let testbed = Testbed::connect().await.map_err(|error| Failure(error.to_string()))?;
            // Boxed here and below: a test's future is large, and the stack of a test's thread is small.
            Box::pin(Self::run_on(testbed, directory, suite, test, undeclared, body)).await
        };
        running.instrument(span).await
    }

    async fn run_on<F>(
        testbed: Testbed,
        directory: PathBuf,
        suite: &'static str,
        test: String,
        undeclared: Undeclared,
        body: F,
    ) -> Verdict
    where
        F: AsyncFnOnce(&Self) -> Result<()>,
    {
        let (claims, comparisons, owned) = (Mutex::default(), Mutex::default(), Mutex::default());
        let (injected, diagnoses) = (AtomicU64::new(0), AtomicBool::new(true));
        let scope =
            Self { testbed, directory, suite, test, undeclared, claims, comparisons, owned, injected, diagnoses };
        let ended = scope.alone(Box::pin(AssertUnwindSafe(body(&scope)).catch_unwind())).await;
        Box::pin(scope.conclude(ended)).await
    }

    /// Runs the test while no other run judges the mesh, after clean-up of what killed tests left.
    async fn alone<T>(&self, body: impl Future<Output = Result<Result<()>, T>>) -> Result<Result<()>, T> {
        let leases = Leases::of(&self.testbed);
        let beginning = async {
            standing::lease_namespaces(&self.testbed).await?;
            let terms = leases.take().await?;
            leftovers::put_right(&self.testbed).await?;
            Ok(terms)
        };
        let terms = match beginning.await {
            Ok(terms) => terms,
            Err(error) => return Ok(Err(error)),
        };
        let judging = async {
            match standing::ensure(&self.testbed).await {
                Ok(()) => body.await,
                Err(error) => Ok(Err(error)),
            }
        };
        let ended = tokio::select! {
            // A lost Lease outweighs what the test found at the same moment.
            biased;
            error = leases.keep(&terms) => return Ok(Err(error)),
            ended = judging => ended?,
        };
        Ok(match ended {
            Ok(()) => leases.confirm(&terms).await,
            failed => failed,
        })
    }

    async fn conclude(self, ended: Result<Result<()>, Box<dyn Any + Send>>) -> Verdict {
        let mut claims = std::mem::take(&mut *self.claims.lock().unwrap_or_else(PoisonError::into_inner));
        let comparisons = std::mem::take(&mut *self.comparisons.lock().unwrap_or_else(PoisonError::into_inner));
        let id = format!("test/{}", self.test);
        match &ended {
            Ok(Ok(())) if claims.is_empty() && comparisons.is_empty() => {
                claims.push(Claim::error(id, "the test claims nothing"))
            }
            Ok(Ok(())) => {}
            Ok(Err(error)) => claims.push(error.claim(id)),
            Err(panic) => claims.push(Claim::error(id, format!("panicked: {}", message(panic.as_ref())))),
        }
        let (undeclared, judged): (Vec<&Claim>, Vec<&Claim>) =
            claims.iter().filter(|claim| !claim.holds()).partition(|claim| claim.verdict() == Judgement::NotDeclared);
        let mut complaints: Vec<String> = judged.iter().map(ToString::to_string).collect();
        complaints.extend(comparisons.iter().filter(|comparison| !comparison.holds).map(ToString::to_string));
        if let Err(error) = report::record(&self.directory, self.suite, self.testbed.versions(), &claims, &comparisons)
        {
            complaints.push(error.to_string());
        }
        if !complaints.is_empty() && self.diagnoses.load(Ordering::Relaxed) {
            let subject = Subject { test: &self.test, directory: &self.directory, namespaces: self.namespaces() };
            diagnostics::write(subject, &complaints).await;
        }
        // The state of the pods does not explain a gap in the record.
        match self.undeclared {
            Undeclared::Passes => undeclared.iter().for_each(|claim| announce(&self.test, claim)),
            Undeclared::Fails => complaints.extend(undeclared.iter().map(ToString::to_string)),
        }
        complaints.extend(self.clean_up().await);
        if let Err(panic) = ended {
            resume_unwind(panic);
        }
        if complaints.is_empty() { Ok(()) } else { Err(Failure(format!("{}\n{}", self.test, complaints.join("\n")))) }
    }

    /// Adds a claim. A claim that does not hold fails the test at its end, so that all claims are judged.
    pub fn claim(&self, claim: Claim) {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner).push(claim);
    }

    /// Adds judged comparisons. A comparison whose gate does not hold fails the test at its end.
    pub fn compare(&self, comparisons: Vec<Comparison>) {
        self.comparisons.lock().unwrap_or_else(PoisonError::into_inner).extend(comparisons);
    }

    /// Leaves out the state of the pods from a failure, for a body that explains its failures itself.
    pub fn without_diagnostics(&self) {
        self.diagnoses.store(false, Ordering::Relaxed);
    }

    /// Directory of the suite's report.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Checks that the mesh offers everything that this test needs.
    ///
    /// # Errors
    /// [`NotDeclared`](crate::record::Error::NotDeclared), with everything that is missing.
    pub fn requires(&self, requirements: impl IntoIterator<Item = Requirement>) -> Result<()> {
        Ok(self.testbed.record.requires(requirements)?)
    }
}

/// Prints that a claim was not judged. The test harness does not capture direct writes to standard error.
fn announce(test: &str, claim: &Claim) {
    let _ = writeln!(std::io::stderr(), "{test}: {}", claim.observed());
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record;
    use crate::report::Report;

    /// A testbed of one fictitious cluster.
    fn testbed() -> Testbed {
        let cluster = crate::cluster::tests::workload().cluster;
        let record = record::tests::record(vec![cluster.record().clone()]);
        let (trust, _) = crate::identity::trust::tests::mesh();
        Testbed { directory: "/testbed".into(), record: record.into(), clusters: vec![cluster], trust: trust.into() }
    }

    async fn run(body: impl AsyncFnOnce(&Scope) -> Result<()>) -> (Result<Verdict, String>, Vec<Claim>) {
        run_where(Undeclared::Fails, body).await
    }

    async fn run_where(
        undeclared: Undeclared,
        body: impl AsyncFnOnce(&Scope) -> Result<()>,
    ) -> (Result<Verdict, String>, Vec<Claim>) {
        let directory = tempfile::tempdir().unwrap();
        let running = Scope::run_on(testbed(), directory.path().into(), "suite", "case".into(), undeclared, body);
        let ended = AssertUnwindSafe(running).catch_unwind().await.map_err(|panic| message(panic.as_ref()).to_owned());
        let report = std::fs::read(directory.path().join("report.json")).unwrap();
        (ended, serde_json::from_slice::<Report>(&report).unwrap().claims)
    }

    fn claim(id: &str, verdict: Judgement) -> Claim {
        Claim::about(id, "").equals(&Judgement::Pass, &verdict)
    }

    #[tokio::test]
    async fn claims_that_hold_are_recorded_and_pass() {
        let (ended, claims) = run(async |scope| {
            scope.claim(claim("a", Judgement::Pass));
            Ok(())
        })
        .await;
        ended.unwrap().unwrap();
        assert_eq!(claims, [claim("a", Judgement::Pass)]);
    }

    #[tokio::test]
    async fn a_claim_that_does_not_hold_fails_the_test_after_all_were_judged() {
        let (ended, claims) = run(async |scope| {
            scope.claim(claim("a", Judgement::Fail));
            scope.claim(claim("b", Judgement::Pass));
            Ok(())
        })
        .await;
        let failure = ended.unwrap().unwrap_err().to_string();
        assert!(failure.contains("claim a does not hold") && !failure.contains("claim b"), "{failure}");
        assert_eq!(claims.len(), 2);
    }

    #[tokio::test]
    async fn what_the_mesh_does_not_offer_is_a_verdict_of_its_own() {
        let (ended, claims) = run(async |scope| scope.requires([Requirement::Application("another")])).await;
        let failure = ended.unwrap().unwrap_err().to_string();
        assert!(failure.contains("does not offer the application another"), "{failure}");
        assert_eq!(claims[0].verdict(), Judgement::NotDeclared);
    }

    #[tokio::test]
    async fn where_it_is_allowed_only_what_the_mesh_does_not_offer_is_left_out_of_the_verdict() {
        let lacks = async |scope: &Scope| scope.requires([Requirement::Application("another")]);
        let (ended, claims) = run_where(Undeclared::Passes, lacks).await;
        ended.unwrap().unwrap();
        assert!(claims[0].verdict() == Judgement::NotDeclared && !claims[0].holds());
        let (ended, _) = run_where(Undeclared::Passes, async |scope| {
            scope.claim(claim("a", Judgement::Fail));
            lacks(scope).await
        })
        .await;
        let failure = ended.unwrap().unwrap_err().to_string();
        assert!(failure.contains("claim a does not hold") && !failure.contains("another"), "{failure}");
    }

    #[tokio::test]
    async fn a_change_that_the_record_does_not_permit_is_not_made() {
        let directory = tempfile::tempdir().unwrap();
        let mut testbed = testbed();
        let mut record = (*testbed.record).clone();
        record.capabilities.writes.clear();
        testbed.record = record.into();
        let body = async |scope: &Scope| {
            let cluster = std::sync::Arc::clone(&scope.testbed.clusters[0]);
            let namespace = scope.namespace(&cluster, "own", &[]).await.unwrap_err();
            let label = scope.label_nodes(&cluster, "example", None).await.unwrap_err();
            assert!(
                namespace.is_not_declared() && namespace.to_string().contains("permission for creating namespaces")
            );
            assert!(label.is_not_declared() && label.to_string().contains("permission for changing labels of nodes"));
            scope.claim(claim("a", Judgement::Pass));
            Ok(())
        };
        let (path, undeclared) = (directory.path().into(), Undeclared::Fails);
        // Nothing is owned, so nothing is left to put back in a cluster that does not answer.
        Scope::run_on(testbed, path, "suite", "case".into(), undeclared, body).await.unwrap();
    }

    #[tokio::test]
    async fn a_test_that_claims_nothing_or_cannot_go_on_does_not_pass() {
        let (ended, claims) = run(async |_| Ok(())).await;
        ended.unwrap().unwrap_err();
        assert_eq!(claims[0].verdict(), Judgement::Error);
        let (ended, claims) = run(async |scope| Ok(scope.testbed.cluster("elsewhere").map(drop)?)).await;
        assert!(ended.unwrap().unwrap_err().to_string().contains("no cluster `elsewhere`"));
        assert_eq!(claims[0].verdict(), Judgement::Error);
    }

    #[tokio::test]
    async fn an_item_that_cannot_be_judged_fails_the_test_and_the_others_are_judged() {
        let (ended, claims) = run(async |scope| {
            let judge = async |item: &str| {
                if item == "lost" {
                    scope.testbed.cluster(item)?;
                }
                scope.claim(claim(item, Judgement::Pass));
                Ok(())
            };
            scope.for_each(["lost", "other"], ToString::to_string, judge).await;
            Ok(())
        })
        .await;
        let failure = ended.unwrap().unwrap_err().to_string();
        assert!(failure.contains("claim test/case/lost was not judged"), "{failure}");
        assert!(claims.iter().any(|claim| claim.id() == "other" && claim.holds()));
    }

    #[tokio::test]
    async fn judging_nothing_is_not_a_pass() {
        let (ended, _) = run(async |scope| {
            scope.claim(claim("a", Judgement::Pass));
            scope.for_each(Vec::<String>::new(), Clone::clone, async |_| Ok(())).await;
            Ok(())
        })
        .await;
        assert!(ended.unwrap().unwrap_err().to_string().contains("there was nothing to judge"));
    }

    #[tokio::test]
    async fn a_panic_goes_on_as_it_was_once_it_is_recorded() {
        let (ended, claims) = run(async |scope| {
            scope.claim(claim("a", Judgement::Pass));
            panic!("the original words");
        })
        .await;
        assert_eq!(ended.unwrap_err(), "the original words");
        assert!(claims.iter().any(|claim| claim.observed().contains("the original words")));
    }

    #[tokio::test]
    async fn what_cannot_be_removed_fails_the_test() {
        let (ended, _) = run(async |scope| {
            scope.claim(claim("a", Judgement::Pass));
            let cluster = std::sync::Arc::clone(&scope.testbed.clusters[0]);
            scope.namespace(&cluster, "lost", &[]).await.unwrap_err();
            Ok(())
        })
        .await;
        let failure = ended.unwrap().unwrap_err().to_string();
        assert!(failure.contains("remove namespace meshproof-lost-"), "{failure}");
    }
}
