//! What a suite requires of a mesh.

use super::{Cluster, Record, Write};

/// Something that a suite cannot judge without. See [`Record::requires`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Requirement {
    /// At least so many clusters.
    Clusters(usize),
    /// The probes, in every cluster.
    Probes,
    /// An ingress gateway that this machine reaches, in every cluster.
    Ingress,
    /// An east-west gateway that the other clusters reach, in every cluster.
    EastWest,
    /// The key of an issuer of workload certificates, for every cluster.
    SigningKeys,
    /// The proxies' access log, in every cluster.
    AccessLog,
    /// Namespaces for performance comparisons, in one cluster at least.
    Bench,
    /// The treatment of this name.
    Treatment(&'static str),
    /// The fault of this name.
    Fault(&'static str),
    /// The application of this name.
    Application(&'static str),
    /// Permission to make this kind of change.
    Write(Write),
}

impl Requirement {
    /// What the record lacks of this, in words; `None` where the record offers it.
    pub(super) fn missing(&self, record: &Record) -> Option<String> {
        let without = |what: &str, has: fn(&Cluster) -> bool| {
            let lacking: Vec<&str> = record.clusters.iter().filter(|c| !has(c)).map(|c| c.name.as_str()).collect();
            (!lacking.is_empty()).then(|| format!("{what} of {}", lacking.join(", ")))
        };
        let unless = |has: bool, what: String| (!has).then_some(what);
        match self {
            Self::Clusters(count) => {
                unless(record.clusters.len() >= *count, format!("{count} clusters: it has {}", record.clusters.len()))
            }
            Self::Probes => without("the probes", |cluster| cluster.probes.is_some()),
            Self::Ingress => without("an ingress gateway", |cluster| cluster.ingress_address().is_some()),
            Self::EastWest => without("an east-west gateway", |cluster| cluster.eastwest_address().is_some()),
            Self::SigningKeys => without("a signing key", |cluster| cluster.signer().is_some()),
            Self::AccessLog => without("the proxies' access log", |cluster| cluster.istio.access_log.is_some()),
            Self::Bench => unless(
                record.clusters.iter().any(|cluster| cluster.bench.is_some()),
                "namespaces for performance comparisons".into(),
            ),
            Self::Treatment(name) => unless(record.capabilities.has_treatment(name), format!("the treatment {name}")),
            Self::Fault(name) => unless(record.capabilities.fault(name).is_some(), format!("the fault {name}")),
            Self::Application(name) => unless(
                record.application.as_ref().is_some_and(|application| application.name == *name),
                format!("the application {name}"),
            ),
            Self::Write(write) => unless(record.capabilities.may_write(*write), format!("permission for {write}")),
        }
    }
}
