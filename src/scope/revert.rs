//! The order in which a test's changes are reverted.

use futures::future::join_all;

use super::Result;
use super::error::Error;

/// A change that could not be reverted.
pub(super) struct Failed<T> {
    /// The change.
    pub(super) change: T,
    /// Why the revert failed.
    pub(super) error: Error,
}

/// Reverts changes one after the other, in reverse order: a later change may depend on an earlier one. Neighbours that
/// `stand_alone` are reverted at the same time. A failure does not stop the rest. Returns the failed changes in the order in
/// which they were made.
pub(super) async fn last_first<T>(
    mut changes: Vec<T>,
    stand_alone: impl Fn(&T) -> bool,
    revert: impl AsyncFn(&T) -> Result<()>,
) -> Vec<Failed<T>> {
    let mut failed = Vec::new();
    while let Some(last) = changes.pop() {
        let mut together = vec![last];
        while stand_alone(&together[0])
            && let Some(next) = changes.pop_if(|change| stand_alone(change))
        {
            together.push(next);
        }
        let reverted = join_all(together.iter().map(async |change| revert(change).await)).await;
        let of_these = together.into_iter().zip(reverted);
        failed.extend(of_these.filter_map(|(change, reverted)| Some(Failed { change, error: reverted.err()? })));
    }
    failed.reverse();
    failed
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Reverts three changes, of which some stand alone. Each revert yields once. The second change cannot be reverted.
    async fn revert_three(alone: &[&str]) -> (Vec<String>, Vec<Failed<&'static str>>) {
        let events = Mutex::new(Vec::new());
        let changes = vec!["first", "second", "third"];
        let failed = last_first(
            changes,
            |change| alone.contains(change),
            async |change| {
                events.lock().unwrap().push(format!("begin {change}"));
                tokio::task::yield_now().await;
                events.lock().unwrap().push(format!("end {change}"));
                if *change == "second" { Err(Error::suite("the second stays")) } else { Ok(()) }
            },
        )
        .await;
        (events.into_inner().unwrap(), failed)
    }

    #[tokio::test]
    async fn changes_are_put_back_one_after_the_other_the_last_first() {
        let order = ["begin third", "end third", "begin second", "end second", "begin first", "end first"];
        for alone in [&[][..], &["second"], &["first", "third"]] {
            assert_eq!(revert_three(alone).await.0, order, "{alone:?}");
        }
    }

    #[tokio::test]
    async fn neighbours_that_stand_alone_are_put_back_at_the_same_time() {
        let (events, failed) = revert_three(&["second", "third"]).await;
        assert_eq!(events, ["begin third", "begin second", "end third", "end second", "begin first", "end first"]);
        assert_eq!(failed.len(), 1);
    }

    #[tokio::test]
    async fn a_change_that_cannot_be_put_back_is_reported_and_does_not_keep_the_others_from_it() {
        let (events, failed) = revert_three(&[]).await;
        assert!(events.contains(&"end first".to_owned()), "{events:?}");
        let reported: Vec<_> = failed.iter().map(|failed| (failed.change, failed.error.to_string())).collect();
        assert_eq!(reported, [("second", "the second stays".to_owned())]);
    }
}
