//! The authority of a cluster is renewed as fleets do it: a new intermediate of the same root goes into the Secret `cacerts`
//! of a running istiod.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use meshproof::cluster::Pair;
use meshproof::identity::{Certificate, Trust};
use meshproof::istio::{both_ends, secrets};
use meshproof::probe::{Exchange, Protocol, Vantage, dial};
use meshproof::record::{Issuer, Record, Requirement, Write};
use meshproof::report::Claim;
use meshproof::scope::claims::{self, Peers};
use meshproof::suites::{Newcomer, PluggedIn};
use meshproof::{Cluster, Error, Scope, Seen, Verdict, Workload, eventually};

use super::SUITE;
use super::leaf::{HELD_MS, answered_late, calls, held, renewing};

/// Longest wait for an agent to renew a leaf of [`renewing`].
const RENEWED: Duration = Duration::from_secs(20);

/// The workloads of the test. Each has the leaf that its own istiod gave it.
struct Parties<'a> {
    scope: &'a Scope,
    /// In the cluster whose authority is renewed. Its agent renews its leaf every few seconds.
    home: &'a Newcomer,
    /// In the other clusters.
    peers: &'a [Newcomer],
}

impl Parties<'_> {
    /// Calls from `home` to each peer, and back.
    fn routes(&self) -> Vec<Route<'_>> {
        let there = self.peers.iter().map(|peer| Route { from: self.home, to: peer });
        let back = self.peers.iter().map(|peer| Route { from: peer, to: self.home });
        there.chain(back).collect()
    }

    /// Claims that a new connection on each route is answered, and that each end saw a certificate of the authority that
    /// the other's cluster has according to `trust`.
    async fn judge(&self, stage: &str, trust: &Trust) -> Result<(), Error> {
        let judging = self.routes().into_iter().map(async |route| {
            let (source, destination) = (&route.from.destination, &route.to.destination);
            let exchanges = [route.call(stage).await?];
            let ends = both_ends(&exchanges, source, destination).await?;
            let between = Peers { source, destination };
            self.scope.claim(claims::mutual_tls("plugged-in", &exchanges[0], ends[0].as_ref(), between, trust));
            Ok::<_, Error>(())
        });
        try_join_all(judging).await.map(drop)
    }
}

/// A way from one workload to another.
#[derive(Clone, Copy)]
struct Route<'a> {
    from: &'a Newcomer,
    to: &'a Newcomer,
}

impl Route<'_> {
    fn pair(&self) -> Pair {
        let cluster = |of: &Newcomer| Arc::clone(&of.destination.cluster);
        Pair { from: cluster(self.from), to: cluster(self.to) }
    }

    /// A new connection. TCP: a proxy makes a connection of its own for each.
    async fn call(&self, stage: &str) -> Result<Exchange, Error> {
        let call = dial(format!("{stage}/{}", self.pair()), Protocol::Tcp, &self.to.host, self.to.port(Protocol::Tcp)?);
        // `dial` returns a report for each dial, or fails.
        Ok(Vantage::Meshed(self.from.destination.clone()).dial(vec![call]).await?.remove(0))
    }

    /// A held connection and calls beside it, for [`HELD_MS`].
    async fn meanwhile(&self) -> Result<Vec<Exchange>, Error> {
        let pair = self.pair();
        let dials = std::iter::once(held(&pair, self.to)?).chain(calls(&pair, self.to)?).collect();
        Ok(Vantage::Meshed(self.from.destination.clone()).dial(dials).await?)
    }
}

/// What the mesh trusts while `authority` signs in `cluster`.
fn trust_while(record: &Record, cluster: &Cluster, authority: &PluggedIn) -> Result<Trust, Error> {
    let mut record = record.clone();
    for one in record.clusters.iter_mut().filter(|one| one.name == cluster.name()) {
        one.issuers = vec![Issuer { certificates: authority.issuers().to_vec(), key: None, parent_key: None }];
    }
    Ok(Trust::of(&record)?)
}

/// Waits until the leaf of `workload` is one of `authority`.
async fn certified_by(workload: &Workload, authority: &Certificate) -> Result<(), Error> {
    let want = format!("the proxy of {workload} to have a leaf of the authority that signs now");
    let certified = eventually(want, RENEWED, async || {
        let chain = secrets(workload).await?.chain;
        let is_so = chain.get(1) == Some(authority);
        Ok::<_, Error>(if is_so { Seen::Yes(()) } else { Seen::NotYet("a leaf of another authority".into()) })
    });
    Ok(certified.await?)
}

/// istiod signs with the new authority without a restart. Open connections live on and no call is lost while it begins to,
/// agents renew their leaves by it, new workloads get leaves of it, and workloads of all clusters accept each other. Then
/// the same back to the former authority, and the Secret is what it was, byte for byte.
///
/// Seen red by: a `DestinationRule` for all services whose `maxConnectionDuration` is 5 s (the held connection); a revert
/// that leaves a key behind. A killed run is put right by the next one.
async fn an_authority_is_renewed_in_a_running_istiod() -> Verdict {
    Scope::alone(SUITE, "an_authority_is_renewed_in_a_running_istiod", async |scope| {
        scope.requires([
            Requirement::Probes,
            Requirement::AccessLog,
            Requirement::Clusters(2),
            Requirement::ParentKeys,
            Requirement::Write(Write::Namespaces),
            Requirement::Write(Write::Objects),
        ])?;
        let (cluster, others) = (&scope.testbed.clusters[0], &scope.testbed.clusters[1..]);
        let renewal = PluggedIn::renewed(&scope.testbed, cluster).await?;
        let creating = others.iter().map(|other| create(scope, other, "peer"));
        let homely = Newcomer::create_with(scope, cluster, "renewing-home", renewing);
        let (home, peers) = futures::try_join!(homely, try_join_all(creating))?;
        let parties = Parties { scope, home: &home, peers: &peers };
        let waiting = parties.routes().into_iter().flat_map(|route| [(route, Protocol::Tcp), (route, Protocol::Http1)]);
        try_join_all(waiting.map(async |(Route { from, to }, protocol)| {
            to.await_known(&from.destination, to.port(protocol)?).await?;
            Ok::<_, Error>(())
        }))
        .await?;
        parties.judge("former", &scope.testbed.trust).await?;
        renew(&parties, cluster, renewal).await
    })
    .await
}

async fn create(scope: &Scope, cluster: &Arc<Cluster>, purpose: &str) -> Result<Newcomer, Error> {
    Newcomer::create(scope, cluster, &format!("{purpose}-in-{}", cluster.name())).await
}

/// Renews the authority of `cluster`, judges, and puts the former one back.
async fn renew(parties: &Parties<'_>, cluster: &Arc<Cluster>, renewal: PluggedIn) -> Result<(), Error> {
    let Parties { scope, home, .. } = parties;
    let trust = trust_while(&scope.testbed.record, cluster, &renewal)?;
    let (authority, former) = (renewal.authority().clone(), renewal.former().clone());
    let before = PluggedIn::data(cluster).await?;
    let routes = parties.routes();
    let began = Instant::now();
    let signing = async {
        let injected = scope.inject(renewal).await?;
        Ok::<_, Error>((injected, began.elapsed()))
    };
    let meanwhile = try_join_all(routes.iter().map(|route| route.meanwhile()));
    let ((injected, after), seen) = futures::try_join!(signing, meanwhile)?;
    scope.claim(in_time(cluster, after));
    for (route, exchanges) in routes.iter().zip(&seen) {
        let (held, calls) = (&exchanges[0], &exchanges[1..]);
        scope.claim(answered_late("plugged-in", &route.pair(), held, &route.to.destination));
        for call in calls {
            let owed = "no call is lost while an authority is renewed";
            scope.claim(claims::answered("plugged-in", owed, call, &route.to.destination));
        }
    }
    certified_by(&home.destination, &authority).await?;
    parties.judge("renewed", &trust).await?;
    let created = create(scope, cluster, "created").await?;
    scope.claim(issued(&created.destination, &authority).await?);
    let newer = Parties { home: &created, ..*parties };
    for Route { from, to } in newer.routes() {
        to.await_known(&from.destination, to.port(Protocol::Tcp)?).await?;
    }
    newer.judge("created", &trust).await?;
    scope.revert(injected).await?;
    certified_by(&home.destination, &former).await?;
    parties.judge("back", &scope.testbed.trust).await?;
    // A value of a Secret is not for a report.
    let is_same = PluggedIn::data(cluster).await? == before;
    let id = format!("plugged-in/secret/{}", cluster.name());
    scope.claim(Claim::about(id, "the Secret is put back byte for byte").equals(&true, &is_same));
    Ok(())
}

/// The claim that istiod signed with the new authority while connections were held: without that, nothing is said of them.
fn in_time(cluster: &Cluster, after: Duration) -> Claim {
    let id = format!("plugged-in/signs/{}", cluster.name());
    Claim::about(id, "istiod signs with a new intermediate without a restart")
        .expects(format!("within the {HELD_MS} ms for which connections are held"))
        .observes(
            &after,
            |after| format!("after {:.1} s", after.as_secs_f64()),
            |after| *after < Duration::from_millis(HELD_MS),
        )
}

/// The claim that a new workload's leaf is one of `authority`.
async fn issued(workload: &Workload, authority: &Certificate) -> Result<Claim, Error> {
    let chain = secrets(workload).await?.chain;
    let id = format!("plugged-in/issued/{}", workload.cluster.name());
    Ok(Claim::about(id, "a new workload has a leaf of the new authority")
        .to(workload)
        .expects("the new authority")
        .observes(
            &chain.get(1),
            |signer| if *signer == Some(authority) { "the new authority" } else { "another authority" }.to_owned(),
            |signer| *signer == Some(authority),
        ))
}

crate::trials! {
    an_authority_is_renewed_in_a_running_istiod,
}
