//! One judgement for many items: pairs of clusters, paths, workloads.

use futures::future::join_all;

use super::{Error, Result, Scope};
use crate::report::Claim;

impl Scope {
    /// Runs `judge` for every item concurrently. An item that cannot be judged becomes an unjudged claim, named by
    /// `name`. The claim fails the test. The other items are still judged. An empty list of items fails the test.
    pub async fn for_each<T>(
        &self,
        items: impl IntoIterator<Item = T>,
        name: impl Fn(&T) -> String,
        judge: impl AsyncFn(T) -> Result<()>,
    ) {
        let judging = items.into_iter().map(|item| {
            let (name, judged) = (name(&item), judge(item));
            async { (name, judged.await) }
        });
        let judged = join_all(judging).await;
        if judged.is_empty() {
            self.claim(Claim::error(format!("test/{}", self.test), "there was nothing to judge"));
        }
        for (name, error) in judged.into_iter().filter_map(|(name, judged)| Some((name, judged.err()?))) {
            self.could_not_judge(&name, &error);
        }
    }

    /// Adds an unjudged claim for a part of this test that ended with an error. The part's name becomes part of the id.
    pub fn could_not_judge(&self, part: &str, error: &Error) {
        self.claim(error.claim(format!("test/{}/{part}", self.test)));
    }
}
