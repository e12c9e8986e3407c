//! Collects items, a few at a time. An item that fails or hangs does not stop the others.

use std::time::Duration;

use anyhow::{Result, bail};
use futures::future::join_all;
use tokio::sync::Semaphore;

use super::archive::Inbox;

/// Time limit for one item.
const BOUND: Duration = Duration::from_secs(10);

/// Number of items that are collected at a time. Most items wait for a program in a container, and all share two cores.
const AT_ONCE: usize = 6;

/// A question whose answer is one file of the archive.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question<A> {
    /// File name of the answer.
    pub(crate) file: &'static str,
    /// What is asked: the path of a page or a file, or a command.
    pub(crate) ask: A,
    /// Description of the answer.
    pub(crate) what: &'static str,
}

/// Runs the work that collects items.
pub(crate) struct Collector {
    inbox: Inbox,
    permits: Semaphore,
    bound: Duration,
}

impl Collector {
    pub(crate) fn new(inbox: Inbox) -> Self {
        Self { inbox, permits: Semaphore::new(AT_ONCE), bound: BOUND }
    }

    /// Collects one file. The archive gets the file's text or the error.
    pub(crate) async fn item(&self, path: impl Into<String>, what: &str, work: impl Future<Output = Result<String>>) {
        let text = self.bounded(work).await;
        self.inbox.put(path, what, text).await;
    }

    /// Collects the answer to each question into `directory`.
    pub(crate) async fn ask<A: Copy>(
        &self,
        directory: &str,
        questions: &[Question<A>],
        answer: impl AsyncFn(A) -> Result<String>,
    ) {
        let answers = questions.iter().map(|&Question { file, ask, what }| {
            let answer = answer(ask);
            self.item(format!("{directory}/{file}"), what, answer)
        });
        join_all(answers).await;
    }

    /// Adds a text that is already available, or the reason why the text is missing.
    pub(crate) async fn put(&self, path: impl Into<String>, what: &str, text: Result<String>) {
        self.inbox.put(path, what, text).await;
    }

    /// Waits for a free slot, then runs `work` with a time limit.
    pub(crate) async fn bounded<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let _permit = self.permits.acquire().await?;
        match tokio::time::timeout(self.bound, work).await {
            Ok(result) => result,
            Err(_) => bail!("not done within {:?}", self.bound),
        }
    }
}

/// The message in an API server's error, without the rest of the response.
pub(crate) fn said(error: kube::Error) -> anyhow::Error {
    match error {
        kube::Error::Api(status) => anyhow::anyhow!("{} ({})", status.message, status.code),
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::archive::Archive;
    use super::*;

    #[tokio::test]
    async fn each_answer_is_a_file_and_a_question_without_one_stops_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let archive = Archive::create(&directory.path().join("dump.tar.gz"), "dump", String::new()).unwrap();
        let collector = Collector::new(archive.inbox());
        let question = |file| Question { file, ask: file, what: "" };
        let answer = async |ask| if ask == "none" { bail!("no answer") } else { Ok("text".into()) };
        collector.ask("d", &["one", "none", "two"].map(question), answer).await;
        drop(collector);
        let summary = archive.finish().await.unwrap();
        assert_eq!((summary.files, summary.errors), (2, 1));
    }

    #[tokio::test]
    async fn what_hangs_is_recorded_and_the_rest_goes_on() {
        let directory = tempfile::tempdir().unwrap();
        let archive = Archive::create(&directory.path().join("dump.tar.gz"), "dump", String::new()).unwrap();
        let collector = Collector { bound: Duration::from_millis(10), ..Collector::new(archive.inbox()) };
        tokio::join!(
            collector.item("hangs", "", std::future::pending()),
            collector.item("works", "", async { Ok("text".into()) }),
        );
        drop(collector);
        let summary = archive.finish().await.unwrap();
        assert_eq!((summary.files, summary.errors), (1, 1));
    }
}
