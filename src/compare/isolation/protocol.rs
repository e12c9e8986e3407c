//! What is said between [`Isolation`](super::Isolation) and the command that pauses clusters: one line of JSON each way
//! at a time.
//!
//! The command pauses what its arguments ([`Extent`]) say, prints [`Event::Paused`], and reads standard input. Each
//! [`Freeze`] is answered by [`Event::Frozen`] and, when its time is over, [`Event::Thawed`]. The end of standard input
//! ends the pause: it comes however the process at the other end stops.

use std::io::{BufRead, Write};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Longest freeze of a cluster that goes on afterwards. A node that was not heard of for 40 s is taken for lost.
pub const LONGEST_FREEZE: Duration = Duration::from_secs(15);

/// What is paused for as long as the command runs, and what a [`Freeze`] stops beside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Extent {
    /// Every cluster is paused.
    AllClusters,
    /// Every cluster but one is paused. In that one, scheduler, controller manager and kube-proxy are stopped: what can
    /// be spared for minutes.
    OtherClusters {
        /// The cluster that goes on.
        except: String,
    },
    /// Every cluster but one is paused. In that one, each [`Freeze`] stops the kubelet and all pods but those of some
    /// namespaces: the API server as well, so that nothing can be asked of the cluster meanwhile.
    AllButNamespaces {
        /// The cluster that goes on between freezes.
        except: String,
        /// Namespaces whose pods are never stopped.
        namespaces: Vec<String>,
    },
}

impl Extent {
    /// Option that names the cluster that goes on.
    pub const KEEP: &str = "keep";

    /// Option that names a namespace whose pods are never stopped.
    pub const SPARE: &str = "spare";

    /// The command's arguments, after those that the record has.
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

/// Asks to stop, for a while, what [`Extent::AllButNamespaces`] does not spare.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Freeze {
    /// For so long: above 0, and [`LONGEST_FREEZE`] at most.
    pub seconds: f64,
}

/// What the command has done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Event {
    /// All of the extent is paused.
    Paused,
    /// A freeze has begun.
    Frozen {
        /// Processes that are stopped.
        processes: u64,
    },
    /// The freeze is over: all processes go on.
    Thawed,
}

/// Writes one line.
///
/// # Errors
/// Where the other end is gone.
pub fn send(message: &impl Serialize, mut to: impl Write) -> std::io::Result<()> {
    writeln!(to, "{}", serde_json::to_string(message)?)?;
    to.flush()
}

/// Reads one line; `None` at the end.
///
/// # Errors
/// Where the line is no such message.
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
}
