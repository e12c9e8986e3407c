//! The seed's Table 2: batches of eight RSA signatures for TLS handshakes, at an ingress gateway with its own core.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::try_join;
use meshproof::compare::{
    Arms, Bench, Case, GATEWAY, GATEWAY_CREDENTIAL, GATEWAY_PORT, Load, Places, RunSpec, SERVER_NAMES, Side,
    gateway_arguments,
};
use meshproof::host::Host;
use meshproof::judge::{Arm, Run};
use meshproof::record::{Requirement, treatment};
use meshproof::report::Claim;
use meshproof::{Cluster, Error, Scope, Seen, Verdict, eventually};
use serde_json::json;

use super::treatment::MultibufferTls;
use super::{interleave, timed};

/// Both arms share one gateway, one listener and one certificate. The arms differ by the client's server name, which
/// selects the TLS implementation that terminates the connection. `more` are further arguments of the driver, in both
/// arms.
async fn compare(scope: &Scope, id: &str, more: &[&str]) -> Result<(), Error> {
    let (bench, module) = gateway(scope).await?;
    let case = Case::new(id, &Arms::same(bench)).with_load(|arm| Load::Driver(arguments(arm, more)));
    interleave(scope, vec![vec![case]], &module).await
}

/// The gateway, with client and server on its node.
async fn gateway(scope: &Scope) -> Result<(Bench, MultibufferTls), Error> {
    let cluster = Bench::first_cluster(&scope.testbed)?;
    gateway_at(scope, cluster, &Places::one_node(cluster).await?).await
}

/// The gateway, with client and server at `places`.
pub(crate) async fn gateway_at(
    scope: &Scope,
    cluster: &Arc<Cluster>,
    places: &Places,
) -> Result<(Bench, MultibufferTls), Error> {
    // Not declared, before anything is changed.
    if !scope.testbed.record.capabilities.has_treatment(treatment::PRIVATE_KEY_PROVIDER) {
        scope.requires([Requirement::Treatment(treatment::MULTIBUFFER_TLS)])?;
    }
    // Before the gateway has pods, and so until it has none: changes are reverted in reverse order.
    listen(scope, cluster).await?;
    let bench = Bench::start_gateway(scope, cluster, places).await?;
    let module = MultibufferTls::find(scope, bench.gateway().expect("it was started with one")).await?;
    Ok((bench, module))
}

/// Places the gateway's listener and its route to the echo server, until the test ends. `up` does not: `istioctl
/// analyze` reports an error for a listener whose gateway has no pods.
async fn listen(scope: &Scope, cluster: &Arc<Cluster>) -> Result<(), Error> {
    let (namespace, servers) = (Side::Meshed.namespace(cluster)?, Side::Naked.namespace(cluster)?);
    let metadata = json!({ "name": "echo", "namespace": namespace });
    let server = |name: &str, host: &str| {
        json!({
            "port": { "number": GATEWAY_PORT, "name": name, "protocol": "HTTPS" },
            "hosts": [host],
            "tls": { "mode": "SIMPLE", "credentialName": GATEWAY_CREDENTIAL },
        })
    };
    let [control, treatment] = SERVER_NAMES;
    let listener = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": metadata,
        "spec": {
            "selector": { "istio": GATEWAY },
            "servers": [server("https-control", control), server("https-treatment", treatment)],
        },
    });
    let host = format!("server.{servers}.svc.{}", cluster.record().domain);
    let route = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": metadata,
        "spec": {
            "hosts": SERVER_NAMES,
            "gateways": ["echo"],
            "http": [{
                "match": [{ "uri": { "prefix": "/echo" } }],
                "route": [{ "destination": { "host": host, "port": { "number": 8080 } } }],
            }],
        },
    });
    scope.place(cluster, listener).await?;
    scope.place(cluster, route).await
}

/// The server name of an arm.
fn server_name(arm: Arm) -> &'static str {
    let [control, treatment] = SERVER_NAMES;
    if arm == Arm::Control { control } else { treatment }
}

/// The driver's arguments in an arm, followed by `more`.
pub(crate) fn arguments(arm: Arm, more: &[&str]) -> Vec<String> {
    let mut arguments = gateway_arguments(server_name(arm));
    arguments.extend(more.iter().map(|&argument| argument.to_owned()));
    arguments
}

/// A new connection per request, like the seed's k6.
pub(crate) const NEW_CONNECTIONS: [&str; 2] = ["--reuse", "1"];

/// The p99 of new connections when all processor time is used.
///
/// Red if: the treatment takes the server name of the control (a receipt refuses it: no batch was signed).
async fn cryptomb_saturated() -> Verdict {
    timed("cryptomb_saturated", async |scope| compare(scope, "cryptomb_saturated/256", &NEW_CONNECTIONS).await).await
}

/// The processor time of new connections at a rate that both arms reach.
///
/// Red if: the treatment takes the server name of the control.
async fn cryptomb_cost() -> Verdict {
    timed("cryptomb_cost", async |scope| compare(scope, "cryptomb_cost", &NEW_CONNECTIONS).await).await
}

/// The p50 of new connections that are too few to fill a batch.
///
/// Red if: the treatment takes the server name of the control.
async fn cryptomb_low_rate() -> Verdict {
    timed("cryptomb_low_rate", async |scope| compare(scope, "cryptomb_low_rate", &NEW_CONNECTIONS).await).await
}

/// Measured like the seed, by k6.
///
/// Red if: the treatment takes the server name of the control.
async fn cryptomb_k6() -> Verdict {
    timed("cryptomb_k6", async |scope| {
        let (bench, module) = gateway(scope).await?;
        let bench = bench.with_k6(scope).await?;
        let load = |arm| Load::K6 { server_name: server_name(arm).to_owned() };
        let case = Case::new("cryptomb_k6", &Arms::same(bench)).with_load(load);
        interleave(scope, vec![vec![case]], &module).await
    })
    .await
}

/// Requests over kept connections, without handshakes.
///
/// Red if: each request has a new connection (a receipt refuses the run: it made 600 handshakes).
async fn cryptomb_keepalive_control_shows_no_effect() -> Verdict {
    timed("cryptomb_keepalive_control", async |scope| compare(scope, "cryptomb_keepalive_control", &[]).await).await
}

/// Two loads, one with persistent and one with new connections, run while the certificate is replaced and the listener
/// is changed.
///
/// Red if: the gateway's pod is removed meanwhile.
async fn cryptomb_changes_under_load_fail_no_request() -> Verdict {
    timed("cryptomb_changes", async |scope| {
        let (bench, module) = gateway(scope).await?;
        bench.answers(&arguments(Arm::Treatment, &[])).await?;
        let host = Host::this();
        let load = async |name: &str, more: &[&str]| {
            let common = ["--connections=8", "--rate=100", "--warmup=1s"];
            let arguments = arguments(Arm::Treatment, &[&common, more].concat());
            let comparison = format!("cryptomb_changes/{name}");
            let (host, arguments) = (&host, arguments.as_slice());
            let length = UNDER_CHANGES;
            bench
                .run(&RunSpec {
                    comparison: &comparison,
                    order: 1,
                    host,
                    length,
                    drain: Duration::ZERO,
                    arguments,
                    isolation: None,
                })
                .await
                .map_err(Error::from)
        };
        let changes = async {
            eventually("both loads under way", UNDER_WAY, async || {
                let done = module.batches().await?.handshakes;
                Ok::<_, Error>(if done >= 100 { Seen::Yes(()) } else { Seen::NotYet(format!("{done} handshakes")) })
            })
            .await?;
            module.replace_certificate().await?;
            module.change_listener(scope).await
        };
        let began = Instant::now();
        let changed = async { changes.await.map(|()| began.elapsed()) };
        let (kept, fresh, changed) = try_join!(load("kept", &[]), load("new", &NEW_CONNECTIONS), changed)?;
        for (id, run) in [("kept-connections", &kept), ("new-connections", &fresh)] {
            scope.claim(no_request_failed(id, run, changed));
        }
        scope.claim(certificate_replaced(&fresh));
        Ok(())
    })
    .await
}

/// Longest wait for a hundred handshakes, at a hundred per second, by a gateway that has just started.
const UNDER_WAY: Duration = Duration::from_secs(15);

/// Duration of the load during the changes.
const UNDER_CHANGES: Duration = Duration::from_secs(30);

/// Time for older connections to drain after the listener change: twice the gateway's drain time. The load must last at
/// least this long.
const DRAINED: Duration = Duration::from_secs(10);

fn no_request_failed(id: &str, run: &Run, changed: Duration) -> Claim {
    let lost = run.errors + run.dropped;
    let mut claim =
        Claim::about(format!("cryptomb_changes/{id}"), "no request is lost while certificate and listener change")
            .from("the load driver")
            .to(format!("{} at the gateway", SERVER_NAMES[1]))
            .expects("every request is answered")
            .observes(
                run,
                |run| format!("{lost} of {} requests failed or were not sent", run.requests),
                |run| lost == 0 && run.requests > 0,
            );
    claim = claim.with_evidence(format!("both changes were made {changed:.1?} into {:.1} s of load", run.duration));
    if changed.as_secs_f64() + DRAINED.as_secs_f64() > run.duration {
        claim = claim.with_fault("the load ended before older connections had to: it proves nothing of them");
    }
    claim
}

/// Claims that new connections saw both certificates: the certificate was replaced during the load.
fn certificate_replaced(run: &Run) -> Claim {
    Claim::about("cryptomb_changes/certificate", "a certificate that is replaced is used for new connections")
        .from("the load driver")
        .to(format!("{} at the gateway", SERVER_NAMES[1]))
        .expects("two certificates, one after the other")
        .observes(
            &run.tls,
            |seen| format!("{} kinds of session: {}", seen.len(), seen.join("; ")),
            |seen| seen.len() == 2,
        )
}

crate::trials! {
    cryptomb_saturated,
    cryptomb_cost,
    cryptomb_low_rate,
    cryptomb_k6,
    cryptomb_keepalive_control_shows_no_effect,
    cryptomb_changes_under_load_fail_no_request,
}
