//! The token by which an istiod reads another cluster is renewed.

use std::time::Duration;

use meshproof::cluster::Pair;
use meshproof::istio::{Endpoint, endpoints, outbound_name};
use meshproof::probe::{self, Dial, Protocol, Vantage, dial};
use meshproof::record::{Requirement, Write};
use meshproof::report::Claim;
use meshproof::scope::claims;
use meshproof::suites::{Newcomer, RemoteSecret, SecretFault};
use meshproof::{Error, Scope, Seen, Verdict, Workload, eventually};

use super::SUITE;

/// How long the mesh is observed after the renewal. A version of Istio that forgets endpoints does so within seconds
/// (istio/istio#61043).
const OBSERVED: Duration = Duration::from_secs(15);

/// Least number of looks at the endpoints meanwhile.
const LOOKS: u32 = 10;

/// Pause between calls.
const PAUSE: Duration = Duration::from_millis(500);

/// Old endpoints stay, calls go on, and a service that is created afterwards is seen.
///
/// Red if istiod forgets the other cluster while it reads the new token (tried: the secret taken away instead).
async fn a_remote_secret_is_renewed_and_nothing_is_lost() -> Verdict {
    Scope::alone(SUITE, "a_remote_secret_is_renewed_and_nothing_is_lost", async |scope| {
        scope.requires([
            Requirement::Probes,
            Requirement::Clusters(2),
            Requirement::Write(Write::Namespaces),
            Requirement::Write(Write::Objects),
        ])?;
        // At once: each pair has a secret, an istiod and a caller of its own.
        let between = scope.testbed.pairs().into_iter().filter(Pair::crosses);
        scope.for_each(between, Pair::to_string, async |pair| renewed(scope, &pair).await).await;
        Ok(())
    })
    .await
}

async fn renewed(scope: &Scope, pair: &Pair) -> Result<(), Error> {
    let (source, destination) = (probe::caller(&pair.from).await?, probe::meshed(&pair.to).await?);
    let host = probe::service_host(&pair.to)?;
    let port = probe::port(&pair.to, Protocol::Http1)?;
    let secret = RemoteSecret::find(pair, SecretFault::Renewed).await?;
    let known = known(&source, port, host).await?;
    let vantage = Vantage::Meshed(source.clone());
    let renewing = async {
        let injected = scope.inject(secret).await?;
        Ok::<_, Error>((injected, observed(&source, port, host).await))
    };
    let calling = async { Ok::<_, Error>(vantage.dial(calls(pair, host, port)).await?) };
    let ((injected, seen), calls) = futures::try_join!(renewing, calling)?;
    scope.claim(
        Claim::about(format!("renewed/endpoints/{pair}"), "endpoints stay while a remote secret is renewed")
            .from(&source)
            .to(host)
            .expects(format!("never fewer than {known} healthy endpoints, in at least {LOOKS} looks"))
            .observes(
                &seen,
                |Observed { looks, fewest }| format!("at one time {fewest}, in {looks} looks"),
                |Observed { looks, fewest }| *fewest >= known && known > 0 && *looks >= LOOKS,
            ),
    );
    for call in &calls {
        let owed = "no call is lost while a remote secret is renewed";
        scope.claim(claims::answered("renewed", owed, call, &destination));
    }
    let created = Newcomer::create(scope, &pair.to, &format!("after-renewal-{pair}")).await?;
    let call = created.call(&source, &format!("created/{pair}")).await?;
    let owed = "a service that is created after a renewal is answered";
    scope.claim(claims::answered("renewed", owed, &call, &created.destination));
    scope.revert(injected).await
}

/// Calls from before the renewal to the end of the observation.
fn calls(pair: &Pair, host: &str, port: u16) -> Vec<Dial> {
    let count = (OBSERVED.as_millis() / PAUSE.as_millis()) as u64;
    let call = |at: u64| {
        let call = dial(format!("{at}/{pair}"), Protocol::Http1, host, port);
        Dial { not_before_ms: Some(at * PAUSE.as_millis() as u64), ..call }
    };
    (0..count).map(call).collect()
}

/// The number of healthy endpoints that a proxy knows of a service's port.
async fn known(source: &Workload, port: u16, host: &str) -> Result<usize, Error> {
    let name = outbound_name(port, host);
    let is = |one: &&Endpoint| one.upstream_cluster == name && one.healthy;
    Ok(endpoints(source).await?.iter().filter(is).count())
}

/// What was seen of a service's endpoints during the observation.
struct Observed {
    /// How often the proxy was asked and answered.
    looks: u32,
    /// The least number of healthy endpoints.
    fewest: usize,
}

async fn observed(source: &Workload, port: u16, host: &str) -> Observed {
    let mut observed = Observed { looks: 0, fewest: usize::MAX };
    let all_the_time = eventually(format!("the end of the observation of {host}"), OBSERVED, async || {
        let now = known(source, port, host).await?;
        observed.looks += 1;
        observed.fewest = observed.fewest.min(now);
        Ok::<Seen<()>, Error>(Seen::NotYet(format!("{now} healthy endpoints")))
    });
    // Its end is not an error here.
    let _ = all_the_time.await;
    observed
}

crate::trials! {
    a_remote_secret_is_renewed_and_nothing_is_lost,
}
