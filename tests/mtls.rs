//! Every byte that should be encrypted and authenticated is, by whom it should be, and nothing else gets in.
//!
//! Needs a live testbed (`cargo xtask testbed up`). The tests share the mesh (`file_parallel`) with each other, and wait for those that
//! change it for everybody. Every denial is stated with its positive control; verdicts are
//! recorded in `target/meshproof/mtls/report.json`.

use std::sync::Arc;

use futures::future::try_join_all;
use meshproof::cluster::Pair;
use meshproof::istio::{both_ends, ingress_gateway, issue, sni_of, turned_away};
use meshproof::probe::{self, Dial, Expected, Protocol, TlsVersion, Vantage, alert, dial, handshake, service_host};
use meshproof::report::Judgement;
use meshproof::scope::{claims, deploy_probe};
use meshproof::suites::{Flaw, Path};
use meshproof::{Cluster, Error, Scope, Verdict};
use rstest::rstest;
use serde_json::json;
use serial_test::file_parallel;

const SUITE: &str = "mtls";

/// What a naked client may say to a port in plaintext. It speaks first everywhere: a proxy waits for its first bytes,
/// and silence proves nothing.
const PLAINTEXT: [(Protocol, Protocol); 5] = [
    (Protocol::Http1, Protocol::Http1),
    (Protocol::Http2, Protocol::Http2),
    (Protocol::Grpc, Protocol::Grpc),
    (Protocol::Tcp, Protocol::Tcp),
    (Protocol::Tcp, Protocol::ServerFirst),
];

#[tokio::test]
#[file_parallel(mesh)]
async fn meshed_reaches_meshed_and_each_end_authenticates_the_other() -> Verdict {
    Scope::run(SUITE, "meshed_reaches_meshed", async |scope| {
        let judge = async |pair: Pair| {
            let (source, destination) = (probe::caller(&pair.from).await?, probe::meshed(&pair.to).await?);
            let host = service_host(pair.to.name());
            let dials = Protocol::APPLICATION.map(|p| dial(format!("{p}/{pair}"), p, &host, p.port()));
            let exchanges = Vantage::Meshed(source.clone()).dial(dials.into()).await?;
            let ends = both_ends(&exchanges, &source, &destination).await?;
            for (exchange, ends) in exchanges.iter().zip(&ends) {
                let between = (&source, &destination);
                scope.claim(claims::mutual_tls("mutual-tls", exchange, ends.as_ref(), between, &scope.testbed.trust));
            }
            Ok(())
        };
        scope.for_each(scope.testbed.pairs(), Pair::to_string, judge).await;
        Ok(())
    })
    .await
}

#[tokio::test]
#[file_parallel(mesh)]
async fn an_ingress_gateway_reaches_meshed_as_itself() -> Verdict {
    Scope::run(SUITE, "ingress", async |scope| {
        let judge = async |pair: Pair| {
            let (gateway, destination) = (ingress_gateway(&pair.from).await?, probe::meshed(&pair.to).await?);
            let address = pair.from.record().ingress.as_deref().and_then(|address| address.rsplit_once(':'));
            let address = address.and_then(|(host, port)| Some((host, port.parse().ok()?)));
            let missing = || scope.testbed.not_declared(format!("an ingress of {}", pair.from.name()));
            let (host, port) = address.ok_or_else(missing)?;
            let through = dial(format!("http1/{pair}"), Protocol::Http1, host, port);
            let authority = Some(format!("probe-{}.pinnacle", pair.to.name()));
            let exchanges = Vantage::Host.dial(vec![Dial { authority, ..through }]).await?;
            let ends = both_ends(&exchanges, &gateway, &destination).await?;
            for (exchange, ends) in exchanges.iter().zip(&ends) {
                let between = (&gateway, &destination);
                scope.claim(claims::mutual_tls("ingress", exchange, ends.as_ref(), between, &scope.testbed.trust));
            }
            Ok(())
        };
        scope.for_each(scope.testbed.pairs(), Pair::to_string, judge).await;
        Ok(())
    })
    .await
}

#[tokio::test]
#[file_parallel(mesh)]
async fn plaintext_is_reset_under_strict() -> Verdict {
    Scope::run(SUITE, "plaintext_is_reset_under_strict", async |scope| {
        let judge = async |cluster: &Arc<Cluster>| {
            let (naked, meshed) = (probe::naked(cluster).await?, probe::meshed(cluster).await?);
            let certificate = issue(&scope.testbed, &meshed).await?;
            let (mut refused, mut controls) = (Vec::new(), Vec::new());
            for (place, host) in [("service", service_host(cluster.name())), ("pod", meshed.address.clone())] {
                for (spoken, meant) in PLAINTEXT {
                    let (id, port) = (format!("{spoken}-to-{meant}-port/{place}/{}", cluster.name()), meant.port());
                    refused.push(dial(&id, spoken, &host, port));
                    controls.push(handshake(id, (&host, port), None, Some(&certificate), meant));
                }
            }
            let vantage = Vantage::Naked(naked);
            let (refused, controls) = (vantage.dial(refused).await?, vantage.dial(controls).await?);
            let owed = "a STRICT namespace takes no plaintext";
            let accounts = turned_away(&refused, &meshed).await?;
            for ((refused, control), account) in refused.iter().zip(&controls).zip(&accounts) {
                let by = (&meshed, account.as_ref());
                scope.claim(claims::denied_by_proxy("plaintext", owed, refused, Expected::Reset, control, by));
            }
            Ok(())
        };
        scope.for_each(&scope.testbed.clusters, |cluster| cluster.name().to_owned(), judge).await;
        Ok(())
    })
    .await
}

#[rstest]
#[case::that_is_missing(Flaw::Missing, Expected::Alert(alert::NO_CERTIFICATE))]
#[case::from_a_foreign_root(Flaw::ForeignRoot, Expected::Alert(alert::UNKNOWN_AUTHORITY))]
#[case::with_a_forged_issuer(Flaw::ForgedIssuer, Expected::Alert(alert::FORGED))]
#[case::that_has_expired(Flaw::Expired, Expected::Alert(alert::EXPIRED))]
#[case::of_another_trust_domain(Flaw::OtherTrustDomain, Expected::Alert(alert::UNWELCOME_IDENTITY))]
#[tokio::test]
#[file_parallel(mesh)]
async fn a_client_certificate_is_refused(#[case] flaw: Flaw, #[case] refusal: Expected) -> Verdict {
    Scope::run(SUITE, format!("a_client_certificate_is_refused_{flaw}"), async |scope| {
        let testbed = &scope.testbed;
        let judging = Path::all(scope).await?.into_iter().map(async |path| {
            let (cluster, id) = (path.peer.cluster.name(), path.peer.spiffe_id(testbed.trust.domain()));
            let flawed = flaw.certificate(testbed, cluster, &id)?;
            let valid = match flaw.counterpart(testbed, cluster, &id)? {
                Some(minted) => minted,
                None => path.issued_certificate(scope).await?,
            };
            let flawed = path.handshake(&flaw.to_string(), flawed.as_ref());
            let (refused, control) = path.dial_pair(flawed, path.handshake("control", Some(&valid))).await?;
            let owed = "a meshed workload takes only clients that the mesh has certified";
            let control = (&control, &path.destination);
            scope.claim(claims::refused_by_certificate(
                "certificate",
                owed,
                &refused,
                refusal,
                control,
                &testbed.trust,
            ));
            Ok(())
        });
        try_join_all(judging).await.map(drop)
    })
    .await
}

#[rstest]
#[case::at_1_0(TlsVersion::V1_0)]
#[case::at_1_1(TlsVersion::V1_1)]
#[tokio::test]
#[file_parallel(mesh)]
async fn tls_below_1_2_is_refused(#[case] version: TlsVersion) -> Verdict {
    Scope::run(SUITE, format!("tls_below_1_2_is_refused_{version}"), async |scope| {
        let judging = Path::all(scope).await?.into_iter().map(async |path| {
            let old = path.client_hello(&version.to_string().replace(' ', "-").to_lowercase(), version);
            let (refused, control) = path.dial_pair(old, path.client_hello("control", TlsVersion::V1_2)).await?;
            let (owed, how) = ("no TLS below 1.2 is spoken", Expected::Alert(alert::PROTOCOL_VERSION));
            scope.claim(claims::denied("tls-version", owed, &refused, how, &control, Some(&path.destination)));
            Ok(())
        });
        try_join_all(judging).await.map(drop)
    })
    .await
}

/// `{cluster}` stands for the gateway's.
#[rstest]
#[case::of_a_service_outside_the_mesh("outbound_.8080_._.probe-naked-{cluster}.meshproof-naked.svc.cluster.local")]
#[case::of_the_control_plane("outbound_.15012_._.istiod.istio-system.svc.cluster.local")]
#[case::of_the_api_server("outbound_.443_._.kubernetes.default.svc.cluster.local")]
#[case::of_a_port_that_is_not_served("outbound_.9999_._.probe-{cluster}.pinnacle.svc.cluster.local")]
#[case::of_a_service_that_is_not_there("outbound_.8080_._.nothing.pinnacle.svc.cluster.local")]
#[case::that_is_plain("probe-{cluster}.pinnacle.svc.cluster.local")]
#[case::that_is_missing("")]
#[tokio::test]
#[file_parallel(mesh)]
async fn an_east_west_gateway_refuses_a_name(#[case] name: &str) -> Verdict {
    Scope::run(SUITE, format!("an_east_west_gateway_refuses_the_name_{name}"), async |scope| {
        let judging = Path::through_gateways(scope).await?.into_iter().map(async |path| {
            let certificate = path.issued_certificate(scope).await?;
            let name = name.replace("{cluster}", path.destination.cluster.name());
            let id = if name.is_empty() { "none" } else { &name };
            let unexposed = path.handshake_as(id, Some(&*name).filter(|name| !name.is_empty()), Some(&certificate));
            let (refused, control) = path.dial_pair(unexposed, path.handshake("control", Some(&certificate))).await?;
            let (owed, how) = ("an east-west gateway leads to exposed services only", Expected::EndedBeforeTls);
            scope.claim(claims::denied("gateway-name", owed, &refused, how, &control, None));
            Ok(())
        });
        try_join_all(judging).await.map(drop)
    })
    .await
}

/// A service outside the mesh is refused for want of a proxy behind it, whatever the gateway exposes; this one has a proxy,
/// so only the gateway's own list of what is exposed keeps it in.
#[tokio::test]
#[file_parallel(mesh)]
async fn an_east_west_gateway_refuses_a_meshed_service_that_is_not_exposed() -> Verdict {
    Scope::run(SUITE, "an_east_west_gateway_keeps_in_what_is_not_exposed", async |scope| {
        let judge = async |owner: &Arc<Cluster>| {
            let namespace = scope.namespace(owner, "unexposed", &[("istio-injection", "enabled")]).await?;
            let unexposed = deploy_probe(scope, owner, &namespace).await?;
            let name = sni_of(Protocol::Http1.port(), &format!("probe.{namespace}.svc.cluster.local"));
            let paths = Path::through_gateways(scope).await?.into_iter();
            let judging = paths.filter(|path| path.destination.cluster.name() == owner.name()).map(async |path| {
                let certificate = path.issued_certificate(scope).await?;
                let refused = path.handshake_as("meshed-and-unexposed", Some(&name), Some(&certificate));
                let (refused, control) = path.dial_pair(refused, path.handshake("control", Some(&certificate))).await?;
                let (owed, how) = ("an east-west gateway leads to exposed services only", Expected::EndedBeforeTls);
                scope.claim(claims::denied("gateway-name", owed, &refused, how, &control, Some(&unexposed)));
                Ok(())
            });
            try_join_all(judging).await.map(drop)
        };
        scope.for_each(&scope.testbed.clusters, |cluster| cluster.name().to_owned(), judge).await;
        Ok(())
    })
    .await
}

#[tokio::test]
#[file_parallel(mesh)]
async fn plaintext_is_reset_at_an_east_west_gateway() -> Verdict {
    Scope::run(SUITE, "plaintext_is_reset_at_an_east_west_gateway", async |scope| {
        let judging = Path::through_gateways(scope).await?.into_iter().map(async |path| {
            let certificate = path.issued_certificate(scope).await?;
            let (plaintext, control) = (path.plaintext("plaintext"), path.handshake("control", Some(&certificate)));
            let (refused, control) = path.dial_pair(plaintext, control).await?;
            let owed = "an east-west gateway takes no plaintext";
            scope.claim(claims::denied("gateway", owed, &refused, Expected::Reset, &control, None));
            Ok(())
        });
        try_join_all(judging).await.map(drop)
    })
    .await
}

/// The same probes, where plaintext is allowed: the suite can tell the difference.
#[tokio::test]
#[file_parallel(mesh)]
async fn plaintext_is_answered_under_permissive() -> Verdict {
    Scope::run(SUITE, "plaintext_is_answered_under_permissive", async |scope| {
        let judge = async |cluster: &Arc<Cluster>| permissive(scope, cluster).await;
        scope.for_each(&scope.testbed.clusters, |cluster| cluster.name().to_owned(), judge).await;
        Ok(())
    })
    .await
}

async fn permissive(scope: &Scope, cluster: &Arc<Cluster>) -> Result<(), Error> {
    let namespace = scope.namespace(cluster, "permissive", &[("istio-injection", "enabled")]).await?;
    let mut policy = json!({
        "apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
        "metadata": { "name": "permissive", "namespace": namespace }, "spec": { "mtls": { "mode": "PERMISSIVE" } },
    });
    scope.apply(cluster, &mut policy).await?;
    let (naked, strict) = (Vantage::Naked(probe::naked(cluster).await?), probe::meshed(cluster).await?);
    let permissive = deploy_probe(scope, cluster, &namespace).await?;
    let certificate = issue(&scope.testbed, &strict).await?;
    let id = |protocol: Protocol, place: &str| format!("{protocol}/{place}/{}", cluster.name());
    let spoken_first = &PLAINTEXT[..4];
    let plain = |place: &str, host: &str| {
        spoken_first.iter().map(|(spoken, meant)| dial(id(*spoken, place), *spoken, host, meant.port())).collect()
    };
    let control = |meant: Protocol| {
        handshake(id(meant, "control"), (&strict.address, meant.port()), None, Some(&certificate), meant)
    };
    let answered = naked.dial(plain("permissive", &permissive.address)).await?;
    let refused = naked.dial(plain("strict", &strict.address)).await?;
    let controls = naked.dial(spoken_first.iter().map(|(_, meant)| control(*meant)).collect()).await?;
    for ((answered, refused), control) in answered.iter().zip(&refused).zip(&controls) {
        let owed = "a PERMISSIVE namespace takes plaintext";
        scope.claim(claims::answered("permissive", owed, answered, &permissive));
        let owed = "a STRICT namespace resets what a PERMISSIVE one answers";
        scope.claim(claims::denied("permissive", owed, refused, Expected::Reset, control, Some(&strict)));
        let mutant = claims::denied("mutant", owed, answered, Expected::Reset, answered, Some(&permissive));
        assert_eq!(mutant.verdict(), Judgement::Fail, "the suite takes an answer for a denial: {mutant}");
    }
    Ok(())
}
