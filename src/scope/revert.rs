//! The order in which a test's changes are put back.

use super::Result;
use super::error::Error;

/// A change that could not be put back, and why.
pub(super) struct Failed<T> {
    /// The change.
    pub(super) change: T,
    /// Why it is still there.
    pub(super) error: Error,
}

/// Puts changes back one after the other, the last first: a later change may rest on an earlier one. Each is tried, also after
/// another has failed. Returns those that failed, in the order in which the changes were made.
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

    /// Reverts three changes, each of which yields to the others while it is under way; the second cannot be put back.
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
