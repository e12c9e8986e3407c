//! `audit`: judges every port of every workload of the mesh, from outside the mesh.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{ArgGroup, Args, ValueEnum};
use meshproof::Scope;
use meshproof::audit::{self, Basis, Cell, Expectations, Options, Rates, Standing, Style};
use meshproof::cluster::testbed_directory;

use crate::ended::told;
use crate::reading::How;
use crate::visit::Visit;
use crate::{Ended, Place};

/// Name of the report's directory.
const SUITE: &str = "audit";

/// Judge every port of every workload that runs in the mesh: does it take plaintext, does it demand a certificate of the
/// mesh, and whose identity does it prove
///
/// Each port gets four connections, none of which asks an application for anything. With --context, the mesh is read for this
/// run only: no record is written or used, and what this run creates is removed at its end. Exit codes: 0 all holds, 1 something
/// does not hold or could not be told, 2 the command line, 3 nothing was judged.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("clusters").args(["contexts"]).requires("probe_image").multiple(true))]
pub struct Audit {
    #[command(flatten)]
    how: How,
    /// Audit only this namespace; may be given several times
    #[arg(long, value_name = "NAMESPACE")]
    namespace: Vec<String>,
    /// Exceptions from STRICT, each with its last day
    #[arg(long, value_name = "FILE")]
    expected: Option<PathBuf>,
    /// What a port in the mesh must be: STRICT, or what its PeerAuthentication says
    #[arg(long, value_enum, default_value_t)]
    basis: BasisArgument,
    /// Also ask the pods of Kubernetes and Istio, and show what they are
    #[arg(long)]
    system: bool,
    /// Most connections a second to one pod
    #[arg(long, value_name = "N", default_value_t = Rates::default().per_pod, value_parser = clap::value_parser!(u32).range(1..))]
    rate_per_pod: u32,
    /// Most connections a second in all
    #[arg(long, value_name = "N", default_value_t = Rates::default().in_all, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum BasisArgument {
    #[default]
    Strict,
    Policy,
}

impl Audit {
    /// Audits the mesh, and prints the table. What is found is in the exit code and the report, never an error.
    pub async fn run(self, place: &Place) -> Ended {
        let options = match self.options() {
            Ok(options) => options,
            Err(error) => {
                eprintln!("error: {error}");
                return Ended::Usage;
            }
        };
        let visit = match self.visit().await {
            Ok(Some(visit)) => visit,
            Ok(None) => return judge(&options, &testbed_directory(), place).await,
            Err(error) => {
                eprintln!("error: {}", told(&error));
                return Ended::NothingJudged;
            }
        };
        let judging = judge(&options, visit.testbed(), place);
        let ended = tokio::select! {
            ended = judging => ended,
            _ = tokio::signal::ctrl_c() => {
                eprintln!("interrupted: nothing was judged");
                Ended::NothingJudged
            }
        };
        match visit.end().await {
            Ok(()) => ended,
            Err(error) => {
                eprintln!("error: {}", told(&error));
                // The mesh is not as it was.
                if ended == Ended::Holds { Ended::DoesNotHold } else { ended }
            }
        }
    }

    /// The mesh of the named contexts. `None` if there are none: that of the record is judged.
    async fn visit(&self) -> Result<Option<Visit>> {
        let Some(image) = self.how.probe_image.as_deref() else { return Ok(None) };
        Visit::begin(self.how.source(Some(image), None)).await.map(Some)
    }

    fn options(&self) -> audit::Result<Options> {
        let basis = match self.basis {
            BasisArgument::Strict => Basis::Strict,
            BasisArgument::Policy => Basis::Policy,
        };
        Ok(Options {
            namespaces: self.namespace.clone(),
            system: self.system,
            rates: Rates { per_pod: self.rate_per_pod, in_all: self.rate },
            basis,
            expectations: self.expected.as_deref().map(Expectations::read).transpose()?.unwrap_or_default(),
        })
    }
}

/// Audits the mesh whose record is in `testbed`.
async fn judge(options: &Options, testbed: &Path, place: &Place) -> Ended {
    eprintln!("{}", options.rates);
    let mut found = None;
    let verdict = Scope::run_at(testbed, place.reports.join(SUITE), SUITE, SUITE, async |scope| {
        scope.without_diagnostics();
        let mut progress = Progress::default();
        let audited = Box::pin(audit::audit(&scope.testbed, options, |cell| progress.note(cell))).await;
        progress.end();
        let audited = found.insert(audited?);
        audited.claims().into_iter().for_each(|claim| scope.claim(claim));
        Ok(())
    })
    .await;
    let Some(found) = found else {
        eprintln!("error: {}", verdict.err().map(|failure| failure.to_string()).unwrap_or_default().trim_end());
        return Ended::NothingJudged;
    };
    let style = Style { color: std::io::stdout().is_terminal(), width: terminal_width() };
    print!("{}", audit::table(&found, style));
    match verdict {
        _ if !found.is_judged() => {
            eprintln!("error: there is no port in the mesh among these: nothing was judged");
            Ended::NothingJudged
        }
        Ok(()) => Ended::Holds,
        // The table has said it already, unless it is about this run itself.
        Err(failure) => {
            if found.holds() {
                eprintln!("error: {failure}");
            }
            Ended::DoesNotHold
        }
    }
}
/// Width of the terminal, as the shell exports it. `None` if the output is not a terminal.
fn terminal_width() -> Option<usize> {
    let width = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    std::io::stdout().is_terminal().then(|| width.unwrap_or(160))
}

/// A line on a terminal that counts the ports.
#[derive(Default)]
struct Progress {
    ports: usize,
    red: usize,
}

impl Progress {
    fn note(&mut self, cell: &Cell) {
        self.ports += 1;
        self.red += usize::from(cell.standing() == Standing::Red);
        if std::io::stderr().is_terminal() {
            eprint!("\r{} ports, {} not as expected", self.ports, self.red);
            let _ = std::io::stderr().flush();
        }
    }

    fn end(&self) {
        if std::io::stderr().is_terminal() {
            eprint!("\r{:40}\r", "");
        }
    }
}
