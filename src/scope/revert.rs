//! The order in which a test's changes are reverted.

use super::Result;
use super::error::Error;

/// A change that could not be reverted.
pub(super) struct Failed<T> {
    /// The change.
    pub(super) change: T,
    /// Why the revert failed.
    pub(super) error: Error,
}

/// Reverts changes one after the other, in reverse order: a later change may depend on an earlier one. A failure does
/// not stop the rest. Returns the failed changes in the order in which they were made.
pub(super) async fn last_first<T>(changes: Vec<T>, revert: impl AsyncFn(&T) -> Result<()>) -> Vec<Failed<T>> {
    let mut failed = Vec::new();
    for change in changes.into_iter().rev() {
        if let Err(error) = revert(&change).await {
            failed.push(Failed { change, error });
        }
    }
    failed.reverse();
    failed
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Reverts three changes. Each revert yields once. The second change cannot be reverted.
    async fn revert_three() -> (Vec<String>, Vec<Failed<&'static str>>) {
        let events = Mutex::new(Vec::new());
        let failed = last_first(vec!["first", "second", "third"], async |change| {
            events.lock().unwrap().push(format!("begin {change}"));
            tokio::task::yield_now().await;
            events.lock().unwrap().push(format!("end {change}"));
            if *change == "second" { Err(Error::suite("the second stays")) } else { Ok(()) }
        })
        .await;
        (events.into_inner().unwrap(), failed)
    }

    #[tokio::test]
    async fn changes_are_put_back_one_after_the_other_the_last_first() {
        let (events, _) = revert_three().await;
        let order = ["begin third", "end third", "begin second", "end second", "begin first", "end first"];
        assert_eq!(events, order);
    }

    #[tokio::test]
    async fn a_change_that_cannot_be_put_back_is_reported_and_does_not_keep_the_others_from_it() {
        let (events, failed) = revert_three().await;
        assert!(events.contains(&"end first".to_owned()), "{events:?}");
        let reported: Vec<_> = failed.iter().map(|failed| (failed.change, failed.error.to_string())).collect();
        assert_eq!(reported, [("second", "the second stays".to_owned())]);
    }
}
