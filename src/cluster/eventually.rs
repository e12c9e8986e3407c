//! The only bounded wait in this crate.

use std::fmt::Display;
use std::panic::Location;
use std::time::Duration;

use tokio::time::Instant;

use crate::cluster::{Error, Result};

/// Time between two attempts.
const PAUSE: Duration = Duration::from_millis(250);

/// The result of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen<T> {
    /// The expected state.
    Yes(T),
    /// Another state, described.
    NotYet(String),
}

/// Calls `look` until it returns the expected state, for at most `within`. For readiness and for late records. Never
/// for a verdict: a verdict is judged once.
///
/// An error counts as an observed state: a server may still be starting.
///
/// # Errors
/// [`Error::NotInTime`] with the expected state, the last observed state, the number of attempts and the duration.
// A plain function, because `#[track_caller]` has no effect on an `async fn`.
#[track_caller]
pub fn eventually<T, F, E>(want: impl Into<String>, within: Duration, mut look: F) -> impl Future<Output = Result<T>>
where
    F: AsyncFnMut() -> Result<Seen<T>, E>,
    E: Display,
{
    let location = Location::caller();
    let want = want.into();
    async move {
        let started = Instant::now();
        let deadline = started + within;
        let mut attempts = 0;
        let mut last = "nothing, not even once".to_owned();
        loop {
            attempts += 1;
            // A hanging attempt must not outlast the wait.
            match tokio::time::timeout_at(deadline, look()).await {
                Ok(Ok(Seen::Yes(seen))) => {
                    tracing::debug!(want, attempts, elapsed = ?started.elapsed(), "waited");
                    return Ok(seen);
                }
                Ok(Ok(Seen::NotYet(seen))) => last = seen,
                Ok(Err(error)) => last = error.to_string(),
                Err(_) if attempts == 1 => last = "the first look did not finish".to_owned(),
                Err(_) => {}
            }
            if Instant::now() + PAUSE >= deadline {
                tracing::debug!(want, last, attempts, "not in time");
                return Err(Error::NotInTime { want, last, attempts, elapsed: started.elapsed(), location });
            }
            #[allow(clippy::disallowed_methods, reason = "this is the bounded wait")]
            tokio::time::sleep(PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_returns_the_first_thing_seen() {
        let mut looks = 0;
        let seen = eventually("three", Duration::from_secs(5), async || {
            looks += 1;
            Ok::<_, Infallible>(if looks == 3 { Seen::Yes(looks) } else { Seen::NotYet(looks.to_string()) })
        });
        assert_eq!(seen.await.unwrap(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn what_never_comes_is_reported_with_what_came_instead() {
        let line = line!() + 1;
        let waited = eventually::<(), _, _>("a pod", Duration::from_secs(1), async || Err("connection refused"));
        let error = waited.await.unwrap_err().to_string();
        for part in ["for a pod", "connection refused", "4 attempts", &format!("eventually.rs:{line}")] {
            assert!(error.contains(part), "`{part}` is not in: {error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_hangs_does_not_outlast_the_wait() {
        let waited = eventually("x", Duration::from_secs(1), async || {
            std::future::pending::<()>().await;
            Ok::<_, Infallible>(Seen::Yes(()))
        });
        assert!(waited.await.unwrap_err().to_string().contains("did not finish"));
    }
}
