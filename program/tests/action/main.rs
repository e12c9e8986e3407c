//! The steps of `action.yml` and `ci/gitlab.yml`, each run as its runner would run it, with the real program. Stand-ins
//! take the place of the event's files, of cargo and kubectl, and of the API that comments go to.

mod api;
mod comment;
mod compare;
mod example;
mod files;
mod ledger;
mod runner;
mod steps;
