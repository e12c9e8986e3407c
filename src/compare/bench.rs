//! Two pods on one node: the load driver in the one, an echo server in the other.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::try_join;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::ListParams;
use meshproof_load::{Summary, TlsSession};

use super::Cost;
use super::isolation::{Isolation, Span, frozen};
use crate::cluster::{Cluster, EXEC_BOUND, Input, Seen, Testbed, Workload, eventually, is_ready};
use crate::compare::{Error, Result};
use crate::host::Host;
use crate::judge::Run;
use crate::judge::attempt::FROZEN_SHARE;
use crate::record;
use crate::scope::Scope;

/// Bound on both pods being ready.
const READY: Duration = Duration::from_secs(120);

/// A namespace of the [bench](record::Bench) of a cluster. Each has an identical twin that the TCP bypass leaves alone,
/// so that two arms exist at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// With proxies.
    Meshed,
    /// The twin of [`Side::Meshed`].
    MeshedTwin,
    /// Without proxies.
    Naked,
    /// The twin of [`Side::Naked`].
    NakedTwin,
}

impl Side {
    /// Its namespace in a cluster.
    ///
    /// # Errors
    /// [`NotDeclared`](record::Error::NotDeclared) where the cluster has no bench.
    pub fn namespace(self, cluster: &Cluster) -> Result<&str> {
        let bench = cluster.record().bench.as_ref().ok_or_else(not_declared)?;
        Ok(match self {
            Self::Meshed => &bench.meshed,
            Self::MeshedTwin => &bench.meshed_twin,
            Self::Naked => &bench.naked,
            Self::NakedTwin => &bench.naked_twin,
        })
    }

    /// Whether its pods have proxies.
    pub fn is_meshed(self) -> bool {
        matches!(self, Self::Meshed | Self::MeshedTwin)
    }
}

fn not_declared() -> record::Error {
    record::Error::not_declared("namespaces for performance comparisons")
}

/// A client or a server.
#[derive(Debug, Clone)]
struct End {
    side: Side,
    pod: Workload,
}

/// A client and a server, perhaps with a gateway between them.
#[derive(Debug, Clone)]
pub struct Bench {
    pub(super) cluster: Arc<Cluster>,
    client: End,
    server: End,
    gateway: Option<Workload>,
    pub(super) k6: Option<Workload>,
}

/// One run of the load driver.
#[derive(Debug, Clone, Copy)]
pub struct RunSpec<'a> {
    /// The comparison that the run belongs to.
    pub comparison: &'a str,
    /// Its place in that.
    pub order: u32,
    /// This machine.
    pub host: &'a Host,
    /// How long to make load, warm-up included.
    pub length: Duration,
    /// How long requests under way at the end of that may take: the rest of the cluster stays frozen until then.
    pub drain: Duration,
    /// Of the driver's command line, all but the target and `--duration`.
    pub arguments: &'a [String],
    /// What freezes the rest of the cluster meanwhile. The run's receipt [`FROZEN_SHARE`] says for how much of the
    /// measured time.
    pub isolation: Option<&'a Isolation>,
}

/// The gateway's deployment and service, in the namespace of [`Side::Meshed`].
pub(super) const GATEWAY: &str = "echo-gateway";

/// Where the gateway ends TLS.
pub(super) const GATEWAY_PORT: u16 = 8443;

/// Secret of the certificate that the gateway presents.
pub const GATEWAY_CREDENTIAL: &str = "echo-credential";

/// Names in that certificate: that of the control arm, and that of the treatment arm.
pub const SERVER_NAMES: [&str; 2] = ["control.echo.test", "treatment.echo.test"];

/// What the echo server is asked for: an answer of 1 KiB, as the seed's benchmark asks fortio's.
pub(super) const ECHO: &str = "/echo?size=1024";

impl Bench {
    /// The first cluster that has a bench.
    ///
    /// # Errors
    /// [`NotDeclared`](record::Error::NotDeclared) where none has.
    pub fn first_cluster(testbed: &Testbed) -> Result<&Arc<Cluster>> {
        let has_bench = |cluster: &&Arc<Cluster>| cluster.record().bench.is_some();
        Ok(testbed.clusters.iter().find(has_bench).ok_or_else(not_declared)?)
    }

    /// Starts both until the test ends, where they do not run yet.
    ///
    /// # Errors
    /// Where the testbed has none, or they do not become ready.
    pub async fn start(scope: &Scope, cluster: &Arc<Cluster>, client: Side, server: Side) -> Result<Self> {
        for (side, name) in [(client, "client"), (server, "server")] {
            scope.scale(cluster, side.namespace(cluster)?, name, 1).await?;
        }
        let (client_pod, server_pod) = try_join!(ready(cluster, client, "client"), ready(cluster, server, "server"))?;
        Ok(Self {
            cluster: Arc::clone(cluster),
            client: End { side: client, pod: client_pod },
            server: End { side: server, pod: server_pod },
            gateway: None,
            k6: None,
        })
    }

    /// Starts a client and a server without proxies, and between them a gateway that ends TLS, until the test ends.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_gateway(scope: &Scope, cluster: &Arc<Cluster>) -> Result<Self> {
        // The gateway first: it wants a core to itself, and pods that come before could be in its way.
        scope.scale(cluster, Side::Meshed.namespace(cluster)?, GATEWAY, 1).await?;
        let gateway = ready(cluster, Side::Meshed, GATEWAY).await?;
        let bench = Self::start(scope, cluster, Side::Naked, Side::Naked).await?;
        Ok(Self { gateway: Some(gateway), ..bench })
    }

    /// The gateway's pod, where there is one.
    pub fn gateway(&self) -> Option<&Workload> {
        self.gateway.as_ref()
    }

    /// The server's pod.
    pub fn server(&self) -> &Workload {
        &self.server.pod
    }

    /// The namespaces that its pods are in.
    pub fn namespaces(&self) -> BTreeSet<String> {
        let pods = self.pods().into_iter().chain(&self.gateway).chain(&self.k6);
        pods.map(|pod| pod.namespace.clone()).collect()
    }

    /// The client's pod and the server's.
    pub fn pods(&self) -> [&Workload; 2] {
        [&self.client.pod, &self.server.pod]
    }

    /// Where the client reaches the server, or the gateway before it: a service, by name.
    pub fn target(&self) -> String {
        match &self.gateway {
            Some(gateway) => format!("{GATEWAY}.{}:{GATEWAY_PORT}", gateway.namespace),
            None => format!("server.{}:8080", self.server.pod.namespace),
        }
    }

    /// Waits until the client is answered what `arguments` ask for: that both pods are ready does not say that one
    /// reaches the other by its service's name. kube-proxy learns of it later, and is among what is
    /// [frozen](Isolation::freeze).
    ///
    /// # Errors
    /// [`NotInTime`](crate::cluster::Error::NotInTime), with what came of the last attempt.
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

    /// Has the driver run in the client's pod, which takes it `length`.
    async fn driven(&self, length: Duration, arguments: &[&str], input: Input<'_>) -> Result<Summary> {
        let target = self.target();
        // An exit code other than 0 would leave the summary unread. A run that measured nothing, or was saturated, says
        // so there.
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

    /// Makes load as `spec` says, and returns it as a run.
    ///
    /// # Errors
    /// [`Exec`](crate::cluster::Error::Exec) where the driver cannot run or its summary cannot be read.
    pub async fn run(&self, spec: &RunSpec<'_>) -> Result<Run> {
        self.run_between(spec, async || Ok::<_, Error>(())).await.map(|(run, _)| run)
    }

    /// As [`Self::run`], with `counts` taken just before and just after, in the time that it takes to ask for costs.
    ///
    /// # Errors
    /// As [`Self::run`], and those of `counts`.
    pub async fn run_between<T, E>(
        &self,
        spec: &RunSpec<'_>,
        counts: impl AsyncFn() -> Result<T, E>,
    ) -> Result<(Run, [T; 2])>
    where
        Error: From<E>,
    {
        let counts = async || Ok::<_, Error>(counts().await?);
        let RunSpec { comparison, order, host, length, drain, arguments, isolation } = *spec;
        // The addresses of pods change; what was asked for does not.
        let plan = serde_json::json!({ "arguments": arguments });
        let mut run = Run::new(comparison, order, host.clone(), plan);
        let began = Instant::now();
        let duration = format!("--duration={}s", length.as_secs_f64());
        let own = [duration.as_str(), "--print-at-eof"];
        let arguments: Vec<&str> = own.into_iter().chain(arguments.iter().map(String::as_str)).collect();
        let (before, counted_before) = try_join!(self.cost(), counts())?;
        let driver = async |input| self.driven(length, &arguments, input).await;
        let (summary, span) = frozen(isolation, length + drain, driver).await?;
        let (after, counted_after) = try_join!(self.cost(), counts())?;
        record(&mut run, &summary)?;
        // Costs are of the whole run, warm-up included, and so is the number of requests that they are divided by.
        let seconds = Duration::from_millis(summary.plan.duration_ms).as_secs_f64();
        let all = (summary.rates.completed * seconds).max(1.0);
        costs(&mut run, all, summary.cpu.us_per_request, (&before, &after));
        if isolation.is_some() {
            let from = summary.started + Duration::from_millis(summary.plan.warmup_ms).as_secs_f64();
            let measured = Span { from, to: from + summary.seconds };
            run.receipts.insert(FROZEN_SHARE.into(), span.map_or(0.0, |span| measured.within(span)));
        }
        run.duration = began.elapsed().as_secs_f64();
        Ok((run, [counted_before, counted_after]))
    }

    /// TLS handshakes that the gateway's, or else the server's, proxy has completed as a server with TLS of its own;
    /// `None` where there is no such proxy.
    ///
    /// # Errors
    /// [`Exec`](crate::cluster::Error::Exec) where its statistics cannot be read.
    pub async fn tls_handshakes(&self) -> Result<Option<u64>> {
        let pod = match &self.gateway {
            Some(gateway) => gateway,
            None if self.server.side.is_meshed() => &self.server.pod,
            None => return Ok(None),
        };
        let counts = pod.proxy_counts("ssl.handshake").await?;
        // Those of its own listeners; as a client it has clusters.
        let inbound = counts.iter().filter(|(name, _)| name.starts_with("listener."));
        Ok(Some(inbound.map(|(_, count)| count).sum()))
    }

    /// What server and proxies have used so far; the driver tells its own cost.
    pub(super) async fn cost(&self) -> Result<Costs> {
        let proxy = self.cluster.record().istio.proxy.container.as_str();
        let mut of = vec![("server", &self.server.pod, "server")];
        of.extend(self.gateway.iter().map(|pod| ("gateway", pod, proxy)));
        for (name, end) in [("client-proxy", &self.client), ("server-proxy", &self.server)] {
            if end.side.is_meshed() {
                of.push((name, &end.pod, proxy));
            }
        }
        let asking = of.into_iter().map(async |(name, pod, container)| Ok((name, Cost::read(pod, container).await?)));
        futures::future::try_join_all(asking).await
    }
}

/// What the server and each proxy have used.
pub(super) type Costs = Vec<(&'static str, Cost)>;

/// Adds to `run` what server and proxies used between two readings, for each of `requests`; the generator reports its
/// own, `cpu`.
pub(super) fn costs(run: &mut Run, requests: f64, mut cpu: f64, (before, after): (&Costs, &Costs)) {
    let mut memory = 0.0;
    for ((name, before), (_, after)) in before.iter().zip(after) {
        let used = (after.cpu_us - before.cpu_us) / requests;
        run.measure(format!("cpu_us_per_request/{name}"), used.max(f64::MIN_POSITIVE), "us");
        cpu += used;
        memory += after.memory_bytes;
    }
    run.measure("cpu_us_per_request", cpu.max(f64::MIN_POSITIVE), "us");
    if memory > 0.0 {
        run.measure("memory_bytes", memory, "bytes");
    }
}

/// What the driver measured, as a run's metrics.
fn record(run: &mut Run, summary: &Summary) -> Result<()> {
    run.latency(&microseconds(summary)?)?;
    run.measure("requests_per_second", summary.rates.completed, "1/s");
    let (total, first_byte, handshake) =
        (&summary.latency.total, &summary.latency.first_byte, &summary.latency.handshake);
    // Without TLS they say again what the latency says.
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

/// What was agreed to in TLS handshakes, in words; how often it was depends on the arm.
fn agreed(session: &TlsSession) -> String {
    let TlsSession { version, cipher_suite, key_exchange, alpn, certificate_sha256, .. } = session;
    format!("{version} {cipher_suite} {key_exchange} ALPN {alpn:?} certificate {certificate_sha256}")
}

/// The latency from the intended send time on, in microseconds.
fn microseconds(summary: &Summary) -> Result<hdrhistogram::Histogram<u64>> {
    let nanos = summary.latency.total.histogram();
    let micros = hdrhistogram::Histogram::new_with_bounds(1, 60_000_000, 3);
    let mut micros = micros.map_err(|error| Error::Histogram { reason: error.to_string() })?;
    for value in nanos.iter_recorded() {
        micros.saturating_record_n((value.value_iterated_to() / 1000).max(1), value.count_at_value());
    }
    Ok(micros)
}

/// The one ready pod of a workload.
pub(super) async fn ready(cluster: &Arc<Cluster>, side: Side, name: &str) -> Result<Workload> {
    let (namespace, selector) = (side.namespace(cluster)?, format!("app={name}"));
    let want = format!("a pod of {namespace}/{name} in {}", cluster.name());
    Ok(eventually(want, READY, async || {
        let pods = cluster.api::<Pod>(namespace).list(&ListParams::default().labels(&selector)).await;
        let pods = pods.map_err(cluster.failed(format!("list pods of {namespace}")))?.items;
        // One that is still going must be gone too: it would be answered by, and billed for, the same name.
        if !pods.iter().any(is_ready) || pods.len() != 1 {
            let names: Vec<String> = pods.iter().map(ResourceExt::name_any).collect();
            return Ok::<_, Error>(Seen::NotYet(format!("{} not ready", names.join(", "))));
        }
        Ok(Seen::Yes(Workload::find(cluster, namespace, &selector).await?))
    })
    .await?)
}
