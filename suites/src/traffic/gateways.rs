//! Gateways: server names, wildcards, certificates of clients, and new certificates.

use std::time::Duration;

use futures::future::try_join_all;
use meshproof::identity::{Minter, Validity};
use meshproof::judge::Share;
use meshproof::probe::{Dial, Exchange, Expected, alert};
use meshproof::record::{Requirement, Write};
use meshproof::report::Claim;
use meshproof::scope::claims;
use meshproof::{Error, Result, Scope, Verdict};

use super::arena::{REQUIRED, SUITE};
use super::edge::{EXACT, Edge, MUTUAL, Side, UNKNOWN, client_of, shows, wild};
use super::sent::{ERROR, all_answered, told};

/// Connections during the change of a certificate, one every [`EVERY_MS`].
const CONNECTIONS: u64 = 80;

/// Milliseconds between two of them. The last come eleven seconds after the change: istiod of a busy machine takes seconds.
const EVERY_MS: u64 = 150;

/// Requests that last longer than the change of the certificate.
const LONG: usize = 4;

/// How long they last, in milliseconds.
const LONG_MS: u64 = 4_000;

/// When the certificate is replaced.
const CHANGES: Duration = Duration::from_secs(1);

/// A gateway chooses certificate and routes by the server name, exact or with a wildcard, and leads to servers in every
/// cluster. A name that it does not have is refused, and so is a host under the name of another. Where clients must have a
/// certificate, none, a stranger's and an expired one are refused. A certificate that is replaced is shown to new
/// connections, and no connection is lost.
///
/// Red if (each tried): two certificates are exchanged; mutual TLS is simple TLS; the certificate is not replaced; the
/// gateway's pod is deleted when it is.
async fn gateways_choose_by_name_and_keep_connections() -> Verdict {
    Scope::run(SUITE, "gateways_choose_by_name_and_keep_connections", async |scope| {
        scope.requires(REQUIRED)?;
        // The gateway's role needs more than what `attach` permits.
        scope.requires([Requirement::Write(Write::Objects)])?;
        let edge = Edge::make(scope).await?;
        let judging = edge.sides.iter().map(async |side| {
            let mut claims = names(&edge, side).await?;
            claims.extend(clients(&edge, side).await?);
            claims.extend(rotation(scope, &edge, side).await?);
            let kubectl = side.cluster.command("kubectl");
            let show = format!("{kubectl} -n {} get gateways,virtualservices -o yaml", edge.namespace);
            claims.into_iter().for_each(|claim| scope.claim(claim.with_commands(vec![show.clone()])));
            Ok::<_, Error>(())
        });
        try_join_all(judging).await.map(drop)
    })
    .await
}

async fn names(edge: &Edge, side: &Side) -> Result<Vec<Claim>> {
    let mut dials = vec![side.dial("exact", EXACT, EXACT, None)];
    dials.extend(edge.sides.iter().map(|owner| {
        let name = wild(owner.index);
        side.dial(&format!("wildcard-to-{}", owner.cluster.name()), &name, &name, None)
    }));
    dials.push(side.dial("unknown", UNKNOWN, EXACT, None));
    dials.push(side.dial("other-host", EXACT, &wild(side.index), None));
    let mut seen = side.client.dial(dials).await?;
    let (other_host, unknown) = (seen.pop(), seen.pop());
    let (Some(other_host), Some(unknown), Some(exact)) = (other_host, unknown, seen.first()) else {
        return Err(Error::suite("a dial has no report"));
    };
    let owed = "a gateway chooses certificate and route by the server name";
    let servers = std::iter::once(&side.server).chain(edge.sides.iter().map(|owner| &owner.server));
    let shown = |index: usize| if index == 0 { &edge.certificates.exact } else { &edge.certificates.wild };
    let mut claims: Vec<Claim> = seen
        .iter()
        .zip(servers)
        .enumerate()
        .map(|(index, (exchange, server))| {
            let claim = claims::answered(&format!("{SUITE}/gateway-name"), owed, exchange, server);
            match shows(exchange, shown(index)) {
                true => claim.with_evidence("the gateway shows the certificate of this name"),
                false => claim.with_fault("the gateway does not show the certificate of this name"),
            }
        })
        .collect();
    let (id, owed) = (format!("{SUITE}/gateway-name"), "a gateway refuses a name that it does not have");
    let how = Expected::EndedBeforeTls;
    claims.push(claims::denied(&id, owed, &unknown, how, exact, Some(&side.server)));
    let owed = "a gateway has no route to a host under the name of another";
    claims.push(claims::denied(&id, owed, &other_host, Expected::Http(404), exact, Some(&side.server)));
    Ok(claims)
}

async fn clients(edge: &Edge, side: &Side) -> Result<Vec<Claim>> {
    let good = edge.certificates.client()?;
    let stranger = client_of(&Minter::authority("strangers")?, Validity::Now)?;
    let expired = client_of(&edge.certificates.clients, Validity::Expired)?;
    let cases = [
        ("none", None, Expected::Alert(alert::NO_CERTIFICATE)),
        ("stranger", Some(&stranger), Expected::Alert(alert::UNKNOWN_AUTHORITY)),
        ("expired", Some(&expired), Expected::Alert(alert::EXPIRED)),
    ];
    let dials = cases.iter().map(|(name, certificate, _)| side.dial(name, MUTUAL, MUTUAL, *certificate));
    let control = side.dial("good", MUTUAL, MUTUAL, Some(&good));
    let mut seen = side.client.dial(dials.chain([control]).collect()).await?;
    let control = seen.pop().ok_or_else(|| Error::suite("the control has no report"))?;
    let id = format!("{SUITE}/gateway-client");
    let owed = "a gateway takes clients with a certificate of the right authority";
    let mut claims = vec![claims::answered(&id, owed, &control, &side.server)];
    let owed = "a gateway that demands certificates refuses other clients";
    claims.extend(
        cases
            .iter()
            .zip(&seen)
            .map(|((_, _, how), exchange)| claims::denied(&id, owed, exchange, *how, &control, Some(&side.server))),
    );
    Ok(claims)
}

async fn rotation(scope: &Scope, edge: &Edge, side: &Side) -> Result<Vec<Claim>> {
    let (old, new) = (&edge.certificates.exact, edge.certificates.authority.server(&[EXACT])?);
    let long = |_| Dial { path: Some(format!("/delay/{LONG_MS}")), ..side.dial("long", EXACT, EXACT, None) };
    let short = |index| Dial { not_before_ms: Some(index * EVERY_MS), ..side.dial("short", EXACT, EXACT, None) };
    let dials = (0..LONG).map(long).chain((0..CONNECTIONS).map(short)).collect();
    let replacing = async {
        #[allow(clippy::disallowed_methods, reason = "the certificate is to change amid the connections")]
        tokio::time::sleep(CHANGES).await;
        side.replace(scope, &edge.namespace, &new).await
    };
    let dialling = async { Ok::<_, Error>(side.client.dial(dials).await?) };
    let (seen, ()) = futures::try_join!(dialling, replacing)?;
    let (long, short) = seen.split_at(LONG);
    let count = |of: &[Exchange], certificate| of.iter().filter(|exchange| shows(exchange, certificate)).count();
    let claim = |id: &str, requirement: &str, expected: &str, share: Share| {
        Claim::about(format!("{SUITE}/gateway-rotation/{id}/{}", side.cluster.name()), requirement)
            .from(&side.client)
            .to(&side.gateway)
            .expects(expected)
            .observes(&share, told, |share| share.fits(1.0, ERROR))
    };
    let owed = "a request that is under way outlives the change of the certificate";
    let kept = Share::of(long, |exchange| exchange.outcome().is_answered() && shows(exchange, old));
    let kept = claim("kept", owed, "all answered, under the old certificate", kept);
    let owed = "new connections get the new certificate, and none is refused meanwhile";
    let known = Share::of(short, |exchange| shows(exchange, old) || shows(exchange, &new));
    let fresh = claim("fresh", owed, "all answered, the first under the old and the last under the new one", known);
    let fresh = fresh.with_evidence(format!(
        "{} saw the old certificate, {} the new one",
        count(short, old),
        count(short, &new)
    ));
    let begins = short.first().is_some_and(|exchange| shows(exchange, old));
    let ends = short.last().is_some_and(|exchange| shows(exchange, &new));
    let faults = [
        (!begins).then_some("the first did not see the old certificate"),
        (!ends).then_some("the last did not see the new certificate"),
    ];
    let fresh = faults.into_iter().flatten().fold(fresh, Claim::with_fault);
    Ok(vec![all_answered(kept, long, &side.server), all_answered(fresh, short, &side.server)])
}

crate::trials! {
    gateways_choose_by_name_and_keep_connections,
}
