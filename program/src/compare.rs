//! `compare`: judges two configurations of a mesh side by side.

use std::path::PathBuf;

use clap::Args;
use meshproof::Scope;
use meshproof::compare::configurations::{
    self, Compare as Comparing, Equal, Error, Minutes, Outcome, OwnService, Planned, Sides,
};
use meshproof::judge::{Arm, Trial, Verdict};
use meshproof::record::Record;
use meshproof::report::{self as reports, Concluded, Conclusion};

use crate::{Ended, Place, report};

/// Name of the suite in the report, and of its directory.
const SUITE: &str = "compare";

/// Judge two configurations of a mesh side by side: what the treatment costs, and what it breaks
///
/// Each side is a directory of manifests, a kustomization, or git:REVISION:DIRECTORY of either. Both are applied to
/// namespaces of their own, each with a client and a server. Exit codes: 0 pass, 1 regressed or inconclusive, 2 the command
/// line or a manifest, 3 nothing was judged: for example, the arms do not differ.
#[derive(Debug, Args)]
pub struct Compare {
    /// The configuration to compare with
    #[arg(long, value_name = "DIR|git:REVISION:DIR", required_unless_present = "declared")]
    control: Option<String>,
    /// The configuration to judge
    #[arg(long, value_name = "DIR|git:REVISION:DIR", required_unless_present = "declared")]
    treatment: Option<String>,
    /// The comparisons of this file, in place of one: each has its own report, in compare-NAME
    #[arg(long, value_name = "FILE", conflicts_with_all = ONE)]
    declared: Option<PathBuf>,
    /// The revision that takes the place of BASE in the file
    #[arg(long, value_name = "REVISION", requires = "declared")]
    base: Option<String>,
    /// Directory of the reports
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Minutes to measure
    #[arg(long, value_name = "N", default_value_t)]
    minutes: Minutes,
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
    /// A namespace that runs on while the arms are measured and a testbed freezes all else. Repeat it for more
    #[arg(long, value_name = "NAMESPACE")]
    running: Vec<String>,
}

/// Arguments of a single comparison, which a file has for each of its own.
const ONE: [&str; 10] =
    ["control", "treatment", "minutes", "bounds", "service", "port", "path", "cluster", "load_image", "running"];

/// A comparison to make.
struct Ready {
    planned: Planned,
    comparing: Result<Comparing, Equal>,
    trial: Trial,
    /// Directory of its report.
    directory: PathBuf,
}

/// How a comparison ended that was made, or was not.
type Made = Result<Outcome, Error>;

impl Compare {
    /// Compares, prints the verdict of each comparison in one line, and writes the reports. What is found is in the exit
    /// code and the reports, never an error.
    pub async fn run(self, place: &Place) -> Ended {
        let ready = match self.ready(place) {
            Ok(ready) => ready,
            Err(error) => return stopped(&error),
        };
        // What a change leaves as it is needs no mesh.
        let any = ready.iter().any(|one| one.comparing.is_ok());
        if let Some(error) = Record::read(&place.testbed).err().filter(|_| any) {
            eprintln!("error: nothing was judged: {error}");
            return Ended::NothingJudged;
        }
        let mut worst = Ended::Holds;
        for one in &ready {
            if ready.len() > 1 {
                eprintln!("=== {}", one.planned.name);
            }
            worst = worse(worst, Box::pin(one.run()).await);
        }
        worst
    }

    /// The comparisons, with all that they refer to. A file that cannot be used stops all of them.
    fn ready(&self, place: &Place) -> Result<Vec<Ready>, Error> {
        let reports = self.output.as_ref().unwrap_or(&place.reports);
        if let Some(file) = &self.declared {
            let all = configurations::planned(file, self.base.as_deref())?;
            let directory = |one: &Planned| reports.join(format!("{SUITE}-{}", one.name));
            return all.into_iter().map(|one| Ready::new(directory(&one), one)).collect();
        }
        let own = self.service.clone().zip(self.port);
        let planned = Planned {
            name: SUITE.into(),
            control: self.control.clone().unwrap_or_default(),
            treatment: self.treatment.clone().unwrap_or_default(),
            minutes: self.minutes,
            bounds: self.bounds.clone(),
            service: own.map(|(name, port)| OwnService { name, port, path: self.path.clone() }),
            cluster: self.cluster.clone(),
            load_image: self.load_image.clone(),
            running: self.running.clone(),
            may_be_inconclusive: false,
        };
        let one = Ready::new(reports.join(SUITE), planned)?;
        // A person who compares two equal directories has named a wrong one. A change may leave one as it is.
        Ok(vec![Ready { comparing: Ok(one.comparing?), ..one }])
    }
}

impl Ready {
    fn new(directory: PathBuf, planned: Planned) -> Result<Self, Error> {
        let (control, treatment) = (configurations::read(&planned.control)?, configurations::read(&planned.treatment)?);
        if let Some(own) = &planned.service {
            own.checked(&control, Arm::Control)?;
            own.checked(&treatment, Arm::Treatment)?;
        }
        let comparing = Sides::of(control, treatment).map(|sides| Comparing {
            sides,
            service: planned.service.clone(),
            cluster: planned.cluster.clone(),
            driver: planned.load_image.clone(),
            running: planned.running.clone(),
        });
        let trial = configurations::trial(planned.bounds.as_deref(), planned.minutes)?;
        Ok(Self { planned, comparing, trial, directory })
    }

    /// Compares, tells the verdict, and writes the report.
    async fn run(&self) -> Ended {
        // The report of an earlier run must not be taken for that of a run that judged nothing.
        let _ = std::fs::remove_file(self.directory.join("report.json"));
        let comparing = match &self.comparing {
            Ok(comparing) => comparing,
            Err(same) => return self.conclude(Concluded::Unchanged, same.to_string(), Ended::Holds),
        };
        let mut made: Option<Made> = None;
        let verdict = Scope::alone_in(self.directory.clone(), SUITE, &self.planned.name, async |scope| {
            scope.without_diagnostics();
            match made.insert(configurations::compare(scope, comparing, &self.trial).await) {
                Ok(_) => Ok(()),
                // It is told below, with its exit code.
                Err(error) => Err(meshproof::Error::suite(error.to_string())),
            }
        })
        .await;
        let failure = verdict.err().map(|failure| failure.to_string());
        match made {
            Some(Ok(Outcome { verdict, why })) => {
                let ended =
                    if verdict == Verdict::Pass && failure.is_none() { Ended::Holds } else { Ended::DoesNotHold };
                // The line says it, unless it is about this run itself: what could not be removed, for example.
                if let Some(failure) = failure.filter(|_| verdict == Verdict::Pass) {
                    eprintln!("error: {failure}");
                }
                self.conclude(verdict.into(), why, ended)
            }
            Some(Err(error)) => {
                let ended = stopped(&error);
                self.conclude(Concluded::NotJudged, error.to_string(), ended)
            }
            None => {
                let reason = failure.unwrap_or_default().trim_end().to_owned();
                eprintln!("error: {reason}");
                self.conclude(Concluded::NotJudged, reason, Ended::NothingJudged)
            }
        }
    }

    /// Records the verdict, writes the files of the report, and prints the verdict in one line.
    fn conclude(&self, verdict: Concluded, why: String, ended: Ended) -> Ended {
        let Planned { name, may_be_inconclusive, .. } = self.planned.clone();
        let conclusion = Conclusion { comparison: name, verdict, why, may_be_inconclusive };
        let recorded = reports::record_conclusion(&self.directory, SUITE, conclusion.clone());
        if let Err(error) = recorded.map_err(anyhow::Error::from).and_then(|()| written(&self.directory)) {
            eprintln!("error: {error:#}");
            return worse(ended, Ended::DoesNotHold);
        }
        // An error has said it.
        if verdict != Concluded::NotJudged {
            println!("{conclusion}");
        }
        ended
    }
}

/// Of two commands, how both together ended: what was judged and does not hold outweighs what was not judged.
fn worse(one: Ended, other: Ended) -> Ended {
    let rank = |ended: Ended| match ended {
        Ended::Holds => 0,
        Ended::NothingJudged => 1,
        Ended::DoesNotHold => 2,
        Ended::Usage => 3,
    };
    if rank(other) > rank(one) { other } else { one }
}

/// Tells why nothing was compared.
fn stopped(error: &Error) -> Ended {
    eprintln!("error: {error}");
    if error.is_usage() { Ended::Usage } else { Ended::NothingJudged }
}

fn written(directory: &std::path::Path) -> anyhow::Result<()> {
    report::files(directory, &reports::read(directory)?)
}
