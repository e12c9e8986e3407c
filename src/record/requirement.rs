//! The requirements of a suite on a mesh.

use std::collections::BTreeSet;

use super::{Cluster, Record, Write};

/// What a record without a bench lacks.
pub const BENCH: &str = "namespaces for performance comparisons (on a mesh of your own, `attach --load-image IMAGE` has \
                         suites make them)";

/// A requirement without which a suite cannot judge. See [`Record::requires`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Requirement {
    /// At least this many clusters.
    Clusters(usize),
    /// The probes, in every cluster.
    Probes,
    /// An ingress gateway, in at least one cluster.
    Ingress,
    /// Several networks, each with an east-west gateway that the others can reach.
    EastWest,
    /// The private key of an issuer of workload certificates, for every cluster.
    SigningKeys,
    /// The private key of the authority above such an issuer, for every cluster.
    ParentKeys,
    /// The proxies' access log, in every cluster.
    AccessLog,
    /// Namespaces for performance comparisons, in at least one cluster.
    Bench,
    /// The treatment with this name.
    Treatment(&'static str),
    /// The fault with this name.
    Fault(&'static str),
    /// The application with this name.
    Application(&'static str),
    /// Permission for this kind of change.
    Write(Write),
}

impl Requirement {
    /// What the record lacks of this requirement, as text. `None` if nothing is missing.
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
            Self::Ingress => unless(
                record.clusters.iter().any(|cluster| cluster.gateways.ingress.is_some()),
                "an ingress gateway".into(),
            ),
            Self::EastWest => eastwest(record),
            Self::SigningKeys => without("a signing key", |cluster| cluster.signer().is_ok()),
            Self::ParentKeys => without("a key that signs authorities", |cluster| cluster.parent_signer().is_ok()),
            Self::AccessLog => without("the proxies' access log", |cluster| cluster.istio.access_log.is_some()),
            Self::Bench => unless(record.clusters.iter().any(|cluster| cluster.bench.is_some()), BENCH.into()),
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

/// What the record lacks for calls between networks, as text.
fn eastwest(record: &Record) -> Option<String> {
    let networks: BTreeSet<&str> = record.clusters.iter().map(|cluster| cluster.network.as_str()).collect();
    if networks.len() < 2 {
        return Some("an east-west gateway: all clusters are on one network".into());
    }
    let has = |network: &str| {
        record.clusters.iter().any(|cluster| cluster.network == network && cluster.eastwest_address().is_ok())
    };
    let lacking: Vec<&str> = networks.into_iter().filter(|network| !has(network)).collect();
    (!lacking.is_empty()).then(|| format!("an east-west gateway of {}", lacking.join(", ")))
}
