//! Certificates that end soon, and leaves that outlive the CA above them, are told before calls fail.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::{StreamExt, stream};
use meshproof::cluster;
use meshproof::identity::{Certificate, ClientCertificate, Lifetimes, Limits, Minter, Validity, words};
use meshproof::istio::{ProxySecrets, issue, proxies, secrets};
use meshproof::k8s_openapi::api::core::v1::Namespace;
use meshproof::kube::api::{Api, ListParams};
use meshproof::kube::{self, ResourceExt};
use meshproof::probe::{self, Expected, Protocol, Vantage, alert, handshake};
use meshproof::record::{HostPort, Requirement, Write};
use meshproof::report::{Claim, Judgement};
use meshproof::scope::{RUN_LABEL, claims, copied_probe, deploy_probe_with};
use meshproof::suites::{Credentials, ProxyImage, certify, identity_of};
use meshproof::{Cluster, Error, Scope, Verdict, Workload};

use super::SUITE;

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// Most proxies that are asked at once.
const AT_ONCE: usize = 8;

/// Red if an authority is replaced by one that ends soon, or if an agent does not renew its leaf.
/// [`a_chain_that_ends_soon_is_found_at_its_proxy`] is the control.
async fn no_certificate_ends_soon() -> Verdict {
    Scope::run(SUITE, "no_certificate_ends_soon", async |scope| {
        scope.requires([Requirement::Probes])?;
        let judge = async |cluster: &Arc<Cluster>| {
            let read = stream::iter(lasting(cluster).await?)
                .map(async |proxy| (secrets(&proxy).await, proxy))
                .buffer_unordered(AT_ONCE);
            let mut read: Vec<(cluster::Result<ProxySecrets>, Workload)> = read.collect().await;
            read.retain(|(secrets, _)| !secrets.as_ref().is_err_and(is_gone));
            read.sort_by(|(_, one), (_, other)| one.pod.cmp(&other.pod));
            if read.is_empty() {
                return Err(Error::suite(format!("{} has no proxy to ask", cluster.name())));
            }
            let mut known = BTreeMap::<String, usize>::new();
            for (secrets, proxy) in read {
                let of = format!("{}/{}/{}", cluster.name(), proxy.namespace, proxy.service_account);
                let count = known.entry(of.clone()).or_default();
                *count += 1;
                let name = if *count == 1 { of } else { format!("{of}-{count}") };
                match judged(&name, &proxy, &secrets?) {
                    Ok(claims) => claims.into_iter().for_each(|claim| scope.claim(claim)),
                    Err(error) => scope.could_not_judge(&name, &error),
                }
            }
            Ok(())
        };
        scope.for_each(&scope.testbed.clusters, |cluster| cluster.name().to_owned(), judge).await;
        Ok(())
    })
    .await
}

/// The proxies of a cluster that last: other tests make namespaces whose certificates are bad on purpose.
async fn lasting(cluster: &Arc<Cluster>) -> Result<Vec<Workload>, Error> {
    let namespaces = Api::<Namespace>::all(cluster.client()).list(&ListParams::default().labels(RUN_LABEL)).await;
    let namespaces = namespaces.map_err(cluster.failed("list the namespaces of tests"))?.items;
    let of_test = |proxy: &Workload| namespaces.iter().any(|namespace| namespace.name_any() == proxy.namespace);
    Ok(proxies(cluster).await?.into_iter().filter(|proxy| !of_test(proxy)).collect())
}

/// Whether a pod was removed after it was found.
fn is_gone(error: &cluster::Error) -> bool {
    matches!(error, cluster::Error::Api { source, .. }
        if matches!(source.as_ref(), kube::Error::Api(status) if status.code == 404))
}

/// The claims about the certificates of a proxy.
fn judged(name: &str, proxy: &Workload, ProxySecrets { chain, roots }: &ProxySecrets) -> Result<Vec<Claim>, Error> {
    let lifetimes = Lifetimes::of(chain, roots, &Limits::default(), SystemTime::now())?;
    let effective = words(lifetimes.effective);
    let lasts = Claim::about(format!("lasts/{name}"), "no certificate of a proxy ends soon")
        .to(proxy)
        .expects("no certificate that ends soon")
        .observes(
            &lifetimes,
            |lifetimes| match lifetimes.faults().collect::<Vec<_>>() {
                faults if faults.is_empty() => format!("the proxy's identity lasts {effective}"),
                faults => faults.join("; "),
            },
            |lifetimes| lifetimes.faults().next().is_none(),
        );
    let lasts = lifetimes.each.iter().fold(lasts, |claim, one| claim.with_evidence(one.to_string()));
    let outlives = Claim::about(format!("outlives/{name}"), "a leaf does not outlive the CA above it")
        .to(proxy)
        .expects("the leaf ends first")
        .observes(
            &lifetimes.outlived,
            |outlived| match outlived {
                Some(authority) => format!(
                    "the {authority} ends before the leaf: calls fail in {effective}, and the leaf is renewed later"
                ),
                None => format!("the leaf ends first, in {effective}"),
            },
            Option::is_none,
        );
    Ok(vec![lasts, outlives])
}

/// Control: a proxy whose chain is minted so that the leaf outlives its intermediate, and the intermediate and the root
/// end soon. Then one with a sound chain in which the root stands twice.
///
/// Red if the chain of a proxy is not read, or if its leaf alone is judged.
async fn a_chain_that_ends_soon_is_found_at_its_proxy() -> Verdict {
    Scope::run(SUITE, "a_chain_that_ends_soon_is_found_at_its_proxy", async |scope| {
        scope.requires([Requirement::Probes, Requirement::Write(Write::Namespaces)])?;
        let cluster = &scope.testbed.clusters[0];
        let namespace = scope.injected_namespace(cluster, "ends-soon").await?;
        let image = ProxyImage::of(cluster).await?;
        let id = identity_of(&copied_probe(cluster, &namespace).await?, scope.testbed.trust.domain());
        let short = Minter::authority_for("short root", 20 * DAY)?;
        let minted = short.intermediate_for("short intermediate", 2 * HOUR)?.mint(&id, Validity::For(24 * HOUR))?;
        let credentials = Credentials::new(minted, short.chain_pem());
        let pods = deploy_probe_with(scope, cluster, &namespace, |copy| certify(copy, &image, &credentials)).await?;
        let proxy = pods.first().ok_or_else(|| Error::suite("the probe has no pod"))?;
        credentials.used_by(proxy).await?;
        for claim in judged("short", proxy, &secrets(proxy).await?)? {
            let owed = ["the intermediate `CN=short intermediate`", "the root `CN=short root`"];
            let wanted = if claim.id().starts_with("outlives") { vec!["calls fail in 1"] } else { owed.to_vec() };
            scope.claim(found(&claim, proxy, &wanted));
        }
        let sound = Minter::authority_for("sound root", 365 * DAY)?;
        let ClientCertificate { chain_pem, key_pem } =
            sound.intermediate_for("sound intermediate", 90 * DAY)?.mint(&id, Validity::For(24 * HOUR))?;
        let twice = ClientCertificate { chain_pem: format!("{chain_pem}{}", sound.chain_pem()), key_pem };
        Credentials::new(twice, sound.chain_pem()).replace(proxy).await?;
        for claim in judged("root-twice", proxy, &secrets(proxy).await?)? {
            scope.claim(claim);
        }
        Ok(())
    })
    .await
}

/// The claim that `claim` is red, for these reasons.
fn found(claim: &Claim, proxy: &Workload, reasons: &[&str]) -> Claim {
    Claim::about(format!("found/{}", claim.id()), "certificates that end soon are found at the proxy that has them")
        .to(proxy)
        .expects(format!("red, because of {}", reasons.join(" and ")))
        .observes(
            claim,
            |claim| format!("{:?}: {}", claim.verdict(), claim.observed()),
            |claim| {
                let named = reasons.iter().all(|reason| claim.observed().contains(reason));
                claim.verdict() == Judgement::Fail && named
            },
        )
}

/// A client whose leaf is valid for a day, below an intermediate that has ended, is refused as expired.
///
/// Control: the same leaf below an intermediate of the same root that has not ended. Red if a proxy looks at the leaf
/// alone.
async fn a_leaf_is_refused_once_its_issuer_has_ended() -> Verdict {
    Scope::run(SUITE, "a_leaf_is_refused_once_its_issuer_has_ended", async |scope| {
        scope.requires([Requirement::Probes, Requirement::Write(Write::Namespaces)])?;
        let judge = async |cluster: &Arc<Cluster>| {
            let namespace = scope.injected_namespace(cluster, &format!("ended-{}", cluster.name())).await?;
            let image = ProxyImage::of(cluster).await?;
            let id = identity_of(&copied_probe(cluster, &namespace).await?, scope.testbed.trust.domain());
            let root = Minter::authority("root")?;
            let sound = root.intermediate("sound")?;
            let credentials = Credentials::new(sound.mint(&id, Validity::Now)?, root.chain_pem());
            let pods =
                deploy_probe_with(scope, cluster, &namespace, |copy| certify(copy, &image, &credentials)).await?;
            let server = pods.first().ok_or_else(|| Error::suite("the probe has no pod"))?;
            let ended = root.intermediate_for("ended", Duration::ZERO)?.mint(&id, Validity::For(24 * HOUR))?;
            let valid = sound.mint(&id, Validity::For(24 * HOUR))?;
            let address = HostPort::new(&server.address, probe::port(cluster, Protocol::TlsRaw)?);
            let dial = |name: &str, certificate: &ClientCertificate| {
                handshake(format!("{name}/{}", cluster.name()), &address, None, Some(certificate), Protocol::Http1)
            };
            let vantage = Vantage::Naked(probe::naked(cluster).await?);
            let seen = vantage.dial(vec![dial("issuer-ended", &ended), dial("control", &valid)]).await?;
            let owed = "a leaf is of no use once the CA above it has ended";
            scope.claim(claims::denied(
                "ended",
                owed,
                &seen[0],
                Expected::Alert(alert::EXPIRED),
                &seen[1],
                Some(server),
            ));
            Ok(())
        };
        scope.for_each(&scope.testbed.clusters, |cluster| cluster.name().to_owned(), judge).await;
        Ok(())
    })
    .await
}

/// What istiod issues now ends before its CA.
///
/// Red if the CA of a cluster ends within the hour for which the certificate is asked.
async fn istiod_issues_no_leaf_that_outlives_its_ca() -> Verdict {
    Scope::run(SUITE, "istiod_issues_no_leaf_that_outlives_its_ca", async |scope| {
        scope.requires([Requirement::Probes])?;
        let judge = async |cluster: &Arc<Cluster>| {
            let workload = probe::meshed(cluster).await?;
            let issued = issue(&scope.testbed, &workload).await?;
            let chain = Certificate::all_from_pem("an issued chain", &issued.chain_pem)?;
            let issued = ProxySecrets { chain, roots: scope.testbed.trust.roots().to_vec() };
            let claims = judged(&format!("issued/{}", cluster.name()), &workload, &issued)?;
            claims.into_iter().for_each(|claim| scope.claim(claim));
            Ok(())
        };
        scope.for_each(&scope.testbed.clusters, |cluster| cluster.name().to_owned(), judge).await;
        Ok(())
    })
    .await
}

crate::trials! {
    no_certificate_ends_soon,
    a_chain_that_ends_soon_is_found_at_its_proxy,
    a_leaf_is_refused_once_its_issuer_has_ended,
    istiod_issues_no_leaf_that_outlives_its_ca,
}
