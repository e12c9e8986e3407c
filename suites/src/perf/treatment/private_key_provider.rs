//! Istio's `privateKeyProvider`: `cryptomb`, an extension in contrib builds of Envoy. The extension makes batches of up
//! to eight signatures for Envoy's own TLS. The extension's only statistic is a histogram of batch sizes.

use std::time::Duration;

use meshproof::Workload;
use meshproof::cluster::Result;
use serde::Deserialize;
use tokio::time::sleep;

use super::batches::Batches;

/// Name of the extension in Envoy.
const EXTENSION: &str = "cryptomb";

/// Suffix of the histogram's name. The prefix is the listener's name.
const SIZES: &str = "cryptomb.rsa_queue_sizes";

/// Signatures in a full batch.
const LANES: u64 = 8;

/// Longest time until a worker's histogram values are readable: the gateway's `statsFlushInterval`
/// (fixtures/perf/echo-gateway.yaml) plus the merge.
const GATHERED: Duration = Duration::from_millis(1_200);

/// Refuses a gateway whose Envoy lacks the extension.
pub(super) async fn expect(gateway: &Workload) -> Result<()> {
    let path = "config_dump?mask=bootstrap";
    let dump = gateway.proxy_admin(path).await?;
    let dump: Dump = serde_json::from_str(&dump).map_err(|error| gateway.unusable(path, error.to_string()))?;
    let mut extensions = dump.configs.into_iter().flat_map(|config| config.bootstrap.node.extensions);
    match extensions.any(|extension| extension.name == EXTENSION) {
        true => Ok(()),
        false => {
            let reason =
                format!("its Envoy was built without `{EXTENSION}`, which the testbed declares: its image is another");
            Err(gateway.unusable(path, reason))
        }
    }
}

/// How often istiod has updated the certificates of the gateway's listeners.
pub(super) async fn certificates(gateway: &Workload) -> Result<u64> {
    of_listeners(gateway, "ssl_context_update_by_sds").await
}

/// Reads the counters.
pub(super) async fn batches(gateway: &Workload) -> Result<Batches> {
    #[allow(clippy::disallowed_methods, reason = "Envoy does not say when it has gathered, only how often it does")]
    sleep(GATHERED).await;
    let path = format!("stats?format=json&histogram_buckets=detailed&filter={SIZES}");
    let answer = gateway.proxy_admin(&path).await?;
    let answer: Statistics =
        serde_json::from_str(&answer).map_err(|error| gateway.unusable(path, error.to_string()))?;
    let failures = of_listeners(gateway, "ssl.connection_error").await?;
    // The histogram does not exist before the first signature.
    Ok(Batches { failures, ..answer.batches(SIZES) })
}

async fn of_listeners(gateway: &Workload, name: &str) -> Result<u64> {
    let counts = gateway.proxy_counts(name).await?;
    Ok(counts.iter().filter(|count| count.name.starts_with("listener.")).map(|count| count.value).sum())
}

/// Envoy's `/config_dump`, reduced to the list of compiled extensions.
#[derive(Deserialize)]
struct Dump {
    configs: Vec<Config>,
}

#[derive(Deserialize)]
struct Config {
    bootstrap: Bootstrap,
}

#[derive(Deserialize)]
struct Bootstrap {
    node: Node,
}

#[derive(Deserialize)]
struct Node {
    extensions: Vec<Extension>,
}

#[derive(Deserialize)]
struct Extension {
    name: String,
}

/// Envoy's `/stats` with histogram buckets. Without a match, the list of histograms is absent.
#[derive(Deserialize)]
struct Statistics {
    stats: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    #[serde(default)]
    histograms: Histograms,
}

#[derive(Default, Deserialize)]
struct Histograms {
    #[serde(default)]
    details: Vec<Histogram>,
}

#[derive(Deserialize)]
struct Histogram {
    name: String,
    /// Cumulative since Envoy's start.
    totals: Vec<Bucket>,
}

/// Integers up to nine have one bucket each.
#[derive(Deserialize)]
struct Bucket {
    lower_bound: f64,
    count: u64,
}

impl Statistics {
    /// Counters from all histograms whose name ends in `name`, as histograms of batch sizes.
    fn batches(&self, name: &str) -> Batches {
        let histograms = self.stats.iter().flat_map(|group| &group.histograms.details);
        let of_sizes = histograms.filter(|histogram| histogram.name.ends_with(name));
        let mut batches = Batches::default();
        for Bucket { lower_bound, count } in of_sizes.flat_map(|histogram| &histogram.totals) {
            let size = lower_bound.round() as u64;
            if size >= 2 {
                batches.all += count;
            } else {
                batches.alone += count;
            }
            if size == LANES {
                batches.full += count;
            }
            batches.handshakes += size * count;
        }
        batches
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Output of a stock Envoy 1.40 for a histogram of batches. At the same time, the module's counters were 85 batches
    /// with 320 signatures in all, 12 of them full.
    const STATISTICS: &str = r#"{"stats":[{"histograms":{"supported_percentiles":[0,50,100],"details":[
        {"name":"dynamicmodulescustom.multibuffer_tls.batch_size","totals":[
            {"lower_bound":2,"width":0.1,"count":34},{"lower_bound":3,"width":0.1,"count":18},
            {"lower_bound":4,"width":0.1,"count":11},{"lower_bound":5,"width":0.1,"count":4},
            {"lower_bound":6,"width":0.1,"count":4},{"lower_bound":7,"width":0.1,"count":2},
            {"lower_bound":8,"width":0.1,"count":12}],
         "intervals":[],"percentiles":[{"cumulative":2.0028571428571427,"interval":null}]}]}}]}"#;

    fn batches(text: &str, name: &str) -> Batches {
        serde_json::from_str::<Statistics>(text).unwrap().batches(name)
    }

    #[test]
    fn a_histogram_of_sizes_says_how_many_batches_there_were_and_what_was_signed_for() {
        let seen = batches(STATISTICS, "batch_size");
        let owed = Batches { all: 85, full: 12, alone: 0, handshakes: 320, failures: 0 };
        assert_eq!(seen, owed);
    }

    #[test]
    fn one_alone_is_no_batch() {
        let one = STATISTICS.replace(r#""lower_bound":2,"#, r#""lower_bound":1,"#);
        let seen = batches(&one, "batch_size");
        assert_eq!((seen.all, seen.alone, seen.handshakes), (51, 34, 286));
    }

    #[test]
    fn where_nothing_was_signed_for_there_is_nothing() {
        assert_eq!(batches(r#"{"stats":[]}"#, SIZES), Batches::default());
        assert_eq!(batches(STATISTICS, SIZES), Batches::default(), "another histogram");
    }
}
