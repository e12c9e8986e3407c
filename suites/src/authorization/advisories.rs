//! Advisories about authorization and the control plane. The table of all: docs/reference/advisories.md.

use std::sync::Arc;

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Pod;
use meshproof::identity::{ClientCertificate, Oddity, SpiffeId, Validity};
use meshproof::istio::issue;
use meshproof::policy::authorization::Policy;
use meshproof::probe::{self, Exchange, Expected, Protocol, RawRequest, Vantage, dial};
use meshproof::record::{HostPort, Requirement};
use meshproof::report::Claim;
use meshproof::scope::claims;
use meshproof::suites::intermediate_of;
use meshproof::{Cluster, Error, Result, Scope, Verdict, Workload};
use serde_json::json;

use super::SUITE;
use super::arena::{Caller, REQUIRED, Server, Setup, servers};
use super::issuer::{AUDIENCE, Issuer, When};
use super::judge::{Spoken, claim_all, judge};
use super::peers::{Case, judge_peers};
use super::rows::{Ask, Cell, Presented};

/// Port of istiod's debug interface.
const DEBUG_PORT: u16 = 15_014;

/// The account that a policy names, and one that a dot would match as a pattern.
const ACCOUNTS: [&str; 2] = ["a.b", "axb"];

/// CVE-2026-39350: a dot in the name of a service account is a dot.
///
/// Seen red by: a policy in the mesh that names `axb` as well, as the flawed pattern does.
async fn a_dot_in_the_name_of_an_account_is_a_dot() -> Verdict {
    Scope::run(SUITE, "a_dot_in_the_name_of_an_account_is_a_dot", async |scope| {
        scope.requires(REQUIRED)?;
        let made = servers(scope, "dots", &[], |_, namespace| {
            let named = format!("{namespace}/{}", ACCOUNTS[0]);
            let policy = |name: &str, action: &str, path: &str| {
                let rule = json!({
                    "from": [{ "source": { "serviceAccounts": [named] } }], "to": [{ "operation": { "paths": [path] } }],
                });
                Policy::parse(namespace, name, json!({ "action": action, "rules": [rule] })).map_err(Error::suite)
            };
            let allow = policy("allow", "ALLOW", "/status/251")?;
            let deny = policy("deny", "DENY", "/status/252")?;
            let open = json!({ "rules": [{ "to": [{ "operation": { "paths": ["/status/252", "/status/299"] } }] }] });
            let open = Policy::parse(namespace, "open", open).map_err(Error::suite)?;
            let account = |name: &&str| {
                json!({
                    "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": name, "namespace": namespace },
                })
            };
            let objects = ACCOUNTS.iter().map(account).collect();
            Ok(Setup { objects, ..Setup::new(vec![allow, deny, open]) })
        })
        .await?;
        let judging = made.iter().map(async |server| {
            dots(scope, server).await?.into_iter().for_each(|claim| scope.claim(claim));
            Ok::<_, Error>(())
        });
        try_join_all(judging).await.map(drop)
    })
    .await
}

async fn dots(scope: &Scope, server: &Server) -> Result<Vec<Claim>> {
    let requirement = "a policy about a service account is about the account of exactly that name";
    let prove = async |account: &str| {
        let named = Workload { service_account: account.into(), ..server.workload.clone() };
        let id = named.spiffe_id(scope.testbed.trust.domain());
        Ok::<(SpiffeId, ClientCertificate), Error>((id, issue(&scope.testbed, &named).await?))
    };
    let ((dotted, of_dotted), (other, of_other)) = futures::try_join!(prove(ACCOUNTS[0]), prove(ACCOUNTS[1]))?;
    let case = |name, peer, certificate, path| Case { name, peer: Some(peer), certificate, path };
    let cases = [
        case("dot", &dotted, &of_dotted, "/status/251"),
        case("dot", &dotted, &of_dotted, "/status/252"),
        case("letter", &other, &of_other, "/status/251"),
        case("letter", &other, &of_other, "/status/252"),
        case("letter", &other, &of_other, "/status/299"),
    ];
    judge_peers(server, &format!("{SUITE}/CVE-2026-39350"), requirement, &cases).await
}

/// CVE-2025-66220 and CVE-2026-47778: a name that goes on behind a NUL byte is not the name before that byte.
///
/// Seen red by: a certificate with the name before the byte only, which is what a reader sees that stops there.
async fn a_name_that_goes_on_behind_a_nul_byte_is_another_name() -> Verdict {
    Scope::run(SUITE, "a_name_that_goes_on_behind_a_nul_byte_is_another_name", async |scope| {
        scope.requires(REQUIRED)?;
        scope.requires([Requirement::SigningKeys])?;
        let victim = |cluster: &Cluster| SpiffeId::workload(scope.testbed.trust.domain(), "shop", cluster.name());
        let made = servers(scope, "nul", &[], |owner, namespace| {
            let named = victim(owner).to_string().trim_start_matches("spiffe://").to_owned();
            let spec = json!({ "rules": [{ "from": [{ "source": { "principals": [named] } }] }] });
            Ok(Setup::new(vec![Policy::parse(namespace, "victim", spec).map_err(Error::suite)?]))
        })
        .await?;
        let judging = made.iter().map(async |server| {
            let cluster = &server.workload.cluster;
            let (victim, minter) = (victim(cluster), intermediate_of(&scope.testbed, cluster.name())?);
            let (odd, own) = (minter.mint_odd(&victim, Oddity::NulInName)?, minter.mint(&victim, Validity::Now)?);
            let cases = [
                Case { name: "nul", peer: None, certificate: &odd, path: "/status/251" },
                Case { name: "own", peer: Some(&victim), certificate: &own, path: "/status/251" },
            ];
            let requirement = "a policy about an identity is about no longer name";
            let claims = judge_peers(server, &format!("{SUITE}/CVE-2026-47778"), requirement, &cases).await?;
            claims.into_iter().for_each(|claim| scope.claim(claim));
            Ok::<_, Error>(())
        });
        try_join_all(judging).await.map(drop)
    })
    .await
}

/// CVE-2026-31837: where istiod cannot fetch the keys of an issuer, no token of that issuer counts.
///
/// Seen red by: the keys of the forger in place of `jwksUri`, which is what the flaw amounts to: a signing key that is known.
async fn without_the_keys_of_an_issuer_its_tokens_are_refused() -> Verdict {
    Scope::run(SUITE, "without_the_keys_of_an_issuer_its_tokens_are_refused", async |scope| {
        scope.requires(REQUIRED)?;
        let (callers, issuer) = (Caller::meshed(scope).await?, Issuer::new("lost.meshproof.test", "lost")?);
        let made = servers(scope, "lost-keys", &callers[..1], |_, namespace| {
            let authentication = json!({
                "apiVersion": "security.istio.io/v1", "kind": "RequestAuthentication",
                "metadata": { "name": "lost", "namespace": namespace },
                "spec": { "jwtRules": [{
                    "issuer": issuer.name, "audiences": [AUDIENCE], "jwksUri": "https://nowhere.meshproof.test/keys",
                }] },
            });
            Ok(Setup { objects: vec![authentication], ..Setup::new(Vec::new()) })
        })
        .await?;
        let token = issuer.token("ann", When::Now, json!({}))?;
        let asks = [
            Ask::get("none", "/status/251"),
            Ask::get("unknown-key", "/status/251").with_token(&token, Presented::Refused(401)),
        ];
        let cells = asks.map(|ask| Cell { row: "CVE-2026-31837", ask });
        let judging = made.iter().map(async |server| {
            claim_all(scope, &[], judge(scope, server, &callers[..1], &cells, Spoken::Http1).await?);
            let listeners = server.workload.proxy_admin("config_dump?resource=dynamic_listeners").await?;
            // A set with a private part is one that everybody can sign with.
            let has_private_part = listeners.contains("\\\"d\\\":");
            let requirement = "a proxy has no private key of an issuer";
            let id = format!("{SUITE}/CVE-2026-31837/keys/{}", server.workload.cluster.name());
            scope.claim(Claim::about(id, requirement).to(&server.workload).equals(&false, &has_private_part));
            Ok::<_, Error>(())
        });
        try_join_all(judging).await.map(drop)
    })
    .await
}

/// CVE-2026-31838: a pod without the right identity does not get the configuration of other workloads from istiod.
///
/// Seen red by: a path that istiod answers to everybody, in place of a debug endpoint.
async fn debug_endpoints_of_the_control_plane_refuse_strangers() -> Verdict {
    Scope::run(SUITE, "debug_endpoints_of_the_control_plane_refuse_strangers", async |scope| {
        scope.requires([Requirement::Probes])?;
        let judge = async |cluster: &Arc<Cluster>| {
            let requirement = "the control plane tells strangers nothing of the workloads";
            let (istiod, naked) = futures::try_join!(control_plane(cluster), probe::naked(cluster))?;
            let place = HostPort::new(&istiod.address, DEBUG_PORT);
            let paths = ["/version", "/debug/syncz", "/debug/config_dump?proxyID=x", "/debug/endpointz", "/debug/adsz"];
            let dials = paths.map(|path| {
                RawRequest::new("GET", &place.to_string(), path).dial(format!("{}{path}", cluster.name()), &place)
            });
            let exchanges = Vantage::Naked(naked).dial(dials.into()).await?;
            let exchanges: Vec<Exchange> = exchanges.into_iter().map(Exchange::with_status).collect();
            let id = format!("{SUITE}/CVE-2026-31838");
            for refused in &exchanges[1..] {
                let how = Expected::Http(401);
                scope.claim(claims::denied(&id, requirement, refused, how, &exchanges[0], None));
            }
            Ok(())
        };
        scope.for_each(&scope.testbed.clusters, |cluster| cluster.name().to_owned(), judge).await;
        Ok(())
    })
    .await
}

/// CVE-2022-23635: istiod survives what is no request, sent to its TLS port by a client without a certificate.
///
/// Seen red by: a restart counted between the two looks.
async fn the_control_plane_survives_malformed_input() -> Verdict {
    Scope::run(SUITE, "the_control_plane_survives_malformed_input", async |scope| {
        scope.requires([Requirement::Probes])?;
        let judge = async |cluster: &Arc<Cluster>| {
            let requirement = "the control plane survives malformed input of strangers";
            let (istiod, naked, meshed) =
                futures::try_join!(control_plane(cluster), probe::naked(cluster), probe::meshed(cluster))?;
            let before = restarts(&istiod).await?;
            let port = cluster.record().istio.control_plane.port;
            let inputs: [(&str, Vec<u8>); 4] = [
                ("noise", vec![0xff; 4096]),
                ("cut-hello", vec![0x16, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc]),
                ("plain-http2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec()),
                ("empty-record", vec![0x16, 3, 1, 0, 0]),
            ];
            let dials = inputs.map(|(name, bytes)| {
                let mut dial = dial(name, Protocol::Bytes, &istiod.address, port);
                dial.request = Some(probe::Request::Bytes { bytes, quiet_ms: 0, listen_ms: 500 });
                dial
            });
            let sent = Vantage::Naked(naked).dial(dials.into()).await?;
            // The control plane still issues certificates, and is the same process.
            issue(&scope.testbed, &meshed).await?;
            let after = restarts(&istiod).await?;
            let id = format!("{SUITE}/CVE-2022-23635/{}", cluster.name());
            let claim = Claim::about(id, requirement).to(&istiod).equals(&before, &after);
            let evidence = |exchange: &Exchange| format!("{}: {}", exchange.dial.id, exchange.outcome());
            scope.claim(sent.iter().fold(claim, |claim, exchange| claim.with_evidence(evidence(exchange))));
            Ok(())
        };
        scope.for_each(&scope.testbed.clusters, |cluster| cluster.name().to_owned(), judge).await;
        Ok(())
    })
    .await
}

async fn control_plane(cluster: &Arc<Cluster>) -> meshproof::cluster::Result<Workload> {
    let istio = &cluster.record().istio;
    Workload::find(cluster, &istio.namespace, &istio.control_plane.selector).await
}

/// How often the pod's containers were restarted.
async fn restarts(pod: &Workload) -> Result<i32> {
    let found = pod.cluster.api::<Pod>(&pod.namespace).get(&pod.pod).await;
    let found = found.map_err(pod.cluster.failed(format!("read pod {pod}")))?;
    let statuses = found.status.and_then(|status| status.container_statuses).unwrap_or_default();
    Ok(statuses.iter().map(|status| status.restart_count).sum())
}

crate::trials! {
    a_dot_in_the_name_of_an_account_is_a_dot,
    a_name_that_goes_on_behind_a_nul_byte_is_another_name,
    without_the_keys_of_an_issuer_its_tokens_are_refused,
    debug_endpoints_of_the_control_plane_refuse_strangers,
    the_control_plane_survives_malformed_input,
}
