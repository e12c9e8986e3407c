//! What a control plane has sent to proxies so far, from istiod's own metrics.

use std::sync::Arc;

use futures::future::try_join_all;

use super::registry::{asked, istiods};
use crate::cluster::Cluster;

/// Port of istiod's metrics.
const METRICS: u16 = 15014;

/// What all istiods of a cluster have pushed since they started.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pushes {
    /// Number of answers and pushes, of all types.
    pub count: f64,
    /// Time that istiod took to make and send them, in seconds.
    pub seconds: f64,
    /// Their size, in bytes of Protobuf.
    pub bytes: f64,
}

impl Pushes {
    /// What the istiods of a cluster have pushed so far.
    ///
    /// # Errors
    /// The reason, as text: an istiod cannot be asked, or its metrics lack these.
    pub async fn read(cluster: &Arc<Cluster>) -> Result<Self, String> {
        let istiods = istiods(cluster).await.map_err(|error| error.to_string())?;
        if istiods.is_empty() {
            return Err(format!("{} has no ready istiod", cluster.name()));
        }
        let mut sum = Self::default();
        for metrics in try_join_all(istiods.iter().map(|istiod| asked(istiod, METRICS, "/metrics"))).await? {
            sum = sum + parsed(&metrics).ok_or("istiod does not count its pushes")?;
        }
        Ok(sum)
    }

    /// What was pushed since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            count: self.count - earlier.count,
            seconds: self.seconds - earlier.seconds,
            bytes: self.bytes - earlier.bytes,
        }
    }
}

impl std::ops::Add for Pushes {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { count: self.count + other.count, seconds: self.seconds + other.seconds, bytes: self.bytes + other.bytes }
    }
}

/// The sums over all types. `None`: a metric is missing, so that nothing is known.
fn parsed(metrics: &str) -> Option<Pushes> {
    let sum = |name: &str| {
        let values = metrics.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?.trim_start();
            let rest = rest.strip_prefix('{').map_or(Some(rest), |labelled| Some(labelled.split_once('}')?.1))?;
            rest.trim().parse::<f64>().ok()
        });
        values.reduce(|one, other| one + other)
    };
    Some(Pushes {
        count: sum("pilot_xds_pushes")?,
        seconds: sum("pilot_xds_push_time_sum")?,
        bytes: sum("pilot_xds_config_size_bytes_sum")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_types_are_added_and_a_missing_metric_is_not_zero() {
        let metrics = "# TYPE pilot_xds_pushes counter\n\
            pilot_xds_pushes{type=\"cds\"} 39\npilot_xds_pushes{type=\"lds\"} 1\n\
            pilot_xds_push_time_sum{type=\"cds\"} 0.5\npilot_xds_push_time_count{type=\"cds\"} 7\n\
            pilot_xds_config_size_bytes_sum{type=\"type.googleapis.com/x\"} 1.059224e+06\n";
        let seen = parsed(metrics).unwrap();
        assert_eq!(seen, Pushes { count: 40.0, seconds: 0.5, bytes: 1_059_224.0 });
        assert_eq!(seen.since(Pushes { count: 39.0, ..Pushes::default() }).count, 1.0);
        assert_eq!(parsed("pilot_xds_pushes{type=\"cds\"} 39"), None);
    }
}
