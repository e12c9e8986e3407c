//! `compare`: judges two configurations of a mesh side by side.

use std::path::PathBuf;

use clap::Args;
use meshproof::Scope;
use meshproof::compare::configurations::{self, Compare as Comparing, Error, Outcome, OwnService};
use meshproof::judge::{Trial, Verdict};
use meshproof::record::Record;
use meshproof::report as reports;

use crate::{Ended, Place, report};

/// Name of the report's directory.
const SUITE: &str = "compare";

/// Judge two configurations of a mesh side by side: what the treatment costs, and what it breaks
///
/// Each side is a directory of manifests, a kustomization, or git:REVISION:DIRECTORY of either. Both are applied to
/// namespaces of their own, each with a client and a server. Exit codes: 0 pass, 1 regressed or inconclusive, 2 the command
/// line or a manifest, 3 nothing was judged: for example, the arms do not differ.
#[derive(Debug, Args)]
pub struct Compare {
    /// The configuration to compare with
    #[arg(long, value_name = "DIR|git:REVISION:DIR")]
    control: String,
    /// The configuration to judge
    #[arg(long, value_name = "DIR|git:REVISION:DIR")]
    treatment: String,
    /// Minutes to measure
    #[arg(long, value_name = "N", default_value_t = 3.0, value_parser = minutes)]
    minutes: f64,
    /// Bounds of the comparison `compare`, in place of 5 % for everything
    #[arg(long, value_name = "FILE")]
    bounds: Option<PathBuf>,
    /// A Service of your own in both directories, in place of the probe as the server
    #[arg(long, value_name = "NAME", requires = "port")]
    service: Option<String>,
    /// Port of the service
    #[arg(long, value_name = "N", requires = "service")]
    port: Option<u16>,
    /// Path that the service answers with status 200
    #[arg(long, value_name = "PATH", default_value = "/", requires = "service")]
    path: String,
    /// The cluster, by its name in the record. Default: the first one
    #[arg(long, value_name = "CLUSTER")]
    cluster: Option<String>,
    /// Image of the load driver, for a mesh that `cargo xtask testbed up` did not make
    #[arg(long, value_name = "IMAGE")]
    load_image: Option<String>,
}

/// How a comparison ended that was made, or was not.
type Made = Result<Outcome, Error>;

impl Compare {
    /// Compares, prints the verdict in one line, and writes the reports. What is found is in the exit code and the reports,
    /// never an error.
    pub async fn run(self, place: &Place) -> Ended {
        let (comparing, trial) = match self.read() {
            Ok(read) => read,
            Err(error) => return stopped(&error),
        };
        if let Err(error) = Record::read(&place.testbed) {
            eprintln!("error: nothing was judged: {error}");
            return Ended::NothingJudged;
        }
        let directory = place.reports.join(SUITE);
        // The report of an earlier run must not be taken for that of a run that judged nothing.
        let _ = std::fs::remove_file(directory.join("report.json"));
        let mut made: Option<Made> = None;
        let verdict = Scope::alone_in(directory.clone(), SUITE, SUITE, async |scope| {
            scope.without_diagnostics();
            match made.insert(configurations::compare(scope, &comparing, &trial).await) {
                Ok(_) => Ok(()),
                // It is told below, with its exit code.
                Err(error) => Err(meshproof::Error::suite(error.to_string())),
            }
        })
        .await;
        let outcome = match made {
            Some(Ok(outcome)) => outcome,
            Some(Err(error)) => return stopped(&error),
            None => {
                eprintln!("error: {}", verdict.err().map(|failure| failure.to_string()).unwrap_or_default().trim_end());
                return Ended::NothingJudged;
            }
        };
        if let Err(error) = written(&directory) {
            eprintln!("error: {error:#}");
            return Ended::DoesNotHold;
        }
        println!("{outcome}");
        match (outcome.verdict, verdict) {
            (Verdict::Pass, Ok(())) => Ended::Holds,
            // The line has said it already, unless it is about this run itself: what could not be removed, for example.
            (Verdict::Pass, Err(failure)) => {
                eprintln!("error: {failure}");
                Ended::DoesNotHold
            }
            _ => Ended::DoesNotHold,
        }
    }

    /// The comparison, its plan and its bounds.
    fn read(&self) -> Result<(Comparing, Trial), Error> {
        let own = self.service.clone().zip(self.port);
        let comparing = Comparing {
            control: configurations::read(&self.control)?,
            treatment: configurations::read(&self.treatment)?,
            service: own.map(|(name, port)| OwnService { name, port, path: self.path.clone() }),
            cluster: self.cluster.clone(),
            driver: self.load_image.clone(),
        };
        configurations::declared(&comparing)?;
        Ok((comparing, configurations::trial(self.bounds.as_deref(), self.minutes)?))
    }
}

/// Tells why nothing was compared.
fn stopped(error: &Error) -> Ended {
    eprintln!("error: {error}");
    if error.is_usage() { Ended::Usage } else { Ended::NothingJudged }
}

fn written(directory: &std::path::Path) -> anyhow::Result<()> {
    report::files(directory, &reports::read(directory)?)
}

fn minutes(text: &str) -> Result<f64, String> {
    let minutes = text.parse::<f64>().ok().filter(|minutes| (0.5..=24.0 * 60.0).contains(minutes));
    minutes.ok_or_else(|| "give minutes, from 0.5 to 1440".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_are_a_number_that_leaves_time_for_the_fewest_pairs() {
        assert_eq!(minutes("0.5"), Ok(0.5));
        for wrong in ["0", "-1", "NaN", "inf", "3m", "1441"] {
            assert!(minutes(wrong).is_err(), "{wrong}");
        }
    }
}
