//! The protocol between [`Isolation`](super::Isolation) and the command that pauses clusters: one line of JSON per
//! message.
//!
//! The command pauses what its arguments ([`Extent`]) describe, prints [`Event::Paused`], and reads standard input. The
//! command answers each [`Freeze`] with [`Event::Frozen`] and, after the freeze, [`Event::Thawed`]. The end of standard
//! input ends the pause. Standard input also ends if the process at the other end crashes.

use std::io::{BufRead, Write};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Longest freeze of the cluster under test. Kubernetes takes a node for lost after 40 s without a heartbeat.
pub const LONGEST_FREEZE: Duration = Duration::from_secs(15);

/// What the command pauses while it runs, and what a [`Freeze`] stops in addition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extent {
    /// All clusters are paused.
    AllClusters,
    /// All clusters but one are paused. In the remaining cluster, scheduler, controller manager and kube-proxy are
    /// stopped: a cluster works for minutes without them.
    OtherClusters {
        /// The cluster that is not paused.
        except: String,
    },
    /// All clusters but one are paused. In the remaining cluster, each [`Freeze`] stops the kubelet and all pods
    /// outside `namespaces`. The API server is stopped too, so the cluster answers no request during a freeze.
    AllButNamespaces {
        /// The cluster that is not paused between freezes.
        except: String,
        /// Namespaces whose pods are never stopped.
        namespaces: Vec<String>,
    },
}

impl Extent {
    /// Option that names the cluster that is not paused.
    pub const KEEP: &str = "keep";

    /// Option that names a namespace whose pods are never stopped.
    pub const SPARE: &str = "spare";

    /// The command's arguments that follow the record's.
    pub fn arguments(&self) -> Vec<String> {
        let (except, namespaces) = match self {
            Self::AllClusters => return Vec::new(),
            Self::OtherClusters { except } => (except, &[][..]),
            Self::AllButNamespaces { except, namespaces } => (except, namespaces.as_slice()),
        };
        let option = |name: &str, value: &String| [format!("--{name}"), value.clone()];
        let spared = namespaces.iter().flat_map(|namespace| option(Self::SPARE, namespace));
        option(Self::KEEP, except).into_iter().chain(spared).collect()
    }
}

/// Request to stop, for a limited time, everything that [`Extent::AllButNamespaces`] does not spare.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Freeze {
    /// Duration in seconds: above 0, at most [`LONGEST_FREEZE`].
    pub seconds: f64,
}

/// A report of the command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Event {
    /// The whole extent is paused.
    Paused,
    /// A freeze has begun.
    Frozen {
        /// Number of stopped processes.
        processes: u64,
    },
    /// The freeze is over. All processes run again.
    Thawed,
}

/// Writes one line.
///
/// # Errors
/// The other end is closed.
pub fn send(message: &impl Serialize, mut to: impl Write) -> std::io::Result<()> {
    writeln!(to, "{}", serde_json::to_string(message)?)?;
    to.flush()
}

/// Reads one line. `None` at the end of input.
///
/// # Errors
/// The line is not a message of type `T`, or cannot be read.
pub fn receive<T: DeserializeOwned>(from: &mut impl BufRead) -> std::io::Result<Option<T>> {
    let mut line = String::new();
    match from.read_line(&mut line)? {
        0 => Ok(None),
        _ => serde_json::from_str(&line)
            .map(Some)
            .map_err(|error| std::io::Error::other(format!("`{}` was not expected here: {error}", line.trim()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_arrives_as_it_was_sent_and_the_end_is_no_message() {
        let mut line = Vec::new();
        send(&Event::Frozen { processes: 7 }, &mut line).unwrap();
        assert_eq!(String::from_utf8_lossy(&line), "{\"event\":\"frozen\",\"processes\":7}\n");
        let mut input = line.as_slice();
        assert_eq!(receive(&mut input).unwrap(), Some(Event::Frozen { processes: 7 }));
        assert_eq!(receive::<Event>(&mut input).unwrap(), None);
    }

    #[test]
    fn a_line_that_is_no_message_is_told_in_the_error() {
        let error = receive::<Event>(&mut "held 7\n".as_bytes()).unwrap_err().to_string();
        assert!(error.contains("`held 7` was not expected here"), "{error}");
    }

    #[test]
    fn an_extent_is_told_by_arguments() {
        let except = || "one".to_owned();
        let of = |extent: Extent| extent.arguments().join(" ");
        assert_eq!(of(Extent::AllClusters), "");
        assert_eq!(of(Extent::OtherClusters { except: except() }), "--keep one");
        let namespaces = vec!["a".into(), "b".into()];
        assert_eq!(of(Extent::AllButNamespaces { except: except(), namespaces }), "--keep one --spare a --spare b");
    }
}
