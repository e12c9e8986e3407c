//! The load driver and an echo server: two pods, on the nodes that a suite chooses.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::try_join;
use kube::ResourceExt;
use meshproof_load::{Summary, TlsSession};

use super::cost::Cost;
use super::counted::{Counted, CountedRun};
use super::isolation::{Isolation, Span, frozen};
use super::places::Places;
use super::side::Side;
use crate::cluster::{Cluster, EXEC_BOUND, Input, Seen, Testbed, Workload, eventually, is_ready};
use crate::compare::{Error, Result};
use crate::host::Host;
use crate::judge::Run;
use crate::judge::attempt::FROZEN_SHARE;
use crate::record;
use crate::scope::Scope;
use crate::scope::change::Placement;

/// Longest wait for both pods to be ready.
const READY: Duration = Duration::from_secs(120);

/// A client or a server.
#[derive(Debug, Clone)]
struct End {
    is_meshed: bool,
    pod: Workload,
}

/// A client and a server, with an optional gateway between them.
#[derive(Debug, Clone)]
pub struct Bench {
    pub(super) cluster: Arc<Cluster>,
    pub(super) places: Places,
    client: End,
    server: End,
    gateway: Option<Workload>,
    pub(super) k6: Option<Workload>,
    /// What the client calls, if it is not the server of [`Side`].
    service: Option<String>,
    /// Whether the server's container has a shell, by which its own costs are read.
    server_has_shell: bool,
}

/// One run of the load driver.
#[derive(Debug, Clone, Copy)]
pub struct RunSpec<'a> {
    /// The run's comparison.
    pub comparison: &'a str,
    /// The run's number in the comparison.
    pub order: u32,
    /// This machine.
    pub host: &'a Host,
    /// Duration of the load, warm-up included.
    pub length: Duration,
    /// Time for requests in flight at the end of the load. The rest of the cluster stays frozen until then.
    pub drain: Duration,
    /// The driver's command line, without the target and `--duration`.
    pub arguments: &'a [String],
    /// Freezes the rest of the cluster during the run. The receipt [`FROZEN_SHARE`] holds the frozen share of the
    /// measured time.
    pub isolation: Option<&'a Isolation>,
}

/// The gateway's deployment and service, in the namespace of [`Side::Meshed`], and its pods' label `istio`.
pub const GATEWAY: &str = "echo-gateway";

/// Port where the gateway terminates TLS.
pub const GATEWAY_PORT: u16 = 8443;

/// Secret with the gateway's certificate.
pub const GATEWAY_CREDENTIAL: &str = "echo-credential";

/// Names in the gateway's certificate: of the control arm, and of the treatment arm.
pub const SERVER_NAMES: [&str; 2] = ["control.echo.test", "treatment.echo.test"];

/// Path of the echo server: an answer of 1 KiB, as in the seed's benchmark with fortio.
pub(super) const ECHO: &str = "/echo?size=1024";

impl Bench {
    /// The first cluster with a bench.
    ///
    /// # Errors
    /// [`NotDeclared`](record::Error::NotDeclared): no cluster has a bench.
    pub fn first_cluster(testbed: &Testbed) -> Result<&Arc<Cluster>> {
        let has_bench = |cluster: &&Arc<Cluster>| cluster.record().bench.is_some();
        Ok(testbed.clusters.iter().find(has_bench).ok_or_else(|| record::Error::not_declared(record::BENCH))?)
    }

    /// Starts client and server at `places` until the test ends, unless they already run.
    ///
    /// # Errors
    /// The testbed has no bench, or the pods do not become ready.
    pub async fn start(
        scope: &Scope,
        cluster: &Arc<Cluster>,
        places: &Places,
        client: Side,
        server: Side,
    ) -> Result<Self> {
        for (side, name, host) in [(client, "client", places.client()), (server, "server", places.server())] {
            // Boxed, because the futures of tests would get too deep for the compiler.
            Box::pin(start(scope, cluster, side.namespace(cluster)?, name, host)).await?;
        }
        let (client_pod, server_pod) = try_join!(ready(cluster, client, "client"), ready(cluster, server, "server"))?;
        Ok(Self {
            cluster: Arc::clone(cluster),
            places: places.clone(),
            client: End { is_meshed: client.is_meshed(), pod: client_pod },
            server: End { is_meshed: server.is_meshed(), pod: server_pod },
            gateway: None,
            k6: None,
            service: None,
            // The server that suites deploy is the load driver's, whose image has the program only.
            server_has_shell: cluster.record().bench_to_deploy().is_none(),
        })
    }

    /// A bench of pods that run already, both with proxies: `client`, whose container `client` has the load driver, and
    /// `server`, which the client calls as `service` (HOST:PORT). The server's own costs are not read: its container
    /// may have no shell.
    pub(super) fn of(client: Workload, server: Workload, service: String) -> Self {
        Self {
            cluster: Arc::clone(&client.cluster),
            places: Places::any(),
            client: End { is_meshed: true, pod: client },
            server: End { is_meshed: true, pod: server },
            gateway: None,
            k6: None,
            service: Some(service),
            server_has_shell: false,
        }
    }

    /// Starts a client and a server without proxies, and a gateway between them that terminates TLS, until the test
    /// ends. The caller has placed the gateway's listener and the route to the server.
    ///
    /// # Errors
    /// The errors of [`Self::start`].
    pub async fn start_gateway(scope: &Scope, cluster: &Arc<Cluster>, places: &Places) -> Result<Self> {
        // Start the gateway first: it needs a core of its own, and other pods could take it.
        Box::pin(start(scope, cluster, Side::Meshed.namespace(cluster)?, GATEWAY, places.gateway())).await?;
        let gateway = ready(cluster, Side::Meshed, GATEWAY).await?;
        let bench = Self::start(scope, cluster, places, Side::Naked, Side::Naked).await?;
        Ok(Self { gateway: Some(gateway), ..bench })
    }

    /// The gateway's pod, if there is one.
    pub fn gateway(&self) -> Option<&Workload> {
        self.gateway.as_ref()
    }

    /// The nodes of all pods of the bench.
    pub fn nodes(&self) -> BTreeSet<&str> {
        self.pods().into_iter().chain(&self.gateway).chain(&self.k6).map(|pod| pod.node.as_str()).collect()
    }

    /// The server's pod.
    pub fn server(&self) -> &Workload {
        &self.server.pod
    }

    /// The namespaces of the bench's pods.
    pub fn namespaces(&self) -> BTreeSet<String> {
        let pods = self.pods().into_iter().chain(&self.gateway).chain(&self.k6);
        pods.map(|pod| pod.namespace.clone()).collect()
    }

    /// The client's pod and the server's.
    pub fn pods(&self) -> [&Workload; 2] {
        [&self.client.pod, &self.server.pod]
    }

    /// Service name that the client calls: the server's, or the gateway's if there is one.
    pub fn target(&self) -> String {
        match (&self.gateway, &self.service) {
            (Some(gateway), _) => format!("{GATEWAY}.{}:{GATEWAY_PORT}", gateway.namespace),
            (None, Some(service)) => service.clone(),
            (None, None) => format!("server.{}:8080", self.server.pod.namespace),
        }
    }

    /// Waits until the client gets an answer to a request with `arguments`. Ready pods may still be unreachable by
    /// service name: kube-proxy learns of them later, and a [freeze](Isolation::freeze) stops kube-proxy.
    ///
    /// # Errors
    /// [`NotInTime`](crate::cluster::Error::NotInTime), with the result of the last attempt.
    pub async fn answers(&self, arguments: &[String]) -> Result<()> {
        let want = format!("{} to answer {}", self.target(), self.client.pod);
        Ok(eventually(want, READY, async || {
            let one = ["--rate=10", "--duration=100ms", "--warmup=0s", "--connections=1", "--timeout=1s", "--drain=1s"];
            let arguments: Vec<&str> = one.into_iter().chain(arguments.iter().map(String::as_str)).collect();
            let summary = self.driven(Duration::from_secs(3), &arguments, Input::None).await?;
            let answered = summary.counts.due > 0 && summary.counts.completed == summary.counts.due;
            let errors: Vec<String> = summary.errors.iter().map(|error| error.failure.to_string()).collect();
            Ok::<_, Error>(if answered { Seen::Yes(()) } else { Seen::NotYet(errors.join(", ")) })
        })
        .await?)
    }

    /// Runs the driver in the client's pod, for `length`.
    async fn driven(&self, length: Duration, arguments: &[&str], input: Input<'_>) -> Result<Summary> {
        let target = self.target();
        // With an exit code other than 0 the summary would be lost. The summary itself reports an empty or saturated
        // run.
        let mut command = vec!["/load", "run", "--json", "--report-only", &target];
        command.extend(arguments);
        let client = self.client.pod.container("client");
        let output = self.cluster.exec_within(length + EXEC_BOUND, client, &command, input).await?;
        let unusable = |reason| self.client.pod.unusable(command.join(" "), reason);
        if output.is_empty() {
            return Err(unusable("it succeeded, but none of its output arrived".into()).into());
        }
        Ok(serde_json::from_str(&output).map_err(|error| unusable(format!("its summary cannot be read: {error}")))?)
    }

    /// Makes load according to `spec`, and returns it as a run.
    ///
    /// # Errors
    /// [`Exec`](crate::cluster::Error::Exec): the driver cannot run or its summary cannot be read.
    pub async fn run(&self, spec: &RunSpec<'_>) -> Result<Run> {
        self.run_between(spec, async || Ok::<_, Error>(())).await.map(|counted| counted.run)
    }

    /// Like [`Self::run`], and calls `counts` just before and just after the load, concurrently with reading the costs.
    ///
    /// # Errors
    /// The errors of [`Self::run`] and of `counts`.
    pub async fn run_between<T, E>(
        &self,
        spec: &RunSpec<'_>,
        counts: impl AsyncFn() -> Result<T, E>,
    ) -> Result<CountedRun<T>>
    where
        Error: From<E>,
    {
        let counts = async || Ok::<_, Error>(counts().await?);
        let RunSpec { comparison, order, host, length, drain, arguments, isolation } = *spec;
        // Pod addresses change, arguments do not.
        let plan = serde_json::json!({ "arguments": arguments });
        let mut run = Run::new(comparison, order, host.clone(), plan);
        let began = Instant::now();
        let duration = format!("--duration={}s", length.as_secs_f64());
        let own = [duration.as_str(), "--print-at-eof"];
        let arguments: Vec<&str> = own.into_iter().chain(arguments.iter().map(String::as_str)).collect();
        let (costs_before, before) = try_join!(self.cost(), counts())?;
        let driver = async |input| self.driven(length, &arguments, input).await;
        let (summary, span) = frozen(isolation, length + drain, driver).await?;
        let (costs_after, after) = try_join!(self.cost(), counts())?;
        record(&mut run, &summary)?;
        // Costs and the number of requests both cover the whole run, warm-up included.
        let seconds = Duration::from_millis(summary.plan.duration_ms).as_secs_f64();
        let all = (summary.rates.completed * seconds).max(1.0);
        let of = Counted { before: &costs_before, after: &costs_after };
        costs(&mut run, all, summary.cpu.us_per_request, of);
        if isolation.is_some() {
            let from = summary.started + Duration::from_millis(summary.plan.warmup_ms).as_secs_f64();
            let measured = Span { from, to: from + summary.seconds };
            run.receipts.insert(FROZEN_SHARE.into(), span.map_or(0.0, |span| measured.within(span)));
        }
        run.duration = began.elapsed().as_secs_f64();
        Ok(CountedRun { run, counted: Counted { before, after } })
    }

    /// TLS handshakes that the proxy of the gateway (or of the server, if there is no gateway) has completed as a
    /// server. `None` if there is no such proxy.
    ///
    /// # Errors
    /// [`Exec`](crate::cluster::Error::Exec): the proxy's statistics cannot be read.
    pub async fn tls_handshakes(&self) -> Result<Option<u64>> {
        let pod = match &self.gateway {
            Some(gateway) => gateway,
            None if self.server.is_meshed => &self.server.pod,
            None => return Ok(None),
        };
        let counts = pod.proxy_counts("ssl.handshake").await?;
        // Handshakes as a server are counted by listener, handshakes as a client by cluster.
        let inbound = counts.iter().filter(|count| count.name.starts_with("listener."));
        Ok(Some(inbound.map(|count| count.value).sum()))
    }

    /// Resources that server and proxies have used so far. The driver reports its own.
    pub(super) async fn cost(&self) -> Result<Costs> {
        let proxy = self.cluster.record().istio.proxy.container.as_str();
        let mut of = Vec::new();
        of.extend(self.server_has_shell.then_some(("server", &self.server.pod, "server")));
        of.extend(self.gateway.iter().map(|pod| ("gateway", pod, proxy)));
        for (name, end) in [("client-proxy", &self.client), ("server-proxy", &self.server)] {
            if end.is_meshed {
                of.push((name, &end.pod, proxy));
            }
        }
        let asking = of.into_iter().map(async |(name, pod, container)| Ok((name, Cost::read(pod, container).await?)));
        futures::future::try_join_all(asking).await
    }
}

/// Resources of the server and of each proxy, by name.
pub(super) type Costs = Vec<(&'static str, Cost)>;

/// Adds to `run` the costs per request of server and proxies between two readings. The generator reports its own CPU
/// time, `cpu`.
pub(super) fn costs(run: &mut Run, requests: f64, mut cpu: f64, of: Counted<&Costs>) {
    let mut memory = 0.0;
    for ((name, before), (_, after)) in of.before.iter().zip(of.after) {
        let used = (after.cpu_us - before.cpu_us) / requests;
        run.measure(format!("cpu_us_per_request/{name}"), used.max(f64::MIN_POSITIVE), "us");
        cpu += used;
        memory += after.memory_bytes;
        if after.memory_bytes > 0.0 {
            run.measure(format!("memory_bytes/{name}"), after.memory_bytes, "bytes");
        }
    }
    run.measure("cpu_us_per_request", cpu.max(f64::MIN_POSITIVE), "us");
    if memory > 0.0 {
        run.measure("memory_bytes", memory, "bytes");
    }
}

/// Adds the driver's measurements to a run's metrics.
fn record(run: &mut Run, summary: &Summary) -> Result<()> {
    run.latency(&microseconds(summary)?)?;
    run.measure("requests_per_second", summary.rates.completed, "1/s");
    let (total, first_byte, handshake) =
        (&summary.latency.total, &summary.latency.first_byte, &summary.latency.handshake);
    // Without TLS these metrics repeat the latency.
    if !handshake.is_empty() {
        for (name, latency) in [("total", total), ("first_byte", first_byte), ("handshake", handshake)] {
            if let Some((mean, p99)) = latency.mean().zip(latency.quantile(0.99)) {
                run.measure(format!("{name}_mean_us"), mean / 1e3, "us");
                run.measure(format!("{name}_p99_us"), p99 as f64 / 1e3, "us");
            }
        }
    }
    run.tls = summary.tls.iter().map(agreed).collect();
    run.requests = summary.counts.due;
    run.errors = summary.counts.failed;
    run.dropped = summary.counts.dropped;
    run.saturated = summary
        .saturation
        .is_saturated()
        .then(|| summary.saturation.0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "));
    Ok(())
}

/// The parameters of a TLS session as text. How many sessions had them depends on the arm.
fn agreed(session: &TlsSession) -> String {
    let TlsSession { version, cipher_suite, key_exchange, alpn, certificate_sha256, .. } = session;
    format!("{version} {cipher_suite} {key_exchange} ALPN {alpn:?} certificate {certificate_sha256}")
}

/// The latency since the intended send time, in microseconds.
fn microseconds(summary: &Summary) -> Result<hdrhistogram::Histogram<u64>> {
    let nanos = summary.latency.total.histogram();
    let micros = hdrhistogram::Histogram::new_with_bounds(1, 60_000_000, 3);
    let mut micros = micros.map_err(|error| Error::Histogram { reason: error.to_string() })?;
    for value in nanos.iter_recorded() {
        micros.saturating_record_n((value.value_iterated_to() / 1000).max(1), value.count_at_value());
    }
    Ok(micros)
}

/// Starts the pod of a deployment on the node `host`, or on any node.
pub(super) async fn start(
    scope: &Scope,
    cluster: &Arc<Cluster>,
    namespace: &str,
    deployment: &str,
    host: Option<&str>,
) -> Result<()> {
    if let Some(host) = host {
        scope.inject(Placement::new(cluster, namespace, deployment, host)).await?;
    }
    Ok(scope.scale(cluster, namespace, deployment, 1).await?)
}

/// The only ready pod of a workload.
pub(super) async fn ready(cluster: &Arc<Cluster>, side: Side, name: &str) -> Result<Workload> {
    let (namespace, selector) = (side.namespace(cluster)?, format!("app={name}"));
    let want = format!("a pod of {namespace}/{name} in {}", cluster.name());
    let ready = cluster.await_pods(namespace, &selector, want, READY, |pods| {
        // A terminating pod must be gone as well: its service would answer under the same name and add to the costs.
        let only = match pods {
            [pod] if is_ready(pod) => Workload::of(cluster, pod),
            _ => None,
        };
        let names = || pods.iter().map(|pod| pod.name_any()).collect::<Vec<_>>().join(", ");
        only.map_or_else(|| Seen::NotYet(format!("{} not ready", names())), Seen::Yes)
    });
    Ok(ready.await?)
}
