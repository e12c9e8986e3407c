//! Cases from the field that are no cell of the table.

use std::sync::Arc;

use meshproof::istio::{await_mode, await_services, configuration, inbound, issue};
use meshproof::kube::api::{Api, ApiResource, DeleteParams, DynamicObject};
use meshproof::kube::core::GroupVersionKind;
use meshproof::policy::Mode;
use meshproof::probe::{self, Dial, Exchange, Expected, Outcome, Phase, Protocol, Request, Vantage, dial, handshake};
use meshproof::record::{HostPort, Requirement, Write};
use meshproof::report::{Claim, Judgement};
use meshproof::scope::{ProbePlan, claims, deploy_probe, deploy_probes};
use meshproof::{Cluster, Error, Scope, Verdict, Workload};
use serde_json::{Value, json};

use super::SUITE;

fn policy(namespace: &str, name: &str, app: &str, mode: &str) -> Value {
    json!({
        "apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
        "metadata": { "name": name, "namespace": namespace },
        "spec": { "selector": { "matchLabels": { "app": app } }, "mtls": { "mode": mode } },
    })
}

async fn delete_policy(cluster: &Cluster, namespace: &str, name: &str) -> Result<(), Error> {
    let kind = GroupVersionKind::gvk("security.istio.io", "v1", "PeerAuthentication");
    let resource = ApiResource::from_gvk_with_plural(&kind, "peerauthentications");
    let policies: Api<DynamicObject> = Api::namespaced_with(cluster.client(), namespace, &resource);
    let deleted = policies.delete(name, &DeleteParams::default()).await;
    Ok(deleted.map(drop).map_err(cluster.failed(format!("delete PeerAuthentication {namespace}/{name}")))?)
}

/// A2. Of two policies for one workload the oldest counts, and the one that is made anew becomes the youngest: the
/// verdict follows.
///
/// Red if the policy is changed in place of being made anew (its age stays), or if the model goes by names.
async fn a_policy_that_is_made_anew_is_the_youngest() -> Verdict {
    Scope::run(SUITE, "a_policy_that_is_made_anew_is_the_youngest", async |scope| {
        scope.requires([Requirement::Probes, Requirement::Write(Write::Namespaces)])?;
        let judge = async |cluster: &Arc<Cluster>| made_anew(scope, cluster).await;
        scope.for_each(&scope.testbed.clusters, |cluster| cluster.name().to_owned(), judge).await;
        Ok(())
    })
    .await
}

async fn made_anew(scope: &Scope, cluster: &Arc<Cluster>) -> Result<(), Error> {
    let namespace = scope.injected_namespace(cluster, &format!("anew-{}", cluster.name())).await?;
    let plan = ProbePlan { name: "cart".into(), ..ProbePlan::default() };
    let port = probe::port(cluster, Protocol::Http1)?;
    // A proxy has filter chains for the ports of services.
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "cart", "namespace": namespace },
        "spec": { "selector": { "app": "cart" }, "ports": [{ "name": "http", "port": port }] },
    });
    scope.apply_all(cluster, vec![service, policy(&namespace, "cart-z", "cart", "PERMISSIVE")]).await?;
    let server = deploy_probes(scope, cluster, &namespace, &[plan]).await?.remove(0);
    // Some seconds later: a pod has started meanwhile.
    scope.apply(cluster, &mut policy(&namespace, "cart-a", "cart", "STRICT")).await?;
    let naked = Vantage::Naked(probe::naked(cluster).await?);
    let id = |what: &str| format!("{what}/{}", cluster.name());
    let plaintext = async |what: &str| naked.dial(vec![dial(id(what), Protocol::Http1, &server.address, port)]).await;
    foretells(scope, cluster, &server, Mode::Permissive, "cart-z").await;
    await_mode(&server, port, Mode::Permissive).await?;
    let before = plaintext("before").await?;
    scope.claim(claims::answered("oldest", "the oldest policy counts, and it is PERMISSIVE", &before[0], &server));
    delete_policy(cluster, &namespace, "cart-z").await?;
    scope.apply(cluster, &mut policy(&namespace, "cart-z", "cart", "PERMISSIVE")).await?;
    await_mode(&server, port, Mode::Strict).await?;
    foretells(scope, cluster, &server, Mode::Strict, "cart-a").await;
    let certificate = issue(&scope.testbed, &server).await?;
    let address = HostPort::new(&server.address, port);
    let control = handshake(id("control"), &address, None, Some(&certificate), Protocol::Http1);
    let control = naked.dial(vec![control]).await?;
    let after = plaintext("after").await?;
    let owed = "the policy that was made anew is the youngest, and the other is STRICT";
    scope.claim(claims::denied("oldest", owed, &after[0], Expected::Reset, &control[0], Some(&server)));
    Ok(())
}

/// Claims that the model names this mode and this policy, for the objects that are there now.
async fn foretells(scope: &Scope, cluster: &Arc<Cluster>, server: &Workload, mode: Mode, policy: &str) {
    let labels = [("app".to_owned(), "cart".to_owned())].into();
    let policies = configuration(cluster).await.policies;
    let found = policies.effective(&server.namespace, &labels, 8080, &[8080].into());
    let seen = found.map(|found| (found.mode.to_string(), found.by)).unwrap_or_default();
    let claim =
        Claim::about(format!("oldest/foretold-{mode}/{}", cluster.name()), "the report names the policy in effect")
            .to(server)
            .expects(format!("{mode}, by {policy}"))
            .observes(
                &seen,
                |(mode, by)| format!("{mode}: {by}"),
                |(seen, by)| *seen == mode.to_string() && by.contains(policy),
            );
    scope.claim(claim);
}

/// A15. A client that waits for a server's greeting hears nothing from a PERMISSIVE port. That is no refusal: the same
/// port answers a client that speaks first. Only a reset shows STRICT.
///
/// Red if a timeout is taken for a refusal (`Expected::Reset` would be met by it), or if the namespaces are exchanged.
async fn silence_is_no_refusal() -> Verdict {
    Scope::run(SUITE, "silence_is_no_refusal", async |scope| {
        scope.requires([Requirement::Probes, Requirement::Write(Write::Namespaces)])?;
        let cluster = &scope.testbed.clusters[0];
        let namespace = scope.injected_namespace(cluster, "greeting").await?;
        let mut permissive = policy(&namespace, "permissive", "probe", "PERMISSIVE");
        scope.apply(cluster, &mut permissive).await?;
        let (open, strict) = (deploy_probe(scope, cluster, &namespace).await?, probe::meshed(cluster).await?);
        let port = probe::port(cluster, Protocol::ServerFirst)?;
        let certificate = issue(&scope.testbed, &strict).await?;
        let short = |dial: Dial| Dial { timeout_ms: 2_500, ..dial };
        let address = HostPort::new(&strict.address, port);
        let request = Request::Bytes { bytes: b"hello\n".to_vec(), quiet_ms: 100, listen_ms: 5_000 };
        let speaking = Dial { request: Some(request), ..dial("speaking", Protocol::Bytes, &open.address, port) };
        let dials = vec![
            short(dial("listening", Protocol::ServerFirst, &open.address, port)),
            speaking,
            dial("speaking-to-strict", Protocol::Tcp, &strict.address, port),
            handshake("control", &address, None, Some(&certificate), Protocol::ServerFirst),
        ];
        let seen = Vantage::Naked(probe::naked(cluster).await?).dial(dials).await?;
        let owed = "a client that waits for a greeting hears nothing where the proxy waits as well";
        let silent = |outcome: &Outcome| matches!(outcome, Outcome::Timeout { phase: Phase::Response });
        let claim = Claim::about("greeting/listening", owed).to(&open).expects("nothing came in time");
        scope.claim(claim.observes(seen[0].outcome(), ToString::to_string, silent));
        let owed = "the same port answers a client that speaks first, so the silence was no refusal";
        let told = |seen: &Exchange| seen.report.received.as_ref().is_some_and(|received| !received.unasked);
        let claim = Claim::about("greeting/speaking", owed).to(&open).expects("a greeting, once something was sent");
        scope.claim(claim.observes(&seen[1], |seen| seen.outcome().to_string(), told));
        let owed = "a STRICT port resets a client that speaks first";
        scope.claim(claims::denied("greeting", owed, &seen[2], Expected::Reset, &seen[3], Some(&strict)));
        let mutant = claims::denied("mutant", owed, &seen[0], Expected::Reset, &seen[1], Some(&open));
        assert_eq!(mutant.verdict(), Judgement::Fail, "silence is taken for a refusal: {mutant}");
        Ok(())
    })
    .await
}

/// Policies about HTTP, at a port whose protocol Istio is told, and at one whose protocol it must detect.
const AT: [&str; 2] = ["named", "detected"];

/// A policy about HTTP never lets through what it forbids, also at a port whose protocol is detected: where the server's
/// proxy takes the connection for TCP, the policy refuses everything.
///
/// Red if the forbidden requests are sent to the pods without a policy (`AT` with the suffix `-free`).
async fn a_policy_about_http_holds_at_a_port_whose_protocol_is_detected() -> Verdict {
    Scope::run(SUITE, "a_policy_about_http_at_a_detected_port", async |scope| {
        scope.requires([Requirement::Probes, Requirement::AccessLog, Requirement::Write(Write::Namespaces)])?;
        let cluster = &scope.testbed.clusters[0];
        let namespace = scope.injected_namespace(cluster, "detected").await?;
        let servers = detected_servers(scope, cluster, &namespace).await?;
        let caller = probe::caller(cluster).await?;
        let port = probe::port(cluster, Protocol::Http1)?;
        let host = |server: &str| format!("{server}.{namespace}.svc.{}", cluster.record().domain);
        let names = servers.iter().map(|(name, _)| format!("outbound|{port}||{}", host(name))).collect();
        await_services(&caller, &names).await?;
        let ask = |server: &str, path: &str| Dial {
            path: Some(path.into()),
            ..dial(format!("{server}{path}"), Protocol::Http1, host(server), port)
        };
        let mut dials = Vec::new();
        for (name, _) in &servers {
            dials.extend([ask(name, "/whoami"), ask(name, "/status/202")]);
        }
        let seen = Vantage::Meshed(caller).dial(dials).await?;
        for ((name, server), pair) in servers.iter().zip(seen.chunks(2)) {
            let (allowed, forbidden) = (&pair[0], &pair[1]);
            let said = format!("GET /whoami: {}; GET /status/202: {}", allowed.outcome(), forbidden.outcome());
            let logged = inbound(&pair[..1], server).await?;
            let as_http = logged[0].as_ref().is_some_and(|entry| entry.get("path").is_some());
            let evidence = format!(
                "{said}; the server's proxy took it for {}",
                if as_http { "HTTP" } else { "TCP, or refused it" }
            );
            let id = format!("detected/{name}");
            let claim = if name.ends_with("-free") {
                let answered = allowed.outcome().is_answered() && forbidden.outcome().is_answered();
                Claim::about(id, "a port without a policy answers").expects("both answered").observes(
                    &answered,
                    |_| said,
                    |all| *all,
                )
            } else {
                let refused = matches!(forbidden.outcome(), Outcome::Http { status: 403 | 503, .. });
                let owed = "a policy about HTTP never lets through what it forbids, whatever the port is taken for";
                Claim::about(id, owed).expects("GET /status/202 is refused").observes(
                    &refused,
                    |_| said,
                    |refused| *refused,
                )
            };
            scope.claim(claim.with_evidence(evidence));
        }
        Ok(())
    })
    .await
}

/// For each kind of port, a server without a policy, one whose policy allows a path, and one whose policy denies another.
async fn detected_servers(
    scope: &Scope,
    cluster: &Arc<Cluster>,
    namespace: &str,
) -> Result<Vec<(String, Workload)>, Error> {
    let names: Vec<String> =
        AT.iter().flat_map(|at| ["free", "allow", "deny"].map(|rule| format!("{at}-{rule}"))).collect();
    let mut objects = Vec::new();
    for name in &names {
        let port = if name.starts_with("named") { "http" } else { "any" };
        let number = probe::port(cluster, Protocol::Http1)?;
        let metadata = json!({ "name": name, "namespace": namespace });
        objects.push(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": metadata,
            "spec": { "selector": { "app": name }, "ports": [{ "name": port, "port": number }] },
        }));
        let (action, path) = if name.ends_with("allow") { ("ALLOW", "/whoami") } else { ("DENY", "/status/202") };
        if !name.ends_with("free") {
            objects.push(json!({
                "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": metadata,
                "spec": {
                    "selector": { "matchLabels": { "app": name } }, "action": action,
                    "rules": [{ "to": [{ "operation": { "paths": [path] } }] }],
                },
            }));
        }
    }
    if let Some(log) = &cluster.record().istio.access_log {
        objects.push(meshproof::istio::evidence_log(log, "evidence", namespace, &probe::evidence_label()));
    }
    scope.apply_all(cluster, objects).await?;
    let plans: Vec<ProbePlan> =
        names.iter().map(|name| ProbePlan { name: name.clone(), ..ProbePlan::default() }).collect();
    let ready = deploy_probes(scope, cluster, namespace, &plans).await?;
    Ok(names.into_iter().zip(ready).collect())
}

crate::trials! {
    a_policy_that_is_made_anew_is_the_youngest,
    silence_is_no_refusal,
    a_policy_about_http_holds_at_a_port_whose_protocol_is_detected,
}
