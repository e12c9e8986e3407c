//! Agents renew their leaves while connections live.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::try_join_all;
use meshproof::cluster::Pair;
use meshproof::identity::Certificate;
use meshproof::istio::{await_service_of, both_ends, secrets};
use meshproof::probe::{Dial, Exchange, Protocol, Request, Vantage, dial, nonce};
use meshproof::record::{Requirement, Write};
use meshproof::report::Claim;
use meshproof::scope::CopiedProbe;
use meshproof::scope::claims::{self, Peers};
use meshproof::suites::Newcomer;
use meshproof::{Cluster, Error, Scope, Verdict, Workload};
use serde_json::json;

use super::SUITE;

/// How long the connection is held, in milliseconds: longer than an agent waits until it renews a leaf of
/// [`renewing`], and shorter than a probe waits for a line (30 s).
pub(super) const HELD_MS: u64 = 8_500;

/// Pause between calls, in milliseconds.
const PAUSE_MS: u64 = 500;

/// Leaves that last 40 s and are renewed after 6 s: the agent renews when 85 % of the lifetime are left.
pub(super) fn renewing(copy: &mut CopiedProbe) {
    let metadata = json!({
        "SECRET_TTL": "40s", "SECRET_GRACE_PERIOD_RATIO": "0.85", "SECRET_GRACE_PERIOD_RATIO_JITTER": "0",
    });
    let config = json!({ "proxyMetadata": metadata }).to_string();
    copy.deployment["spec"]["template"]["metadata"]["annotations"]["proxy.istio.io/config"] = config.into();
}

/// A connection between clusters is held while both ends renew their leaves, and calls go on meanwhile. A line on the
/// held connection is answered, no call is lost, and new connections show the new leaves.
///
/// Red if a mesh closes connections at a renewal (tried: a `DestinationRule` for all services whose
/// `maxConnectionDuration` is 5 s), or if agents do not renew.
async fn connections_outlive_the_renewal_of_leaves() -> Verdict {
    Scope::run(SUITE, "connections_outlive_the_renewal_of_leaves", async |scope| {
        scope.requires([Requirement::Probes, Requirement::AccessLog, Requirement::Write(Write::Namespaces)])?;
        let create = |cluster: &Arc<Cluster>| {
            let (cluster, purpose) = (Arc::clone(cluster), format!("renewing-in-{}", cluster.name()));
            async move {
                Ok::<_, Error>((
                    cluster.name().to_owned(),
                    Newcomer::create_with(scope, &cluster, &purpose, renewing).await?,
                ))
            }
        };
        let created: BTreeMap<String, Newcomer> =
            try_join_all(scope.testbed.clusters.iter().map(create)).await?.into_iter().collect();
        let pairs = scope.testbed.pairs().into_iter();
        let between: Vec<Pair> = pairs.filter(|pair| pair.crosses() || scope.testbed.clusters.len() == 1).collect();
        let judge =
            async |pair: Pair| renewed(scope, &pair, &created[pair.from.name()], &created[pair.to.name()]).await;
        scope.for_each(between, Pair::to_string, judge).await;
        Ok(())
    })
    .await
}

/// The leaves of the two ends of a call.
#[derive(Debug, PartialEq, Eq)]
struct Leaves {
    source: Certificate,
    destination: Certificate,
}

impl Leaves {
    async fn of(source: &Workload, destination: &Workload) -> Result<Self, Error> {
        let (at_source, at_destination) = futures::try_join!(secrets(source), secrets(destination))?;
        let leaf = |chain: &[Certificate], of: &Workload| {
            chain.first().cloned().ok_or_else(|| Error::suite(format!("the proxy of {of} has no certificate")))
        };
        Ok(Self { source: leaf(&at_source.chain, source)?, destination: leaf(&at_destination.chain, destination)? })
    }
}

async fn renewed(scope: &Scope, pair: &Pair, from: &Newcomer, to: &Newcomer) -> Result<(), Error> {
    let (source, destination) = (&from.destination, &to.destination);
    for protocol in [Protocol::Tcp, Protocol::Http1] {
        await_service_of(source, destination, &to.host, to.port(protocol)?).await?;
    }
    let before = Leaves::of(source, destination).await?;
    let vantage = Vantage::Meshed(source.clone());
    let (held, calls) = (vantage.dial(vec![held(pair, to)?]), vantage.dial(calls(pair, to)?));
    let (held, calls) = futures::try_join!(held, calls)?;
    let after = Leaves::of(source, destination).await?;
    scope.claim(renewal(pair, &before, &after));
    scope.claim(answered_late("renewal", pair, &held[0], destination));
    calls.iter().for_each(|call| {
        scope.claim(claims::answered("renewal", "no call is lost while leaves are renewed", call, destination));
    });
    let fresh =
        vantage.dial(vec![dial(format!("new/{pair}"), Protocol::Tcp, &to.host, to.port(Protocol::Tcp)?)]).await?;
    let ends = both_ends(&fresh, source, destination).await?;
    let mut claim =
        claims::mutual_tls("renewal", &fresh[0], ends[0].as_ref(), Peers { source, destination }, &scope.testbed.trust);
    if let Some(ends) = &ends[0] {
        let seen = [
            ("source", ends.source.peer_certificate("upstream"), &before.destination),
            ("destination", ends.destination.peer_certificate("downstream"), &before.source),
        ];
        for (end, seen, old) in seen {
            claim = match seen {
                Ok(seen) if seen == *old => claim.with_fault(format!("the {end} still sees the other end's old leaf")),
                Ok(_) => claim.with_evidence(format!("the {end} sees the other end's new leaf")),
                Err(reason) => claim.with_fault(format!("what the {end} sees is unknown: {reason}")),
            };
        }
    }
    scope.claim(claim);
    Ok(())
}

/// A connection over which a line is sent only at the end.
pub(super) fn held(pair: &Pair, to: &Newcomer) -> Result<Dial, Error> {
    let bytes = format!("{}\n", nonce()).into_bytes();
    let request = Request::Bytes { bytes, quiet_ms: HELD_MS, listen_ms: 5_000 };
    let through = dial(format!("held/{pair}"), Protocol::Bytes, &to.host, to.port(Protocol::Tcp)?);
    Ok(Dial { request: Some(request), timeout_ms: HELD_MS + 8_000, ..through })
}

/// Calls during the time for which the connection is held.
pub(super) fn calls(pair: &Pair, to: &Newcomer) -> Result<Vec<Dial>, Error> {
    let call = |at: u64| {
        let protocol = if at.is_multiple_of(2) { Protocol::Http1 } else { Protocol::Tcp };
        let call = dial(format!("{protocol}-{at}/{pair}"), protocol, &to.host, to.port(protocol)?);
        Ok(Dial { not_before_ms: Some(at * PAUSE_MS), ..call })
    };
    (0..HELD_MS / PAUSE_MS).map(call).collect()
}

/// The claim that both leaves were renewed: without that, nothing else is judged.
fn renewal(pair: &Pair, before: &Leaves, after: &Leaves) -> Claim {
    let renewed = |old: &Certificate, new: &Certificate| if old == new { "the old leaf" } else { "a new leaf" };
    Claim::about(format!("renewal/leaves/{pair}"), "agents renew their leaves in time")
        .expects("a new leaf at the source, a new leaf at the destination")
        .observes(
            &(before, after),
            |(before, after)| {
                format!(
                    "{} at the source, {} at the destination",
                    renewed(&before.source, &after.source),
                    renewed(&before.destination, &after.destination)
                )
            },
            |(before, after)| before.source != after.source && before.destination != after.destination,
        )
}

/// The claim that the held connection was still there at the end. `id` begins its id.
pub(super) fn answered_late(id: &str, pair: &Pair, held: &Exchange, destination: &Workload) -> Claim {
    let words = |exchange: &Exchange| {
        let received = exchange.report.received.as_ref();
        let start = received.map(|received| String::from_utf8_lossy(&received.start).into_owned());
        format!("{}{}", exchange.outcome(), start.map(|start| format!(": {start}…")).unwrap_or_default())
    };
    Claim::about(format!("{id}/held/{pair}"), "a connection stays open while certificates are renewed")
        .from(&held.vantage)
        .to(destination)
        .expects(format!("a line is answered by {} after {HELD_MS} ms of silence", destination.cluster.name()))
        .observes(held, words, |exchange| {
            let by = format!("{{\"cluster\":\"{}\"", destination.cluster.name());
            let received = exchange.report.received.as_ref();
            received.is_some_and(|received| !received.unasked && received.start.starts_with(by.as_bytes()))
        })
}

crate::trials! {
    connections_outlive_the_renewal_of_leaves,
}
