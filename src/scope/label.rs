//! Label and annotation that identify objects of a test.

use serde_json::Value;

use crate::report;

/// Label on every object that a run creates. The value identifies the run.
pub const RUN_LABEL: &str = "meshproof.dev/run";

/// Annotation that names the test.
pub const TEST_ANNOTATION: &str = "meshproof.dev/test";

/// Sets the run label and the test annotation (`SUITE::TEST`) on an object.
pub(super) fn sign(object: &mut Value, suite: &str, test: &str) {
    object["metadata"]["labels"][RUN_LABEL] = report::run().into();
    object["metadata"]["annotations"][TEST_ANNOTATION] = format!("{suite}::{test}").into();
}
