//! The one error type of the framework. Every variant says what was wrong, where, and what to do about it.

use std::panic::Location;
use std::path::PathBuf;
use std::time::Duration;

/// Result of a framework operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong between a suite and a testbed. A *verdict* is never an error: a connection that is refused is
/// an outcome that the suite judges.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No testbed has been brought up here.
    #[error("no testbed at {}: run `cargo xtask testbed up`", path.display())]
    NoTestbed {
        /// Where the record was looked for.
        path: PathBuf,
    },
    /// The record exists and cannot be used.
    #[error("the testbed record {} cannot be used: {reason}; run `cargo xtask testbed up` to write a new one", path.display())]
    Record {
        /// The record.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The record names a cluster whose API server does not answer.
    #[error("cluster `{cluster}` does not answer ({reason}): run `cargo xtask testbed up` to bring it back")]
    ClusterDown {
        /// The cluster.
        cluster: String,
        /// What its API server, or the attempt to reach it, said.
        reason: String,
    },
    /// The testbed has no cluster of that name.
    #[error("the testbed has no cluster `{name}`, only {}: it was brought up for another suite", known.join(", "))]
    UnknownCluster {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// The provider lacks something that a claim needs. It must be seen, not skipped.
    #[error("not declared: the `{provider}` testbed does not offer `{what}`, without which this cannot be judged")]
    NotDeclared {
        /// The fault, treatment or address.
        what: String,
        /// Who made the testbed.
        provider: String,
    },
    /// An API server refused or failed a request.
    #[error("{cluster}: could not {doing}: {}", brief(source))]
    Api {
        /// The cluster.
        cluster: String,
        /// What was being done, and to which object.
        doing: String,
        /// What the client says.
        #[source]
        source: Box<kube::Error>,
    },
    /// No pod is ready where one must be.
    #[error(
        "{cluster}: no ready pod with labels `{selector}` in namespace `{namespace}`, {seen}: see `cargo xtask testbed status`"
    )]
    NoPod {
        /// The cluster.
        cluster: String,
        /// The namespace.
        namespace: String,
        /// The labels looked for.
        selector: String,
        /// What there is instead.
        seen: String,
    },
    /// A command in a container did not do its work.
    #[error("{cluster}: `{command}` in {namespace}/{pod} failed: {reason}")]
    Exec {
        /// The cluster.
        cluster: String,
        /// The namespace.
        namespace: String,
        /// The pod.
        pod: String,
        /// The command.
        command: String,
        /// What it said.
        reason: String,
    },
    /// A bounded wait ended without what it waited for.
    #[error("waited {elapsed:.1?} ({attempts} attempts, at {location}) for {want}; last seen: {last}")]
    NotInTime {
        /// What was waited for.
        want: String,
        /// What was seen last.
        last: String,
        /// How often it was looked at.
        attempts: u32,
        /// For how long.
        elapsed: Duration,
        /// Who waited.
        location: &'static Location<'static>,
    },
    /// A certificate, key or SPIFFE id cannot be read or made.
    #[error("{what}: {reason}")]
    Identity {
        /// Which.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A cluster's certificate authority did not issue a certificate.
    #[error("{cluster}: istiod did not issue a certificate to {identity}: {reason}")]
    NotIssued {
        /// The cluster.
        cluster: String,
        /// For whom.
        identity: String,
        /// At which step, and why.
        reason: String,
    },
    /// The clusters that are not under test could not be held still.
    #[error("{which} cannot be paused: {reason}")]
    Quiesce {
        /// Which they are.
        which: String,
        /// Why.
        reason: String,
    },
    /// A Job's pods made no load, or not all of it.
    #[error("{cluster}: the load of Job {job} was not made: {reason}")]
    Load {
        /// The cluster.
        cluster: String,
        /// The Job.
        job: String,
        /// Why, in the words of the pod that is at fault.
        reason: String,
    },
    /// No profile could be taken.
    #[error("no profile: {reason}")]
    Profile {
        /// Why.
        reason: String,
    },
    /// An object that a test wants to place is there already, and not its own.
    #[error(
        "{cluster}: {object} is there already and not this run's: remove it, or run `cargo xtask testbed up`, which removes what an ended run left"
    )]
    Taken {
        /// The cluster.
        cluster: String,
        /// Its kind, namespace and name.
        object: String,
    },
    /// A page of the shop was not answered, or cannot be read.
    #[error("{url}: {reason}: see `cargo xtask testbed status`")]
    Page {
        /// Its address.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A report could not be written or read: a verdict that leaves no record is no verdict.
    #[error("the report {}: {reason}", path.display())]
    Report {
        /// The report.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A recorded run cannot be used.
    #[error("the run {}: `{field}`: {reason}", path.display())]
    Run {
        /// The file.
        path: PathBuf,
        /// What in it is at fault.
        field: Box<str>,
        /// How.
        reason: Box<str>,
    },
    /// The environment asks for a way to measure that there is not.
    #[error("{}: there is no mode `{name}`; there are {}", crate::judge::MODE_VARIABLE, known.join(", "))]
    Mode {
        /// What it asks for.
        name: Box<str>,
        /// The names there are.
        known: Vec<&'static str>,
    },
    /// The bounds cannot be used: what is judged by a bound that was misread is not judged.
    #[error("{}:{line}: {reason}", path.display())]
    Bounds {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
        /// What is wrong there.
        reason: Box<str>,
    },
    /// A run was refused: it would say something about the generator, the machine or an arm without its treatment,
    /// and not about what is compared.
    #[error("{comparison}: run {order:03}-{arm} is refused: {reason}")]
    Refused {
        /// The comparison.
        comparison: Box<str>,
        /// The run's place in it.
        order: u32,
        /// Its arm.
        arm: crate::judge::Arm,
        /// Why.
        reason: Box<str>,
    },
    /// A file of baselines that cannot be used or written, or runs that make none.
    #[error("{}: {reason}", path.display())]
    Baseline {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the field where it is the file.
        reason: String,
    },
    /// Recorded runs do not make a comparison.
    #[error("{}: {reason}", directory.display())]
    Recording {
        /// Where they are.
        directory: PathBuf,
        /// What is wrong with them.
        reason: String,
    },
}

/// The API server's own words where it said any: `kube::Error` prints the whole status twice.
fn brief(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{} ({})", status.message, status.code),
        other => other.to_string(),
    }
}
