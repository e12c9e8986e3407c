//! When each connection is due, so that no pod and no cluster is asked for more than was agreed.

use std::collections::HashMap;
use std::time::Duration;

/// Most connections a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// To one pod.
    pub per_pod: u32,
    /// In all.
    pub in_all: u32,
}

impl Default for Rates {
    fn default() -> Self {
        Self { per_pod: 20, in_all: 200 }
    }
}

impl std::fmt::Display for Rates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "at most {} connections a second to a pod, and {} in all", self.per_pod, self.in_all)
    }
}

/// Vantages that share what was agreed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sharing {
    /// Vantages that dial at the same time.
    pub(super) all: usize,
    /// Of these, vantages that dial one pod.
    pub(super) one_pod: usize,
}

/// Gives each connection from one vantage its time, counted from the start of the audit.
#[derive(Debug)]
pub(super) struct Pace {
    gap: Duration,
    pod_gap: Duration,
    next: Duration,
    pods: HashMap<usize, Duration>,
}

impl Pace {
    /// The pace of one of several vantages that dial at the same time.
    pub(super) fn new(rates: Rates, sharing: Sharing) -> Self {
        let gap = |rate: u32, vantages: usize| {
            Duration::from_secs(1) * u32::try_from(vantages.max(1)).unwrap_or(u32::MAX) / rate.max(1)
        };
        Self {
            gap: gap(rates.in_all, sharing.all),
            pod_gap: gap(rates.per_pod, sharing.one_pod),
            next: Duration::ZERO,
            pods: HashMap::new(),
        }
    }

    /// When the next connection to a pod is due: not before `now`, and never before one that was given earlier.
    pub(super) fn due(&mut self, pod: usize, now: Duration) -> Duration {
        let free = self.pods.get(&pod).copied().unwrap_or_default();
        let due = self.next.max(free).max(now);
        self.next = due + self.gap;
        self.pods.insert(pod, due + self.pod_gap);
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The most connections that fall into any second that begins with one of them.
    fn most(times: &[Duration]) -> usize {
        let second = Duration::from_secs(1);
        let within = |start: Duration| times.iter().filter(|at| **at >= start && **at < start + second).count();
        times.iter().map(|start| within(*start)).max().unwrap_or(0)
    }

    #[test]
    fn neither_a_pod_nor_all_pods_get_more_than_was_agreed() {
        let mut pace = Pace::new(Rates { per_pod: 10, in_all: 50 }, Sharing { all: 1, one_pod: 1 });
        let given: Vec<(usize, Duration)> = (0..300).map(|n| (n % 3, pace.due(n % 3, Duration::ZERO))).collect();
        let all: Vec<Duration> = given.iter().map(|(_, at)| *at).collect();
        let of_one: Vec<Duration> = given.iter().filter(|(pod, _)| *pod == 0).map(|(_, at)| *at).collect();
        assert_eq!(most(&of_one), 10);
        assert!(most(&all) <= 50, "{}", most(&all));
    }

    #[test]
    fn many_pods_share_what_there_is_in_all_and_several_vantages_as_well() {
        let rates = Rates { per_pod: 10, in_all: 50 };
        let mut pace = Pace::new(rates, Sharing { all: 2, one_pod: 1 });
        let all: Vec<Duration> = (0..200).map(|pod| pace.due(pod, Duration::ZERO)).collect();
        assert_eq!(most(&all), 25);
        let of_one = |one_pod| {
            let mut pace = Pace::new(rates, Sharing { all: 2, one_pod });
            most(&(0..40).map(|_| pace.due(0, Duration::ZERO)).collect::<Vec<_>>())
        };
        assert_eq!((of_one(1), of_one(2)), (10, 5), "only vantages that dial the pod share its limit");
    }

    #[test]
    fn a_pause_is_not_made_up_for() {
        let mut pace = Pace::new(Rates { per_pod: 10, in_all: 50 }, Sharing { all: 1, one_pod: 1 });
        pace.due(0, Duration::ZERO);
        let later = Duration::from_secs(60);
        let after: Vec<Duration> = (0..20).map(|_| pace.due(0, later)).collect();
        assert_eq!((after[0], most(&after)), (later, 10));
    }
}
