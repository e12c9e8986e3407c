//! What is said of a test that failed.

use std::sync::atomic::Ordering;

use super::{Scope, bundle};
use crate::diagnosis::{Diagnosed, diagnose};
use crate::report::Claim;

impl Scope {
    /// Why claims do not hold, and the pods that they are about: if they name none, those of the test's own namespaces.
    pub(super) async fn diagnosed(&self, claims: &[&Claim]) -> Diagnosed {
        if claims.is_empty() || !self.diagnoses.load(Ordering::Relaxed) {
            return Diagnosed::default();
        }
        let mut diagnosed = Box::pin(diagnose(&self.testbed, claims)).await;
        if claims.iter().all(|claim| claim.subject().is_none()) {
            diagnosed.pods = bundle::pods_of(&self.namespaces()).await;
        }
        diagnosed
    }
}
