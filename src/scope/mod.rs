//! The scope of one test: the test's objects, changes and claims, with clean-up, diagnostics and the report.

mod bench;
mod bundle;
pub mod change;
pub mod claims;
mod conclusion;
mod each;
mod error;
mod failure;
pub(crate) mod istiod;
mod label;
mod lease;
mod leftovers;
mod lock;
mod naming;
mod ownership;
pub(crate) mod prior;
mod probes;
mod revert;
mod standing;
mod sweep;
mod tested;
mod trace;
mod undeclared;
mod wanted;

use std::any::Any;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use futures::FutureExt;
use tokio::task::JoinHandle;
use tracing::Instrument;

use crate::cluster::{Testbed, testbed_directory};
use crate::diagnosis::Diagnosed;
use crate::judge::Comparison;
use crate::record::{Record, Requirement};
use crate::report::{self, Claim, Judgement};
use change::Owned;
pub use error::{Error, Result};
pub use failure::Failure;
use failure::{announce, message};
pub use label::{RUN_LABEL, TEST_ANNOTATION};
use lease::Leases;
pub use lease::{HOLDER_VARIABLE, NAME as LEASE, idle, release};
pub use lock::MeshLock;
use lock::Sharing;
pub use probes::{
    CopiedProbe, ProbePlan, copied_probe, deploy_probe, deploy_probe_serving, deploy_probe_with, deploy_probes,
};
pub use standing::{Before, before, gone, removals_done, remove_deployed, remove_namespaces, remove_probes};
pub use sweep::{Swept, remove_everything, sweep};
use undeclared::Undeclared;
pub use undeclared::{NOT_DECLARED_VARIABLE, allows_undeclared};
pub(crate) use wanted::labels_of;
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
    lock: MeshLock,
    claims: Mutex<Vec<Claim>>,
    comparisons: Mutex<Vec<Comparison>>,
    /// Objects and changes to restore. Each is listed before it is made, so that none is forgotten.
    owned: Mutex<Vec<Owned>>,
    /// What ends while changes are reverted.
    ending: Mutex<Vec<JoinHandle<()>>>,
    /// Number of changes injected so far.
    injected: AtomicU64,
    /// Whether a failure is explained by the state of the pods.
    diagnoses: AtomicBool,
}

impl Scope {
    /// Waits until no test has the mesh alone, connects to the testbed, runs `body`, and concludes: records claims,
    /// diagnoses failures, removes created objects, and resumes a panic of `body`. Other tests share the mesh meanwhile,
    /// also those of other processes. So what others rely on cannot be changed: see [`Self::alone`].
    ///
    /// # Errors
    /// [`Failure`]: there is no testbed, [`NOT_DECLARED_VARIABLE`] has an unknown value, `body` fails, a claim does not
    /// hold, or others have had the mesh alone for too long.
    pub async fn run<F>(suite: &'static str, test: impl Into<String>, body: F) -> Verdict
    where
        F: AsyncFnOnce(&Self) -> Result<()>,
    {
        Self::run_at(&testbed_directory(), report::directory(suite), suite, test, body).await
    }

    /// Like [`Self::run`], while no other test of this machine uses the mesh: for a test that changes what others rely
    /// on, or that relies on more than what is its own.
    ///
    /// # Errors
    /// The errors of [`Self::run`].
    pub async fn alone<F>(suite: &'static str, test: impl Into<String>, body: F) -> Verdict
    where
        F: AsyncFnOnce(&Self) -> Result<()>,
    {
        Self::alone_in(report::directory(suite), suite, test, body).await
    }

    /// Like [`Self::run`], on the testbed whose record is in `place`, with the report in `directory`: for a program that
    /// is no test.
    ///
    /// # Errors
    /// The errors of [`Self::run`].
    pub async fn run_at<F>(
        place: &Path,
        directory: PathBuf,
        suite: &'static str,
        test: impl Into<String>,
        body: F,
    ) -> Verdict
    where
        F: AsyncFnOnce(&Self) -> Result<()>,
    {
        Self::locked(place, directory, suite, test.into(), Sharing::Shared, body).await
    }

    /// Like [`Self::alone`], with the report in `directory`: for a program that is no test.
    ///
    /// # Errors
    /// The errors of [`Self::run`].
    pub async fn alone_in<F>(directory: PathBuf, suite: &'static str, test: impl Into<String>, body: F) -> Verdict
    where
        F: AsyncFnOnce(&Self) -> Result<()>,
    {
        Self::locked(&testbed_directory(), directory, suite, test.into(), Sharing::Alone, body).await
    }

    async fn locked<F>(
        place: &Path,
        directory: PathBuf,
        suite: &'static str,
        test: String,
        sharing: Sharing,
        body: F,
    ) -> Verdict
    where
        F: AsyncFnOnce(&Self) -> Result<()>,
    {
        trace::subscribe();
        let span = tracing::info_span!("test", suite, test);
        let running = async {
            let undeclared = Undeclared::selected().map_err(Failure::of)?;
            // Without a record there is nothing to wait for.
            Record::read(place).map_err(Failure::of)?;
            // Before the first connection: whoever has the mesh alone may have paused its clusters.
            let lock = MeshLock::take(place, sharing, &format!("{suite}/{test}")).await;
            let lock = lock.map_err(|error| tested::not_begun(&directory, suite, &test, &error))?;
            let testbed = Testbed::connect_in(place).await;
            let testbed = testbed.map_err(|error| tested::not_begun(&directory, suite, &test, &error))?;
            // Boxed here and below: a test's future is large, and the stack of a test's thread is small.
            Box::pin(Self::run_on(testbed, lock, directory, suite, test, undeclared, body)).await
        };
        running.instrument(span).await
    }

    async fn run_on<F>(
        testbed: Testbed,
        lock: MeshLock,
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
        let (injected, diagnoses, ending) = (AtomicU64::new(0), AtomicBool::new(true), Mutex::default());
        let scope = Self {
            testbed,
            directory,
            suite,
            test,
            undeclared,
            lock,
            claims,
            comparisons,
            owned,
            ending,
            injected,
            diagnoses,
        };
        let ended = scope.leased(Box::pin(AssertUnwindSafe(body(&scope)).catch_unwind())).await;
        Box::pin(scope.conclude(ended)).await
    }

    /// Runs the test while no other run judges the mesh, after clean-up of what killed tests left.
    async fn leased<T>(&self, body: impl Future<Output = Result<Result<()>, T>>) -> Result<Result<()>, T> {
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
        let Diagnosed { causes, pods } = self.diagnosed(&judged).await;
        let mut complaints =
            report::grouped(&judged, &causes, |cause| bundle::told_by(&self.directory, cause, &self.test));
        complaints.extend(comparisons.iter().filter(|comparison| !comparison.holds).map(ToString::to_string));
        let versions = self.testbed.versions();
        let recorded = report::record(&self.directory, self.suite, versions, &claims, &comparisons, causes);
        complaints.extend(recorded.err().map(|error| error.to_string()));
        if !complaints.is_empty() && self.diagnoses.load(Ordering::Relaxed) {
            let subject = bundle::Subject { test: &self.test, directory: &self.directory, pods };
            bundle::write(&self.testbed, subject, &complaints).await;
        }
        // The state of the pods does not explain a gap in the record.
        match self.undeclared {
            Undeclared::Passes => undeclared.iter().for_each(|claim| announce(&self.test, claim)),
            Undeclared::Fails => complaints.extend(undeclared.iter().map(ToString::to_string)),
        }
        complaints.extend(self.clean_up().await);
        let ending = std::mem::take(&mut *self.ending.lock().unwrap_or_else(PoisonError::into_inner));
        futures::future::join_all(ending).await;
        let left = tested::Tests { ended: &ended, claims: &claims, comparisons: &comparisons };
        let tested = left.of(&self.test, !complaints.is_empty());
        complaints
            .extend(report::record_test(&self.directory, self.suite, tested).err().map(|error| error.to_string()));
        if let Err(panic) = ended {
            resume_unwind(panic);
        }
        match complaints.as_slice() {
            [] => Ok(()),
            some => Err(Failure(bundle::capped(format!("{}\n{}", self.test, some.join("\n")), bundle::TEXT))),
        }
    }

    /// Adds a claim. A claim that does not hold fails the test at its end, so that all claims are judged.
    pub fn claim(&self, claim: Claim) {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner).push(claim.settled());
    }

    /// Adds judged comparisons. A comparison whose gate does not hold fails the test at its end.
    pub fn compare(&self, comparisons: Vec<Comparison>) {
        self.comparisons.lock().unwrap_or_else(PoisonError::into_inner).extend(comparisons);
    }

    /// Begins `work`, which blocks, and lets the test's changes be reverted meanwhile. The test ends after it.
    pub(crate) fn end_meanwhile(&self, work: impl FnOnce() + Send + 'static) {
        let ending = tokio::task::spawn_blocking(work);
        self.ending.lock().unwrap_or_else(PoisonError::into_inner).push(ending);
    }

    /// Leaves out the state of the pods from a failure, for a body that explains its failures itself.
    pub fn without_diagnostics(&self) {
        self.diagnoses.store(false, Ordering::Relaxed);
    }

    /// The hold on the mesh.
    pub fn lock(&self) -> &MeshLock {
        &self.lock
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

#[cfg(test)]
mod tests;
