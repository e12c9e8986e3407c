//! Mutual TLS: all traffic is encrypted and authenticated by the right identities, and other clients are refused.
//!
//! Needs a live testbed (`cargo xtask testbed up`). The tests share the mesh with each other, and wait for tests that
//! change the mesh for all. Every denial has a positive control. Verdicts are in
//! `target/meshproof/mtls/report.json`.

use std::sync::Arc;

use futures::future::try_join_all;
use meshproof::cluster::Pair;
use meshproof::istio::{both_ends, ingress_gateway, issue, sni_of, turned_away};
use meshproof::probe::{self, Dial, Expected, Protocol, TlsVersion, Vantage, alert, dial, handshake, service_host};
use meshproof::record::{HostPort, Requirement, Write};
use meshproof::report::Judgement;
use meshproof::scope::claims::{self, Peers};
use meshproof::scope::deploy_probe;
use meshproof::suites::{Controlled, Flaw, Newcomer, Path};
use meshproof::{Cluster, Error, Scope, Verdict};
use serde_json::json;

const SUITE: &str = "mtls";

/// Plaintext that a naked client sends to a port. The client always speaks first: a proxy waits for the first bytes, so
/// silence proves nothing.
const PLAINTEXT: [(Protocol, Protocol); 5] = [
    (Protocol::Http1, Protocol::Http1),
    (Protocol::Http2, Protocol::Http2),
    (Protocol::Grpc, Protocol::Grpc),
    (Protocol::Tcp, Protocol::Tcp),
    (Protocol::Tcp, Protocol::ServerFirst),
];

/// Every meshed caller reaches every meshed server over each protocol, and each end proves who it is.
///
/// Seen red by: TLS mode DISABLE in the namespace's own `DestinationRule` ("makes the proxy of caller-… speak plaintext"); a
/// server without a sidecar ("has no sidecar: its label sidecar.istio.io/inject is `false`").
async fn meshed_reaches_meshed_and_each_end_authenticates_the_other() -> Verdict {
    Scope::run(SUITE, "meshed_reaches_meshed", async |scope| {
        scope.requires([Requirement::Probes, Requirement::AccessLog])?;
        let judge = async |pair: Pair| {
            let (source, destination) = (probe::caller(&pair.from).await?, probe::meshed(&pair.to).await?);
            let host = service_host(&pair.to)?;
            let dials = Protocol::APPLICATION.iter().map(|&protocol| {
                Ok(dial(format!("{protocol}/{pair}"), protocol, host, probe::port(&pair.to, protocol)?))
            });
            let exchanges = Vantage::Meshed(source.clone()).dial(dials.collect::<Result<_, Error>>()?).await?;
            let ends = both_ends(&exchanges, &source, &destination).await?;
            for (exchange, ends) in exchanges.iter().zip(&ends) {
                let between = Peers { source: &source, destination: &destination };
                scope.claim(claims::mutual_tls("mutual-tls", exchange, ends.as_ref(), between, &scope.testbed.trust));
            }
            Ok(())
        };
        scope.for_each(scope.testbed.pairs(), Pair::to_string, judge).await;
        Ok(())
    })
    .await
}

/// Endpoints outlive what told of them: a service that is older than a fault may still be answered.
///
/// Red if a remote secret is missing, or if its token is refused. Seen red by: a `DestinationRule` of the whole mesh with TLS
/// mode DISABLE ("no healthy upstream"); a second `Gateway` for `*.local`, for which the proxy refuses its listener.
async fn a_service_created_now_is_answered_from_every_other_cluster() -> Verdict {
    Scope::run(SUITE, "a_service_created_now", async |scope| {
        scope.requires([Requirement::Probes, Requirement::Clusters(2), Requirement::Write(Write::Namespaces)])?;
        let judge = async |to: &Arc<Cluster>| {
            let created = Newcomer::create(scope, to, &format!("created-in-{}", to.name())).await?;
            let others = scope.testbed.clusters.iter().filter(|from| from.name() != to.name());
            let judging = others.map(async |from| {
                let id = format!("http1/{}-to-{}", from.name(), to.name());
                let seen = created.call(&probe::caller(from).await?, &id).await?;
                let owed = "a service that is created now is answered from another cluster";
                scope.claim(claims::answered("created-now", owed, &seen, &created.destination));
                Ok(())
            });
            try_join_all(judging).await.map(drop)
        };
        scope.for_each(&scope.testbed.clusters, |to| to.name().to_owned(), judge).await;
        Ok(())
    })
    .await
}

/// An ingress gateway calls with its own certificate.
///
/// Seen red by: TLS mode DISABLE in a `DestinationRule` of the gateway's namespace ("makes the proxy of istio-ingressgateway-…
/// speak plaintext", HTTP 503).
async fn an_ingress_gateway_reaches_meshed_as_itself() -> Verdict {
    Scope::run(SUITE, "ingress", async |scope| {
        scope.requires([Requirement::Probes, Requirement::Ingress, Requirement::AccessLog])?;
        let judge = async |pair: Pair| {
            let (gateway, destination) = (ingress_gateway(&pair.from).await?, probe::meshed(&pair.to).await?);
            let HostPort { host, port } = pair.from.record().ingress_address()?;
            let through = dial(format!("http1/{pair}"), Protocol::Http1, host, *port);
            let authority = Some(probe::ingress_host(&pair.to)?.to_owned());
            let exchanges = Vantage::Host.dial(vec![Dial { authority, ..through }]).await?;
            let ends = both_ends(&exchanges, &gateway, &destination).await?;
            for (exchange, ends) in exchanges.iter().zip(&ends) {
                let between = Peers { source: &gateway, destination: &destination };
                scope.claim(claims::mutual_tls("ingress", exchange, ends.as_ref(), between, &scope.testbed.trust));
            }
            Ok(())
        };
        let from_gateways = scope.testbed.pairs().into_iter();
        let from_gateways = from_gateways.filter(|pair| pair.from.record().gateways.ingress.is_some());
        scope.for_each(from_gateways, Pair::to_string, judge).await;
        Ok(())
    })
    .await
}

/// A STRICT server resets plaintext, by its service and by its pod.
///
/// Seen red by: a `PeerAuthentication` that makes the probes PERMISSIVE.
async fn plaintext_is_reset_under_strict() -> Verdict {
    Scope::run(SUITE, "plaintext_is_reset_under_strict", async |scope| {
        scope.requires([Requirement::Probes, Requirement::AccessLog])?;
        let judge = async |cluster: &Arc<Cluster>| {
            let (naked, meshed) = (probe::naked(cluster).await?, probe::meshed(cluster).await?);
            let certificate = issue(&scope.testbed, &meshed).await?;
            let (mut refused, mut controls) = (Vec::new(), Vec::new());
            for (place, host) in [("service", service_host(cluster)?), ("pod", &meshed.address)] {
                for (spoken, meant) in PLAINTEXT {
                    let id = format!("{spoken}-to-{meant}-port/{place}/{}", cluster.name());
                    let port = probe::port(cluster, meant)?;
                    refused.push(dial(&id, spoken, host, port));
                    controls.push(handshake(id, &HostPort::new(host, port), None, Some(&certificate), meant));
                }
            }
            let vantage = Vantage::Naked(naked);
            let (refused, controls) = (vantage.dial(refused).await?, vantage.dial(controls).await?);
            let owed = "a STRICT namespace takes no plaintext";
            let accounts = turned_away(&refused, &meshed).await?;
            for ((refused, control), account) in refused.iter().zip(&controls).zip(&accounts) {
                let (how, account) = (Expected::Reset, account.as_ref());
                scope.claim(claims::denied_by_proxy("plaintext", owed, refused, how, control, &meshed, account));
            }
            Ok(())
        };
        scope.for_each(&scope.testbed.clusters, |cluster| cluster.name().to_owned(), judge).await;
        Ok(())
    })
    .await
}

/// Seen red by: a filter chain of the port that takes clients without a certificate (`that_is_missing`) or expired ones
/// (`that_has_expired`: "expected TLS alert 45, seen answered with HTTP status 200"); one more alias of the trust domain
/// (`of_another_trust_domain`); a certificate without the flaw in `Flaw::certificate` (the other three: "seen answered").
async fn a_client_certificate_is_refused(flaw: Flaw, refusal: Expected) -> Verdict {
    Scope::run(SUITE, format!("a_client_certificate_is_refused_{flaw}"), async |scope| {
        scope.requires([Requirement::Probes])?;
        scope.requires(flaw.needs_signing_key().then_some(Requirement::SigningKeys))?;
        let testbed = &scope.testbed;
        let judging = Path::all(scope).await?.into_iter().map(async |path| {
            let (cluster, id) = (path.peer.cluster.name(), path.peer.spiffe_id(testbed.trust.domain()));
            let flawed = flaw.certificate(testbed, cluster, &id)?;
            let valid = match flaw.counterpart(testbed, cluster, &id)? {
                Some(minted) => minted,
                None => path.issued_certificate(scope).await?,
            };
            let flawed = path.handshake(&flaw.to_string(), flawed.as_ref());
            let Controlled { judged, control } =
                path.dial_pair(flawed, path.handshake("control", Some(&valid))).await?;
            let owed = "a meshed workload takes only clients that the mesh has certified";
            scope.claim(claims::refused_by_certificate(
                "certificate",
                owed,
                &judged,
                refusal,
                &control,
                &path.destination,
                &testbed.trust,
            ));
            Ok(())
        });
        try_join_all(judging).await.map(drop)
    })
    .await
}

/// A server answers an older TLS version with an alert.
///
/// Seen red by: an `EnvoyFilter` that adds a filter chain with TLS 1.0 for the port ("expected TLS alert 70, seen answered").
async fn tls_below_1_2_is_refused(version: TlsVersion) -> Verdict {
    Scope::run(SUITE, format!("tls_below_1_2_is_refused_{version}"), async |scope| {
        scope.requires([Requirement::Probes])?;
        let judging = Path::all(scope).await?.into_iter().map(async |path| {
            let old = path.client_hello(&version.to_string().replace(' ', "-").to_lowercase(), version);
            let Controlled { judged, control } =
                path.dial_pair(old, path.client_hello("control", TlsVersion::V1_2)).await?;
            let (owed, how) = ("no TLS below 1.2 is spoken", Expected::Alert(alert::PROTOCOL_VERSION));
            scope.claim(claims::denied("tls-version", owed, &judged, how, &control, Some(&path.destination)));
            Ok(())
        });
        try_join_all(judging).await.map(drop)
    })
    .await
}

/// A server name that an east-west gateway must not route.
#[derive(Debug, Clone, Copy)]
enum Unexposed {
    ServiceOutsideTheMesh,
    ControlPlane,
    ApiServer,
    UnservedPort,
    UnknownService,
    PlainName,
    NoName,
}

impl Unexposed {
    /// The server name, for the gateway's cluster. `None` if the client sends none.
    fn server_name(self, cluster: &Cluster) -> Result<Option<String>, Error> {
        let (probes, istio, domain) = (probe::declared(cluster)?, &cluster.record().istio, &cluster.record().domain);
        let http = probe::port(cluster, Protocol::Http1)?;
        Ok(Some(match self {
            Self::ServiceOutsideTheMesh => {
                let service = probes.naked.service.as_deref();
                sni_of(http, cluster.record().declared("a service of the naked probe", service)?)
            }
            Self::ControlPlane => {
                let revision = istio.revision.as_ref().map(|revision| format!("-{revision}")).unwrap_or_default();
                sni_of(istio.control_plane.port, &format!("istiod{revision}.{}.svc.{domain}", istio.namespace))
            }
            Self::ApiServer => sni_of(443, &format!("kubernetes.default.svc.{domain}")),
            Self::UnservedPort => sni_of(9999, service_host(cluster)?),
            Self::UnknownService => sni_of(http, &format!("nothing.{}.svc.{domain}", probes.meshed.namespace)),
            Self::PlainName => service_host(cluster)?.to_owned(),
            Self::NoName => return Ok(None),
        }))
    }
}

/// Seen red, in all cases, by: a filter chain of the gateway that leads each name, and none, to the probe ("answered with HTTP
/// status 200 by pinnacle/probe-…"). A `Gateway` for `*.local` alone turns no case red.
async fn an_east_west_gateway_refuses_a_name(unexposed: Unexposed) -> Verdict {
    Scope::run(SUITE, format!("an_east_west_gateway_refuses_a_name_{unexposed:?}"), async |scope| {
        scope.requires([Requirement::Probes, Requirement::EastWest])?;
        let judging = Path::through_gateways(scope).await?.into_iter().map(async |path| {
            let certificate = path.issued_certificate(scope).await?;
            let name = unexposed.server_name(&path.destination.cluster)?;
            let id = name.as_deref().unwrap_or("none");
            let refused = path.handshake_as(id, name.as_deref(), Some(&certificate));
            let Controlled { judged, control } =
                path.dial_pair(refused, path.handshake("control", Some(&certificate))).await?;
            let (owed, how) = ("an east-west gateway leads to exposed services only", Expected::EndedBeforeTls);
            let destination = Some(&path.destination);
            scope.claim(claims::denied("gateway-name", owed, &judged, how, &control, destination));
            Ok(())
        });
        try_join_all(judging).await.map(drop)
    })
    .await
}

/// A service outside the mesh is refused because it has no proxy, whatever the gateway exposes. The service in this
/// test has a proxy, so only the gateway's own list of exposed services can refuse it.
///
/// Seen red by: `*.local` as the host of the `Gateway`, as the seed has it ("answered with HTTP status 200 by …-unexposed-…").
async fn an_east_west_gateway_refuses_a_meshed_service_that_is_not_exposed() -> Verdict {
    Scope::run(SUITE, "an_east_west_gateway_keeps_in_what_is_not_exposed", async |scope| {
        scope.requires([Requirement::Probes, Requirement::EastWest, Requirement::Write(Write::Namespaces)])?;
        let judge = async |owner: &Arc<Cluster>| {
            let namespace = scope.injected_namespace(owner, "unexposed").await?;
            let unexposed = deploy_probe(scope, owner, &namespace).await?;
            let service =
                format!("{}.{namespace}.svc.{}", probe::declared(owner)?.meshed.deployment, owner.record().domain);
            let name = sni_of(probe::port(owner, Protocol::Http1)?, &service);
            let paths = Path::through_gateways(scope).await?.into_iter();
            let judging = paths.filter(|path| path.destination.cluster.name() == owner.name()).map(async |path| {
                let certificate = path.issued_certificate(scope).await?;
                let refused = path.handshake_as("meshed-and-unexposed", Some(&name), Some(&certificate));
                let Controlled { judged, control } =
                    path.dial_pair(refused, path.handshake("control", Some(&certificate))).await?;
                let (owed, how) = ("an east-west gateway leads to exposed services only", Expected::EndedBeforeTls);
                scope.claim(claims::denied("gateway-name", owed, &judged, how, &control, Some(&unexposed)));
                Ok(())
            });
            try_join_all(judging).await.map(drop)
        };
        scope.for_each(&scope.testbed.clusters, |cluster| cluster.name().to_owned(), judge).await;
        Ok(())
    })
    .await
}

/// A client without TLS is reset.
///
/// Seen red by: a filter chain of the gateway that answers HTTP ("expected reset after the request, seen malformed answer").
async fn plaintext_is_reset_at_an_east_west_gateway() -> Verdict {
    Scope::run(SUITE, "plaintext_is_reset_at_an_east_west_gateway", async |scope| {
        scope.requires([Requirement::Probes, Requirement::EastWest])?;
        let judging = Path::through_gateways(scope).await?.into_iter().map(async |path| {
            let certificate = path.issued_certificate(scope).await?;
            let (plaintext, control) = (path.plaintext("plaintext"), path.handshake("control", Some(&certificate)));
            let Controlled { judged, control } = path.dial_pair(plaintext, control).await?;
            let owed = "an east-west gateway takes no plaintext";
            let destination = Some(&path.destination);
            scope.claim(claims::denied("gateway", owed, &judged, Expected::Reset, &control, destination));
            Ok(())
        });
        try_join_all(judging).await.map(drop)
    })
    .await
}

/// Control: the same probes where plaintext is allowed. Shows that the suite can tell the difference.
///
/// Seen red by: a `PeerAuthentication` that makes the probes PERMISSIVE, which the STRICT half of the control must reset.
async fn plaintext_is_answered_under_permissive() -> Verdict {
    Scope::run(SUITE, "plaintext_is_answered_under_permissive", async |scope| {
        scope.requires([Requirement::Probes, Requirement::Write(Write::Namespaces)])?;
        let judge = async |cluster: &Arc<Cluster>| permissive(scope, cluster).await;
        scope.for_each(&scope.testbed.clusters, |cluster| cluster.name().to_owned(), judge).await;
        Ok(())
    })
    .await
}

async fn permissive(scope: &Scope, cluster: &Arc<Cluster>) -> Result<(), Error> {
    let namespace = scope.injected_namespace(cluster, "permissive").await?;
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
    let plain = |place: &str, host: &str| -> Result<Vec<Dial>, Error> {
        let dials = spoken_first
            .iter()
            .map(|(spoken, meant)| Ok(dial(id(*spoken, place), *spoken, host, probe::port(cluster, *meant)?)));
        dials.collect()
    };
    let controls = spoken_first.iter().map(|(_, meant)| {
        let address = HostPort::new(&strict.address, probe::port(cluster, *meant)?);
        Ok(handshake(id(*meant, "control"), &address, None, Some(&certificate), *meant))
    });
    let answered = naked.dial(plain("permissive", &permissive.address)?).await?;
    let refused = naked.dial(plain("strict", &strict.address)?).await?;
    let controls = naked.dial(controls.collect::<Result<_, Error>>()?).await?;
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

crate::trials! {
    meshed_reaches_meshed_and_each_end_authenticates_the_other,
    a_service_created_now_is_answered_from_every_other_cluster,
    an_ingress_gateway_reaches_meshed_as_itself,
    plaintext_is_reset_under_strict,
    a_client_certificate_is_refused {
        that_is_missing(Flaw::Missing, Expected::Alert(alert::NO_CERTIFICATE)),
        from_a_foreign_root(Flaw::ForeignRoot, Expected::Alert(alert::UNKNOWN_AUTHORITY)),
        with_a_forged_issuer(Flaw::ForgedIssuer, Expected::Alert(alert::FORGED)),
        that_has_expired(Flaw::Expired, Expected::Alert(alert::EXPIRED)),
        of_another_trust_domain(Flaw::OtherTrustDomain, Expected::Alert(alert::UNWELCOME_IDENTITY)),
        for_email_only(Flaw::EmailOnly, Expected::Alert(alert::WRONG_USAGE)),
    },
    tls_below_1_2_is_refused {
        at_1_0(TlsVersion::V1_0),
        at_1_1(TlsVersion::V1_1),
    },
    an_east_west_gateway_refuses_a_name {
        of_a_service_outside_the_mesh(Unexposed::ServiceOutsideTheMesh),
        of_the_control_plane(Unexposed::ControlPlane),
        of_the_api_server(Unexposed::ApiServer),
        of_a_port_that_is_not_served(Unexposed::UnservedPort),
        of_a_service_that_is_not_there(Unexposed::UnknownService),
        that_is_plain(Unexposed::PlainName),
        that_is_missing(Unexposed::NoName),
    },
    an_east_west_gateway_refuses_a_meshed_service_that_is_not_exposed,
    plaintext_is_reset_at_an_east_west_gateway,
    plaintext_is_answered_under_permissive,
}
