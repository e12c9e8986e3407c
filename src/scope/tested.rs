//! What became of a test, for the report.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use super::error::ENVIRONMENT;
use super::{Failure, Result};
use crate::judge::Comparison;
use crate::report::{self, Claim, Kind, Outcome, Tested};

/// What a test left.
pub(super) struct Tests<'a> {
    /// How its body ended: also by a panic.
    pub(super) ended: &'a Result<Result<()>, Box<dyn Any + Send>>,
    pub(super) claims: &'a [Claim],
    pub(super) comparisons: &'a [Comparison],
}

impl Tests<'_> {
    /// What became of the test, for the report. `complains` tells that something is wrong, be it only afterwards.
    pub(super) fn of(&self, test: &str, complains: bool) -> Tested {
        let claims: Vec<&Claim> = self.claims.iter().collect();
        let comparisons: Vec<&Comparison> = self.comparisons.iter().collect();
        let outcome = match (self.kind(), Outcome::of(&claims, &comparisons)) {
            (Some(kind), _) => Outcome::Failed(kind),
            // What was not put back, or not recorded.
            (None, Outcome::Passed) if complains => Outcome::Failed(Kind::Infrastructure),
            (None, outcome) => outcome,
        };
        let red = claims.iter().filter(|claim| !claim.holds()).map(|claim| claim.id().to_owned());
        let lost = comparisons.iter().filter(|one| !one.holds).map(|one| one.key());
        Tested::now(test, outcome).with_red(red.chain(lost).collect())
    }

    /// What the end of the body says, whatever its claims say.
    fn kind(&self) -> Option<Kind> {
        match self.ended {
            Err(_) => Some(Kind::Assertion),
            Ok(Err(error)) if error.is_not_declared() => None,
            // A lost Lease makes every claim doubtful.
            Ok(Err(error)) => Some(error.kind()).filter(|kind| *kind == Kind::Infrastructure),
            Ok(Ok(())) => None,
        }
    }
}

/// The failure of a test that could not begin, which is recorded: nothing was judged.
pub(super) fn not_begun(directory: &Path, suite: &str, test: &str, error: &impl fmt::Display) -> Failure {
    let id = format!("test/{test}");
    let error = format!("{ENVIRONMENT}{error}");
    let claim = Claim::error(&id, error.clone());
    let tested = Tested::now(test, Outcome::Failed(Kind::Infrastructure)).with_red(vec![id]);
    let recorded = report::record(directory, suite, BTreeMap::new(), &[claim], &[], Vec::new())
        .and_then(|()| report::record_test(directory, suite, tested));
    match recorded {
        Ok(()) => Failure::of(error),
        Err(unrecorded) => Failure::of(format!("{error}\n{unrecorded}")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::Error;
    use super::*;
    use crate::cluster;

    fn outcome(ended: Result<Result<()>, Box<dyn Any + Send>>, claims: &[Claim], complains: bool) -> Outcome {
        Tests { ended: &ended, claims, comparisons: &[] }.of("a_test", complains).outcome
    }

    #[test]
    fn infrastructure_mesh_and_assertions_are_told_apart() {
        let (holds, fails) = (Claim::about("a", "").equals(&1, &1), Claim::about("b", "").equals(&1, &2));
        let busy = || Error::Busy { holders: "another".into(), minutes: 20 };
        let error = |error: &Error| error.claim("test/a_test".into());
        let of = Outcome::Failed;
        assert_eq!(outcome(Ok(Ok(())), std::slice::from_ref(&holds), false), Outcome::Passed);
        assert_eq!(outcome(Ok(Ok(())), std::slice::from_ref(&holds), true), of(Kind::Infrastructure));
        assert_eq!(outcome(Ok(Ok(())), std::slice::from_ref(&fails), true), of(Kind::Assertion));
        assert_eq!(outcome(Err(Box::new("panics")), std::slice::from_ref(&holds), false), of(Kind::Assertion));
        assert_eq!(outcome(Ok(Err(busy())), &[fails.clone(), error(&busy())], true), of(Kind::Infrastructure));
        let met = || Error::suite("the pod is gone");
        assert_eq!(outcome(Ok(Err(met())), &[holds.clone(), error(&met())], true), of(Kind::Mesh));
        assert_eq!(outcome(Ok(Err(met())), &[fails, error(&met())], true), of(Kind::Assertion));
        let refused = |reason: &str| {
            let (cluster, namespace, deployment) = ("east".into(), "shop".into(), "probe".into());
            let reason = reason.into();
            Error::from(cluster::Error::NotStarted { cluster, namespace, deployment, container: None, reason })
        };
        let quota = refused("FailedCreate: exceeded quota");
        assert_eq!(
            error(&quota).observed(),
            "ENVIRONMENT: east: deployment shop/probe cannot start: FailedCreate: exceeded quota"
        );
        assert_eq!(outcome(Ok(Err(quota)), std::slice::from_ref(&holds), true), of(Kind::Infrastructure));
        let injector = refused("admission webhook \"namespace.sidecar-injector.istio.io\" denied the request");
        let probes = Error::Probes(Arc::new(injector));
        assert_eq!(outcome(Ok(Err(probes)), &[holds.clone(), error(&busy())], true), of(Kind::Mesh));
        let undeclared = || Error::from(crate::record::Error::not_declared("an ingress"));
        assert_eq!(outcome(Ok(Err(undeclared())), &[error(&undeclared())], true), Outcome::NotDeclared);
    }

    #[test]
    fn a_test_that_could_not_begin_is_in_the_report() {
        let directory = tempfile::tempdir().unwrap();
        let failure = not_begun(directory.path(), "s", "a_test", &"the mesh has been taken");
        assert_eq!(failure.to_string(), "ENVIRONMENT: the mesh has been taken");
        let report = report::read(directory.path()).unwrap();
        assert_eq!((report.tests.len(), report.tests[0].outcome), (1, Outcome::Failed(Kind::Infrastructure)));
        assert_eq!(report.claims[0].observed(), "ENVIRONMENT: the mesh has been taken");
    }
}
