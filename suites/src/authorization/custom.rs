//! CUSTOM policies: an external authorizer decides, which is the probe of the server's cluster.

use futures::future::try_join_all;
use meshproof::istio::{Authorizer, authorization_config};
use meshproof::probe::{self, authorize};
use meshproof::{Cluster, Error, Result, Scope, Verdict, record};
use serde_json::{Value, json};

use super::SUITE;
use super::arena::{Caller, REQUIRED, Server, Setup, servers};
use super::judge::{Spoken, claim_all, judge};
use super::rows::{Ask, Row, cells, policies, row, to};

/// The extension providers by which the probe is an authorizer, over HTTP and over gRPC: fixtures/mesh/evidence-log.yaml.
pub(super) const HTTP: &str = "meshproof-authorizer-http";
pub(super) const GRPC: &str = "meshproof-authorizer-grpc";

/// Why all cells of a row may have one expectation.
const ONE_SIDED: &str = "`custom` is the counterpart";

/// A request that tells the authorizer these values, and the server that this authorizer must have decided.
fn said(name: &str, method: &'static str, values: &[&str], decided_by: &str) -> Ask {
    let ask = Ask { method, ..Ask::get(name, format!("?{}={decided_by}", authorize::OWED)) };
    values.iter().fold(ask, |ask, value| ask.with_header(authorize::HEADER, *value))
}

/// The rows of a server whose authorizer is `decider`.
fn rows(provider: &'static str, decider: &str) -> Vec<Row> {
    let asks = |decided_by: &str| {
        [
            said("silent", "GET", &[], decided_by),
            said("allow", "GET", &["allow"], decided_by),
            said("deny", "GET", &["deny"], decided_by),
            said("allow-and-deny", "GET", &["allow", "deny"], decided_by),
            said("forged", "GET", &["allow"], decided_by).with_header(authorize::DECIDED_BY, "forged"),
        ]
    };
    let of_get = |decided_by: &str| asks(decided_by).into_iter().filter(|ask| ask.name != "forged").collect::<Vec<_>>();
    let custom = |row: Row| row.of_provider(provider);
    let post = ["allow", "deny"].map(|word| said(&format!("post-{word}"), "POST", &[word], decider));
    vec![
        custom(row("custom", "CUSTOM", json!({}))).asking(asks(decider)),
        custom(to("custom-post", "CUSTOM", json!({ "methods": ["POST"] })))
            .asking(post.into_iter().chain(of_get(authorize::NOBODY))),
        custom(to("custom-elsewhere", "CUSTOM", json!({ "hosts": ["*.elsewhere.example"] })))
            .asking(of_get(authorize::NOBODY))
            .one_sided(ONE_SIDED),
        // CUSTOM comes before DENY, and DENY before ALLOW.
        custom(row("custom-deny", "CUSTOM", json!({})))
            .and(to("custom-deny-all", "DENY", json!({ "methods": ["GET"] })))
            .asking(asks(decider))
            .one_sided(ONE_SIDED),
        custom(row("custom-allow", "CUSTOM", json!({})))
            .and(to("custom-allow-post", "ALLOW", json!({ "methods": ["POST"] })))
            .asking(asks(decider))
            .one_sided(ONE_SIDED),
        custom(row("custom-deny-allow", "CUSTOM", json!({})))
            .and(to("custom-but-head", "DENY", json!({ "methods": ["HEAD"] })).and(to(
                "custom-get-head",
                "ALLOW",
                json!({ "methods": ["GET", "HEAD"] }),
            )))
            .asking(asks(decider).into_iter().chain([said("head", "HEAD", &["allow"], decider)])),
    ]
}

/// The authorizer allows and denies the requests that a CUSTOM policy is about, and is asked about no others. It comes
/// before DENY, and DENY before ALLOW. The header that it adds reaches the server, in place of a client's.
///
/// Red if a policy `custom…` is missing in the mesh, or if the provider has no `headersToUpstreamOnAllow`.
async fn an_external_authorizer_decides(provider: &'static str) -> Verdict {
    Scope::run(SUITE, format!("an_external_authorizer_decides::{}", over(provider)), async |scope| {
        scope.requires(REQUIRED)?;
        declared(scope, provider).await?;
        let (callers, deciders) = (Caller::meshed(scope).await?, deciders(scope).await?);
        let purpose = format!("custom-{}", over(provider));
        let made = servers(scope, &purpose, &callers, |owner, namespace| {
            Ok(Setup::new(policies(&rows(provider, decider(&deciders, owner)?), namespace)?))
        })
        .await?;
        let judging = made.iter().map(async |server| {
            let rows = rows(provider, decider(&deciders, &server.workload.cluster)?);
            at_server(scope, server, &callers, &rows).await
        });
        try_join_all(judging).await.map(drop)
    })
    .await
}

/// The same, over gRPC.
///
/// Seen red by: a probe without `CHECK_METHOD`, which allows nothing (`ext_authz_error`).
async fn an_external_authorizer_over_grpc_decides() -> Verdict {
    an_external_authorizer_decides(GRPC).await
}

/// An authorizer that cannot prove who it is is not asked, and nothing that it should decide about comes through.
///
/// Red if the rule `no-authorizer` is missing in the mesh: then the authorizer answers.
async fn without_its_authorizer_nothing_comes_through(provider: &'static str) -> Verdict {
    let name = format!("without_its_authorizer_nothing_comes_through::{}", over(provider));
    Scope::run(SUITE, name, async |scope| {
        scope.requires(REQUIRED)?;
        let addresses = declared(scope, provider).await?;
        let callers = Caller::meshed(scope).await?;
        let unanswered = |ask: Ask| Ask { is_unanswered: true, ..ask };
        let rows = vec![
            row("custom", "CUSTOM", json!({}))
                .of_provider(provider)
                .one_sided("`custom-post` is the counterpart")
                .asking(["allow", "deny"].map(|word| unanswered(said(word, "GET", &[word], authorize::NOBODY)))),
            to("custom-post", "CUSTOM", json!({ "methods": ["POST"] }))
                .of_provider(provider)
                .asking(["POST", "GET"].map(|method| unanswered(said(method, method, &["allow"], authorize::NOBODY)))),
        ];
        let made = servers(scope, &format!("away-{}", over(provider)), &callers, |owner, namespace| {
            let objects = vec![no_authorizer(&addresses, owner, namespace)?];
            Ok(Setup { objects, ..Setup::new(policies(&rows, namespace)?) })
        })
        .await?;
        try_join_all(made.iter().map(|server| at_server(scope, server, &callers, &rows))).await.map(drop)
    })
    .await
}

async fn at_server(scope: &Scope, server: &Server, callers: &[Caller], rows: &[Row]) -> Result<()> {
    let cells = cells(rows);
    // The probe sends no headers over HTTP/2 and gRPC, and no body by which to be asked for more than GET.
    let silent: Vec<_> =
        cells.iter().filter(|cell| cell.row == "custom" && cell.ask.headers.is_empty()).cloned().collect();
    let (by_http1, by_http2, by_grpc) = futures::try_join!(
        judge(scope, server, callers, &cells, Spoken::Http1),
        judge(scope, server, callers, &silent, Spoken::Http2),
        judge(scope, server, callers, &silent, Spoken::Grpc),
    )?;
    claim_all(scope, rows, by_http1);
    claim_all(scope, &[], by_http2);
    claim_all(scope, &[], by_grpc);
    Ok(())
}

/// A rule by which the proxies of `namespace` want an identity of the cluster's authorizer that nobody has.
pub(super) fn no_authorizer(declared: &[Declared], cluster: &Cluster, namespace: &str) -> Result<Value> {
    let found = declared.iter().find(|at| at.cluster == cluster.name());
    let Declared { service, .. } = found.ok_or_else(|| Error::suite("the cluster has no authorizer"))?;
    Ok(json!({
        "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
        "metadata": { "name": "no-authorizer", "namespace": namespace },
        "spec": {
            "host": service, "exportTo": ["."],
            "trafficPolicy": { "tls": {
                "mode": "ISTIO_MUTUAL", "subjectAltNames": ["spiffe://nobody.example/ns/none/sa/none"],
            } },
        },
    }))
}

/// Short name of a provider.
fn over(provider: &str) -> &str {
    provider.rsplit('-').next().unwrap_or(provider)
}

/// The authorizer of a cluster.
struct Decider {
    cluster: String,
    /// `CLUSTER/POD`.
    name: String,
}

async fn deciders(scope: &Scope) -> Result<Vec<Decider>> {
    let found = scope.testbed.clusters.iter().map(async |cluster| {
        let pod = probe::meshed(cluster).await?;
        Ok::<_, Error>(Decider { cluster: cluster.name().into(), name: format!("{}/{}", cluster.name(), pod.pod) })
    });
    try_join_all(found).await
}

fn decider<'a>(deciders: &'a [Decider], cluster: &Cluster) -> Result<&'a str> {
    let found = deciders.iter().find(|decider| decider.cluster == cluster.name());
    found.map(|decider| decider.name.as_str()).ok_or_else(|| Error::suite("the cluster has no authorizer"))
}

/// Where the authorizer of a cluster is.
pub(super) struct Declared {
    cluster: String,
    service: String,
}

/// Reads where each cluster's mesh configuration has the provider.
///
/// # Errors
/// Not declared: a mesh configuration lacks the provider, or the provider is no probe of ours.
pub(super) async fn declared(scope: &Scope, provider: &str) -> Result<Vec<Declared>> {
    let reading = scope.testbed.clusters.iter().map(async |cluster| {
        let probe = probe::service_host(cluster)?;
        let is_ours = |one: &Authorizer| {
            let service = &one.address.service;
            one.provider == provider
                && service.strip_prefix(probe).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let found = authorization_config(cluster).await?.authorizers.into_iter().find(is_ours);
        let Authorizer { address, .. } = found.ok_or_else(|| {
            let what = format!("an extension provider {provider} of {}, which is the probe {probe}", cluster.name());
            record::Error::not_declared(what)
        })?;
        Ok::<_, Error>(Declared { cluster: cluster.name().into(), service: address.service })
    });
    try_join_all(reading).await
}

crate::trials! {
    an_external_authorizer_decides {
        over_http(HTTP),
    },
    an_external_authorizer_over_grpc_decides,
    without_its_authorizer_nothing_comes_through {
        over_http(HTTP),
        over_grpc(GRPC),
    },
}
