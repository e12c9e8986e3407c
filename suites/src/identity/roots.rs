//! Intermediates and roots are replaced in all clusters, one cluster after the other. The authorities are the test's own,
//! and so are the workloads: their proxies trust the roots that the test gives them. The way between the clusters, with
//! its gateways, is the mesh's.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::try_join_all;
use meshproof::cluster::Pair;
use meshproof::identity::{Certificate, ClusterIssuers, Minter, SpiffeId, Trust, Validity};
use meshproof::istio::{both_ends, outbound};
use meshproof::probe::{Exchange, Expected, Protocol, Vantage, dial};
use meshproof::record::{Requirement, Write};
use meshproof::scope::claims::{self, Peers};
use meshproof::scope::copied_probe;
use meshproof::suites::{Credentials, Newcomer, ProxyImage, certify, identity_of};
use meshproof::{Cluster, Error, Scope, Verdict};

use super::SUITE;

/// A root with an intermediate for each cluster.
struct Authority {
    root: Minter,
    issuing: BTreeMap<String, Minter>,
}

impl Authority {
    fn new(name: &str, clusters: &[Arc<Cluster>]) -> Result<Self, Error> {
        let root = Minter::authority(&format!("{name} root"))?;
        let issuing = Self::intermediates(&root, name, clusters)?;
        Ok(Self { root, issuing })
    }

    /// New intermediates below the same root.
    fn intermediates(root: &Minter, name: &str, clusters: &[Arc<Cluster>]) -> Result<BTreeMap<String, Minter>, Error> {
        let of = |cluster: &Arc<Cluster>| {
            Ok((cluster.name().to_owned(), root.intermediate(&format!("{name} of {}", cluster.name()))?))
        };
        clusters.iter().map(of).collect()
    }

    fn issuing(&self, cluster: &str) -> Result<&Minter, Error> {
        self.issuing.get(cluster).ok_or_else(|| Error::suite(format!("no intermediate of {cluster}")))
    }
}

/// What a cluster's workload has: who signs its leaf, and whom it trusts.
#[derive(Clone)]
struct Held<'a> {
    signer: &'a Minter,
    roots: String,
}

/// A workload in each cluster, and what it holds now.
struct Parties<'a> {
    scope: &'a Scope,
    created: BTreeMap<String, Newcomer>,
    ids: BTreeMap<String, SpiffeId>,
    held: BTreeMap<String, Held<'a>>,
}

impl<'a> Parties<'a> {
    /// Deploys the workloads with what they hold at first.
    async fn create(scope: &'a Scope, held: BTreeMap<String, Held<'a>>) -> Result<Self, Error> {
        let creating = scope.testbed.clusters.iter().map(async |cluster| {
            let (name, image) = (cluster.name().to_owned(), ProxyImage::of(cluster).await?);
            let purpose = format!("certified-in-{name}");
            let namespace = scope.injected_namespace(cluster, &purpose).await?;
            let id = identity_of(&copied_probe(cluster, &namespace).await?, scope.testbed.trust.domain());
            let Held { signer, roots } = &held[&name];
            let first = Credentials::new(signer.mint(&id, Validity::Now)?, roots);
            let created = Newcomer::create_with(scope, cluster, &purpose, |copy| certify(copy, &image, &first)).await?;
            first.used_by(&created.destination).await?;
            Ok::<_, Error>((name, created, id))
        });
        let (mut created, mut ids) = (BTreeMap::new(), BTreeMap::new());
        for (name, newcomer, id) in try_join_all(creating).await? {
            created.insert(name.clone(), newcomer);
            ids.insert(name, id);
        }
        let parties = Self { scope, created, ids, held };
        for pair in parties.pairs() {
            let (from, to) = parties.ends(&pair);
            to.await_known(&from.destination, to.port(Protocol::Tcp)?).await?;
        }
        Ok(parties)
    }

    /// Pairs of different clusters.
    fn pairs(&self) -> Vec<Pair> {
        self.scope.testbed.pairs().into_iter().filter(Pair::crosses).collect()
    }

    fn ends(&self, pair: &Pair) -> (&Newcomer, &Newcomer) {
        (&self.created[pair.from.name()], &self.created[pair.to.name()])
    }

    /// Gives the workload of a cluster a new leaf by this signer, and these roots.
    async fn give(&mut self, cluster: &str, signer: &'a Minter, roots: &str) -> Result<(), Error> {
        let leaf = signer.mint(&self.ids[cluster], Validity::Now)?;
        Credentials::new(leaf, roots).replace(&self.created[cluster].destination).await?;
        self.held.insert(cluster.to_owned(), Held { signer, roots: roots.into() });
        Ok(())
    }

    /// What a judge trusts now: of each cluster, only what signs its leaf.
    fn trust(&self) -> Result<Trust, Error> {
        let mut roots: Vec<Certificate> = Vec::new();
        for held in self.held.values() {
            let more = Certificate::all_from_pem("the roots", &held.roots)?;
            let new: Vec<Certificate> = more.into_iter().filter(|root| !roots.contains(root)).collect();
            roots.extend(new);
        }
        let issuers = self.held.iter().map(|(cluster, held)| {
            let signer = Certificate::from_pem("an intermediate", held.signer.certificate_pem())?;
            Ok(ClusterIssuers { cluster: cluster.clone(), chains: vec![vec![signer]] })
        });
        let issuers = issuers.collect::<Result<_, Error>>()?;
        Ok(Trust::new(self.scope.testbed.trust.domain().to_owned(), Vec::new(), roots, issuers)?)
    }

    /// A new connection between clusters. TCP: a proxy makes a connection of its own for each.
    async fn call(&self, stage: &str, pair: &Pair) -> Result<Exchange, Error> {
        let (from, to) = self.ends(pair);
        let call = dial(format!("{stage}/{pair}"), Protocol::Tcp, &to.host, to.port(Protocol::Tcp)?);
        // `dial` returns a report for each dial, or fails.
        Ok(Vantage::Meshed(from.destination.clone()).dial(vec![call]).await?.remove(0))
    }

    /// Claims that calls in all directions are answered, and by which authority each end was certified.
    async fn judge(&self, stage: &str) -> Result<(), Error> {
        let trust = self.trust()?;
        let judging = self.pairs().into_iter().map(async |pair| {
            let (from, to) = self.ends(&pair);
            let (source, destination) = (&from.destination, &to.destination);
            let exchanges = [self.call(stage, &pair).await?];
            let ends = both_ends(&exchanges, source, destination).await?;
            let between = Peers { source, destination };
            self.scope.claim(claims::mutual_tls("replaced", &exchanges[0], ends[0].as_ref(), between, &trust));
            Ok::<_, Error>(())
        });
        try_join_all(judging).await.map(drop)
    }
}

/// What is replaced.
#[derive(Debug, Clone, Copy)]
enum Replaced {
    Intermediate,
    Root,
}

/// Cluster by cluster, new authorities are trusted, then sign, then the old ones are trusted no more. In every state in
/// between, each end of a new connection is certified by the authority that its cluster has now.
///
/// Red if a state is left out: without the one in which both roots are trusted, calls fail, as
/// [`a_root_that_is_replaced_without_overlap_ends_calls`] says.
async fn calls_go_on_while_authorities_are_replaced(replaced: Replaced) -> Verdict {
    let test = format!("calls_go_on_while_authorities_are_replaced_{replaced:?}");
    Scope::run(SUITE, test, async |scope| {
        requires(scope)?;
        let clusters = &scope.testbed.clusters;
        let old = Authority::new("old", clusters)?;
        let new = match replaced {
            Replaced::Intermediate => None,
            Replaced::Root => Some(Authority::new("new", clusters)?),
        };
        let again = Authority::intermediates(&old.root, "newer", clusters)?;
        let before = old.root.chain_pem().to_owned();
        let after = new.as_ref().map_or_else(|| before.clone(), |new| new.root.chain_pem().to_owned());
        let both = if before == after { before.clone() } else { format!("{before}{after}") };
        let mut held = BTreeMap::new();
        for cluster in clusters {
            held.insert(
                cluster.name().to_owned(),
                Held { signer: old.issuing(cluster.name())?, roots: before.clone() },
            );
        }
        let mut parties = Parties::create(scope, held).await?;
        parties.judge("before").await?;
        for (step, roots) in [("trusted", &both), ("signing", &both), ("alone", &after)] {
            if before == after && step != "signing" {
                continue;
            }
            for cluster in clusters {
                let name = cluster.name();
                let signer = match (step, &new) {
                    ("trusted", _) => old.issuing(name)?,
                    (_, Some(new)) => new.issuing(name)?,
                    (_, None) => &again[name],
                };
                parties.give(name, signer, roots).await?;
                parties.judge(&format!("{step}-in-{name}")).await?;
            }
        }
        Ok(())
    })
    .await
}

/// The red control of the overlap: one cluster goes to a new root at once. Calls between the clusters fail in both
/// directions, with TLS as the reason, until the other cluster follows.
///
/// Red if proxies accept a root that they were not given.
async fn a_root_that_is_replaced_without_overlap_ends_calls() -> Verdict {
    Scope::run(SUITE, "a_root_that_is_replaced_without_overlap_ends_calls", async |scope| {
        requires(scope)?;
        let clusters = &scope.testbed.clusters;
        let (old, new) = (Authority::new("old", clusters)?, Authority::new("new", clusters)?);
        let mut held = BTreeMap::new();
        for cluster in clusters {
            let roots = old.root.chain_pem().to_owned();
            held.insert(cluster.name().to_owned(), Held { signer: old.issuing(cluster.name())?, roots });
        }
        let mut parties = Parties::create(scope, held).await?;
        parties.judge("before").await?;
        let first = clusters[0].name();
        let of_first = |pair: &Pair| pair.from.name() == first || pair.to.name() == first;
        let mut controls = Vec::new();
        for pair in parties.pairs().into_iter().filter(of_first) {
            controls.push((parties.call("control", &pair).await?, pair));
        }
        parties.give(first, new.issuing(first)?, new.root.chain_pem()).await?;
        for (control, pair) in &controls {
            ended(&parties, control, pair).await?;
        }
        for cluster in &clusters[1..] {
            parties.give(cluster.name(), new.issuing(cluster.name())?, new.root.chain_pem()).await?;
        }
        parties.judge("followed").await
    })
    .await
}

/// Claims that a call fails, and that the caller's own proxy names TLS as the reason.
async fn ended(parties: &Parties<'_>, control: &Exchange, pair: &Pair) -> Result<(), Error> {
    let (from, to) = parties.ends(pair);
    let refused = [parties.call("no-overlap", pair).await?];
    let told = outbound(&refused, &from.destination).await?;
    let owed = "a root is trusted only where it was given";
    let how = Expected::EndedBeforeAnswer;
    let claim = claims::denied("replaced", owed, &refused[0], how, control, Some(&to.destination));
    let reason = told[0].as_ref().and_then(|entry| entry.get("upstream_transport_failure_reason"));
    parties.scope.claim(match reason {
        Some(reason) if reason.contains("TLS") => claim.with_evidence(format!("the caller's proxy says {reason}")),
        Some(reason) => claim.with_fault(format!("the caller's proxy says {reason}, which is not TLS")),
        None => claim.with_fault("the caller's proxy gives no reason"),
    });
    Ok(())
}

fn requires(scope: &Scope) -> Result<(), Error> {
    scope.requires([
        Requirement::Probes,
        Requirement::AccessLog,
        Requirement::Clusters(2),
        Requirement::Write(Write::Namespaces),
    ])
}

crate::trials! {
    calls_go_on_while_authorities_are_replaced {
        by_new_intermediates(Replaced::Intermediate),
        by_a_new_root_with_overlap(Replaced::Root),
    },
    a_root_that_is_replaced_without_overlap_ends_calls,
}
