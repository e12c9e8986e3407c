//! By what objects of a test are found again.

use serde_json::Value;

use crate::report;

/// Label on everything a run creates; its value is the run.
pub const RUN_LABEL: &str = "meshproof.dev/run";

/// Annotation that names the test.
pub const TEST_ANNOTATION: &str = "meshproof.dev/test";

/// Writes the run and the test (`SUITE::TEST`) onto an object.
pub(super) fn sign(object: &mut Value, suite: &str, test: &str) {
    object["metadata"]["labels"][RUN_LABEL] = report::run().into();
    object["metadata"]["annotations"][TEST_ANNOTATION] = format!("{suite}::{test}").into();
}
