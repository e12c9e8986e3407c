//! What is expected of each port: mutual TLS, unless policy or the reader's own list says otherwise.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Deserialize;
use toml::Spanned;
use toml::value::Date;

use super::kind::Kind;
use super::pod::{Pod, Proxy};
use super::{Error, Result};
use crate::policy::{Effective, Mode};
use crate::record::is_over;

/// What every port in the mesh is expected to be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Basis {
    /// STRICT.
    #[default]
    Strict,
    /// What the effective `PeerAuthentication` says.
    Policy,
}

/// Exceptions from what is expected: the file `expected.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expectations {
    /// The file. `None` if the text is from elsewhere.
    pub path: Option<PathBuf>,
    /// The exceptions. The first that matches a port counts.
    pub allowed: Vec<Allowed>,
}

/// The text of the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exceptions {
    #[serde(default, rename = "allow")]
    allowed: Vec<Spanned<Allowed>>,
}

/// An exception.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allowed {
    /// Namespace.
    pub namespace: String,
    /// The cluster. All clusters if it is absent.
    #[serde(default)]
    pub cluster: Option<String>,
    /// Name of the Deployment, StatefulSet or other owner of the pods. All workloads if it is absent.
    #[serde(default)]
    pub workload: Option<String>,
    /// The port. All ports if it is absent.
    #[serde(default)]
    pub port: Option<u16>,
    /// What is allowed beside STRICT.
    pub mode: AllowedMode,
    /// The last day of the exception, in UTC.
    pub until: Date,
    /// Why, for readers of the report.
    pub reason: String,
    /// The line of the file on which the exception begins.
    #[serde(skip)]
    pub line: usize,
}

/// An exception that matches nothing that was found: it is needed no more, or a name in it is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unused {
    /// The file of the exception.
    pub path: Option<PathBuf>,
    /// The exception.
    pub allowed: Allowed,
}

impl fmt::Display for Unused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, allowed } = self;
        match path {
            Some(path) => write!(f, "{}:{}: ", path.display(), allowed.line)?,
            None => write!(f, "line {}: ", allowed.line)?,
        }
        write!(f, "the exception for {allowed} matches nothing: remove it, or correct a name in it")
    }
}

/// What an exception allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AllowedMode {
    /// PERMISSIVE.
    Permissive,
    /// PERMISSIVE, and plaintext or TLS without the mesh.
    Plaintext,
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { namespace, cluster, workload, port, until, .. } = self;
        write!(f, "{namespace}")?;
        for part in [workload, &port.map(|port| port.to_string())].into_iter().flatten() {
            write!(f, "/{part}")?;
        }
        if let Some(cluster) = cluster {
            write!(f, " in {cluster}")?;
        }
        write!(f, " until {until}")
    }
}

impl Allowed {
    /// Whether the exception is about this port.
    pub fn covers(&self, cluster: &str, pod: &Pod, port: u16) -> bool {
        self.namespace == pod.namespace
            && self.cluster.as_ref().is_none_or(|name| name == cluster)
            && self.workload.as_ref().is_none_or(|name| *name == pod.owner.name)
            && self.port.is_none_or(|number| number == port)
    }

    /// Whether the last day of the exception has passed.
    pub fn is_expired(&self, now: SystemTime) -> bool {
        is_over(self.until, now)
    }
}

impl Expectations {
    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::Expected`]: the file cannot be read, or has an unknown key or an unusable value, with its line.
    pub fn read(path: &Path) -> Result<Self> {
        let unusable = |reason: String| Error::Expected { path: path.to_owned(), reason };
        let text = std::fs::read_to_string(path).map_err(|error| unusable(error.to_string()))?;
        let read = Self::parse(&text).map_err(unusable)?;
        Ok(Self { path: Some(path.to_owned()), ..read })
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// The fault, with its line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let read: Exceptions = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        let placed = read.allowed.into_iter().map(|one| {
            let before = text.get(..one.span().start).unwrap_or_default();
            Allowed { line: before.matches('\n').count() + 1, ..one.into_inner() }
        });
        let allowed: Vec<Allowed> = placed.collect();
        match allowed.iter().find(|allowed| allowed.reason.trim().is_empty()) {
            Some(allowed) => Err(format!("the exception for {allowed} has an empty `reason`")),
            None => Ok(Self { path: None, allowed }),
        }
    }

    /// The exceptions that match no port, of those that have not ended and are about `namespaces`. No namespace stands for
    /// all. `ports` has all ports that were found.
    pub(super) fn unused(&self, namespaces: &[String], ports: &[Found<'_>], now: SystemTime) -> Vec<Unused> {
        let is_asked = |one: &&Allowed| namespaces.is_empty() || namespaces.contains(&one.namespace);
        let matches = |one: &Allowed| ports.iter().any(|found| one.covers(found.cluster, found.pod, found.port));
        let unused = self.allowed.iter().filter(is_asked).filter(|one| !one.is_expired(now) && !matches(one));
        unused.map(|allowed| Unused { path: self.path.clone(), allowed: allowed.clone() }).collect()
    }
}

/// What is expected of one port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// STRICT.
    Strict,
    /// What the effective policy says.
    Policy(Mode),
    /// STRICT, or what the exception allows.
    Allowed(Box<Allowed>),
    /// Nothing: the pod is outside the mesh, or part of Kubernetes or Istio. It is shown.
    Nothing {
        /// Why.
        why: String,
    },
}

impl Expected {
    /// What is expected of a port. `system` tells that its namespace is Kubernetes' own or Istio's.
    pub(super) fn of(
        place: Place<'_>,
        basis: Basis,
        effective: Option<&Effective>,
        expectations: &Expectations,
        now: SystemTime,
    ) -> Self {
        let Place { cluster, pod, port, system } = place;
        if system {
            return Self::Nothing { why: "part of Kubernetes or Istio".into() };
        }
        let mut covering = expectations.allowed.iter().filter(|one| one.covers(cluster, pod, port));
        match (covering.find(|one| !one.is_expired(now)), &pod.proxy) {
            (Some(allowed), _) => Self::Allowed(Box::new(allowed.clone())),
            (None, Proxy::Outside { why }) => Self::Nothing { why: why.clone() },
            (None, Proxy::Gateway) => Self::Nothing { why: "a gateway".into() },
            (None, proxy) => match (basis, effective) {
                (Basis::Policy, Some(effective)) if proxy.is_sidecar() => Self::Policy(effective.mode),
                _ => Self::Strict,
            },
        }
    }

    /// Whether a port of this kind is as expected. `None` if nothing is expected.
    pub fn is_met_by(&self, kind: &Kind) -> Option<bool> {
        let plaintext = matches!(kind, Kind::PlaintextOnly | Kind::OwnTls);
        Some(match self {
            Self::Strict | Self::Policy(Mode::Strict) => *kind == Kind::Strict,
            Self::Policy(Mode::Permissive) => *kind == Kind::Permissive,
            Self::Policy(Mode::Disable) => plaintext,
            Self::Allowed(allowed) => match allowed.mode {
                AllowedMode::Permissive => matches!(kind, Kind::Strict | Kind::Permissive),
                AllowedMode::Plaintext => matches!(kind, Kind::Strict | Kind::Permissive) || plaintext,
            },
            Self::Nothing { .. } => return None,
        })
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Strict => f.write_str("STRICT"),
            Self::Policy(Mode::Disable) => f.write_str("plaintext only, as its policy says"),
            Self::Policy(mode) => write!(f, "{mode}, as its policy says"),
            Self::Allowed(allowed) => {
                let mode = match allowed.mode {
                    AllowedMode::Permissive => "PERMISSIVE",
                    AllowedMode::Plaintext => "plaintext",
                };
                write!(f, "STRICT or {mode}, which is allowed until {}: {}", allowed.until, allowed.reason)
            }
            Self::Nothing { why } => write!(f, "nothing: {why}"),
        }
    }
}

/// A port that was found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found<'a> {
    pub(super) cluster: &'a str,
    pub(super) pod: &'a Pod,
    pub(super) port: u16,
}

/// A port, for its expectation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) cluster: &'a str,
    pub(super) pod: &'a Pod,
    pub(super) port: u16,
    pub(super) system: bool,
}

#[cfg(test)]
mod tests;
