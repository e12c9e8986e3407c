//! Growth with the number of connections through a sidecar.

use std::time::Duration;

use meshproof::compare::{Bench, Places, RunSpec, Side};
use meshproof::host::Host;
use meshproof::judge::growth::Point;
use meshproof::record::Requirement;
use meshproof::{Error, Scope, Verdict, Workload};

use super::bounds::growth;
use super::new_sidecar::allocated;
use super::{REPEATS, SUITE, judge};

/// Numbers of connections.
const SIZES: [u32; 3] = [10, 100, 1_000];

/// Duration of the load. The connections are counted at three quarters of it: Envoy updates the gauge every 5 s.
const LENGTH: Duration = Duration::from_secs(8);

/// What a connection costs in the caller's Envoy, with 10, 100 and 1,000 of them.
///
/// Red if: the bound is a tenth of today's (15.8 KiB in place of 13.1 for each connection).
async fn one_more_connection_costs_little() -> Verdict {
    Scope::alone(SUITE, "connections", async |scope| {
        scope.requires([Requirement::Bench])?;
        let cluster = Bench::first_cluster(&scope.testbed)?;
        let places = Places::one_node(cluster).await?;
        let bench = Bench::start(scope, cluster, &places, Side::Meshed, Side::Meshed).await?;
        bench.answers(&["--path=/echo?size=1024".to_owned()]).await?;
        let mut points = Vec::new();
        for order in 0..REPEATS {
            for size in SIZES {
                points.push(Point { size, value: memory(&bench, size, order).await? });
            }
        }
        judge(scope, vec![growth("connections-memory", "connections", "memory of the caller's Envoy", points)?])
    })
    .await
}

/// Memory that the client's Envoy has allocated while `size` connections of the client go through it.
async fn memory(bench: &Bench, size: u32, order: u32) -> Result<f64, Error> {
    let connections = format!("--connections={size}");
    let arguments = [&connections, "--rate=500", "--warmup=1s", "--path=/echo?size=1024"].map(str::to_owned);
    let host = Host::this();
    let spec = RunSpec {
        comparison: "growth/connections",
        order,
        host: &host,
        length: LENGTH,
        drain: Duration::ZERO,
        arguments: &arguments,
        isolation: None,
    };
    let [client, _] = bench.pods();
    let during = async {
        #[allow(clippy::disallowed_methods, reason = "the load's own time passes")]
        tokio::time::sleep(LENGTH * 3 / 4).await;
        Ok::<_, Error>((allocated(client).await?, open(client).await?))
    };
    let (run, (memory, held)) = futures::try_join!(async { Ok::<_, Error>(bench.run(&spec).await?) }, during)?;
    // The control: without the connections there is nothing that could have grown. A few more are those of the kubelet.
    if held < u64::from(size) {
        let (failed, all) = (run.errors, run.requests);
        return Err(Error::suite(format!(
            "{held} connections of {size} were open, and {failed} of {all} requests failed, so nothing grew"
        )));
    }
    Ok(memory)
}

/// Number of connections to the listeners of a workload's proxy.
async fn open(workload: &Workload) -> Result<u64, Error> {
    let counts = workload.proxy_counts("server.total_connections").await?;
    Ok(counts.iter().map(|count| count.value).sum())
}

crate::trials! {
    one_more_connection_costs_little,
}
