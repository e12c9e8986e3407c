//! Runs the load driver as a Job in a testbed's cluster: many pods, one summary.

use anyhow::{Context, Result};
use clap::Args;
use meshproof::Testbed;
use meshproof::compare;
use meshproof_load::cli::{RunArguments, finish};
use tokio::signal::unix::{SignalKind, signal};

/// Arguments of a Job.
#[derive(Debug, Args)]
pub struct Job {
    /// Where the pods run, by its name in the testbed
    #[arg(long)]
    cluster: String,
    /// Pods; each makes all the load that the arguments ask for
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1000))]
    parallelism: u32,
    /// Namespace of the pods; one with injection gives each a proxy. Where not given, the one for performance
    /// comparisons without proxies
    #[arg(long)]
    namespace: Option<String>,
    /// Image of the load driver; the testbed's own where not given
    #[arg(long)]
    image: Option<String>,
    #[command(flatten)]
    run: Box<RunArguments>,
}

impl Job {
    /// # Errors
    /// Fails if the testbed or the cluster does not exist, a pod fails, or the run is not sound. The Job is removed in
    /// any case.
    pub(crate) async fn run(self) -> Result<()> {
        let plan = self.run.plan()?;
        let testbed = Testbed::connect().await?;
        let cluster = testbed.cluster(&self.cluster)?;
        let namespace = match &self.namespace {
            Some(namespace) => namespace,
            None => compare::Side::Naked.namespace(cluster)?,
        };
        let job = compare::Job::new(cluster, namespace, plan, self.parallelism).await?;
        let job = match self.image {
            Some(image) => job.with_image(image),
            None => job,
        };
        // Install the signal handlers before the Job exists.
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for signals")?;
        let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
        let stopped = async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        let gathered = job.run(stopped).await?;
        eprintln!(
            "{} pods of Job {} in {}; the last began {:.1} ms after the first, by their nodes' clocks",
            self.parallelism,
            job.name(),
            self.cluster,
            gathered.apart.as_secs_f64() * 1e3
        );
        Ok(finish(&gathered.summary, self.run.output)?)
    }
}
