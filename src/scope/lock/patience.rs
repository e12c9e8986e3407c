//! How long to wait for the lock, and what to say meanwhile.

use std::io::Write as _;
use std::time::Duration;

use tokio::time::Instant;

use super::holders::Named;
use crate::scope::error::{Error, Result};

/// Longest wait for the same holders.
const LONGEST: Duration = Duration::from_secs(20 * 60);

/// Time between two lines about one wait.
const REPEAT: Duration = Duration::from_secs(60);

/// The wait of one test.
pub(super) struct Patience<'a> {
    who: &'a str,
    holders: Vec<Named>,
    /// Since when these holders have been waited for.
    since: Instant,
    said: Option<Instant>,
}

impl<'a> Patience<'a> {
    pub(super) fn new(who: &'a str) -> Self {
        Self { who, holders: Vec::new(), since: Instant::now(), said: None }
    }

    /// Says on standard error for whom the test waits, at first and then every minute.
    ///
    /// # Errors
    /// [`Error::Busy`]: the same holders, all of other processes, have had the mesh for too long. The tests of this
    /// process are waited for without a bound: a measurement may take hours, and the harness shows that it runs.
    pub(super) fn look(&mut self, holders: Vec<Named>) -> Result<()> {
        let now = Instant::now();
        if holders != self.holders || holders.iter().any(|holder| holder.own) {
            (self.holders, self.since) = (holders, now);
        }
        let words: Vec<&str> = self.holders.iter().map(|holder| holder.words.as_str()).collect();
        let words = if words.is_empty() { "a process without a name".into() } else { words.join(", ") };
        if now - self.since > LONGEST {
            return Err(Error::Busy { holders: words, minutes: LONGEST.as_secs() / 60 });
        }
        if self.said.is_none_or(|said| now - said >= REPEAT) {
            self.said = Some(now);
            // The test harness does not capture direct writes to standard error.
            let _ = writeln!(std::io::stderr(), "{} waits for the mesh, which has been taken by {words}", self.who);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(words: &str, own: bool) -> Vec<Named> {
        vec![Named { words: words.into(), own }]
    }

    async fn pass(patience: &mut Patience<'_>, holders: &[Named], minutes: u64) -> Result<()> {
        for _ in 0..minutes {
            tokio::time::advance(Duration::from_secs(60)).await;
            patience.look(holders.to_vec())?;
        }
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_holder_is_waited_for_for_twenty_minutes_and_is_named() {
        let mut patience = Patience::new("mtls/a");
        let first = holder("boutique/b (process 7, alone, since 10:00:00 UTC)", false);
        pass(&mut patience, &first, 20).await.unwrap();
        let other = holder("boutique/c (process 7, alone, since 10:20:00 UTC)", false);
        pass(&mut patience, &other, 20).await.unwrap();
        let error = pass(&mut patience, &other, 2).await.unwrap_err().to_string();
        assert!(error.contains("boutique/c (process 7, ") && error.contains("nothing was judged"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn tests_of_this_process_are_waited_for_without_a_bound() {
        let mut patience = Patience::new("perf/a");
        pass(&mut patience, &holder("perf/b (process 7, alone, since 10:00:00 UTC)", true), 120).await.unwrap();
    }
}
