//! What a test places into the application's namespace: the evidence log at every proxy, and the least-privilege policies.

use std::time::Duration;

use futures::future::try_join_all;
use serde_json::{Value, json};

use super::NAMESPACE;
use super::edges::{Edge, logged_within};
use super::reach::{self, CALLS, Call, PLACES, Reach, calls};
use crate::cluster;
use crate::cluster::Workload;
use crate::cluster::{Seen, eventually};
use crate::istio::AccessEntry;
use crate::probe::{Exchange, Expected};
use crate::report::Claim;
use crate::scope::Scope;
use crate::scope::{Error, Result};

/// How long a proxy may take to be given a new configuration.
const CONFIGURED: Duration = Duration::from_secs(30);

/// Bound on the draining of older connections: Envoy's default is 45 s, `up` sets less.
const DRAINED: Duration = Duration::from_secs(75);

/// Proxies flush their logs every second.
const FLUSHED: Duration = Duration::from_secs(6);

/// Where a proxy tells how it listens.
const LISTENERS: &str = "config_dump?resource=dynamic_listeners";

/// Who may call what, by identity; `cluster.local` stands for the mesh's trust domain.
const AUTHORIZATION: &str = include_str!("../../fixtures/boutique/authorization.yaml");

/// Label of every pod of the application.
const PART_OF: (&str, &str) = ("app.kubernetes.io/part-of", "boutique");

/// Switches the evidence log on at every proxy of the application until the test ends; returns when all have it. It is off
/// otherwise: two certificates a line are too much under load.
///
/// # Errors
/// Where it cannot be placed, or a proxy does not take it in time.
pub async fn log_both_ends(scope: &Scope) -> Result<()> {
    for cluster in &scope.testbed.clusters {
        let telemetry = json!({
            "apiVersion": "telemetry.istio.io/v1",
            "kind": "Telemetry",
            "metadata": {"name": "meshproof-evidence-boutique", "namespace": NAMESPACE},
            "spec": {
                "selector": {"matchLabels": {PART_OF.0: PART_OF.1}},
                "accessLogging": [{"providers": [{"name": "meshproof-evidence"}]}],
            },
        });
        scope.place(cluster, telemetry).await?;
    }
    // A field that only this log has.
    configured(scope, "the evidence log", |_| Some("downstream_peer_cert".into())).await?;
    // Connections made before are logged as the configuration was then, until they are drained.
    Ok(eventually("no connection to be left that is not logged", DRAINED, async || {
        let unlogged: Vec<String> =
            logged_within(&scope.testbed, FLUSHED).await?.iter().filter_map(Edge::unlogged).collect();
        Ok::<_, Error>(if unlogged.is_empty() { Seen::Yes(()) } else { Seen::NotYet(unlogged.join(", ")) })
    })
    .await?)
}

/// Applies the least-privilege policies until the test ends, each where its workload is; returns when every proxy has
/// them.
///
/// # Errors
/// Where one cannot be placed, or a proxy does not take it in time.
pub async fn restrict(scope: &Scope) -> Result<()> {
    for policy in policies(scope.testbed.trust.domain())? {
        let workload = policy.pointer("/spec/selector/matchLabels/app").and_then(Value::as_str).unwrap_or_default();
        let home = super::cluster_of(workload).unwrap_or_default();
        scope.place(scope.testbed.cluster(home)?, policy).await?;
    }
    // A policy without rules leaves no name in the proxy's configuration; nothing listens behind the load generator.
    configured(scope, "its policy", |name| {
        (name != "loadgenerator").then(|| format!("ns[{NAMESPACE}]-policy[{name}]-rule[0]"))
    })
    .await
}

fn policies(trust_domain: &str) -> Result<Vec<Value>> {
    let malformed = |reason: String| Error::suite(format!("fixtures/boutique/authorization.yaml: {reason}"));
    let text = AUTHORIZATION.replace("- cluster.local/", &format!("- {trust_domain}/"));
    serde_saphyr::from_multiple(&text).map_err(|error| malformed(error.to_string()))
}

/// Removes what [`log_both_ends`] or [`restrict`] placed, and returns when no proxy has it any more. The next test then begins
/// with connections that no proxy is about to end.
///
/// # Errors
/// Where something cannot be removed, or a proxy does not let go of it in time.
pub async fn remove_placed(scope: &Scope) -> Result<()> {
    scope.remove_placed().await?;
    let marks = ["downstream_peer_cert".to_owned(), format!("ns[{NAMESPACE}]-policy[")];
    settled(scope, "neither log nor policy", |_, listeners| marks.iter().all(|mark| !listeners.contains(mark))).await
}

/// Waits until the configuration of every workload's proxy has in it what `mark` says.
async fn configured(scope: &Scope, what: &str, mark: impl Fn(&str) -> Option<String>) -> Result<()> {
    settled(scope, what, |name, listeners| mark(name).is_none_or(|mark| listeners.contains(&mark))).await
}

/// Waits until the configuration of every workload's proxy is as wanted and it has ended the connections made under an older
/// one: a call that is on one of those would be ended with it.
async fn settled(scope: &Scope, what: &str, wanted: impl Fn(&str, &str) -> bool) -> Result<()> {
    let waiting = PLACES.iter().map(async |(name, _)| {
        let pod = reach::workload(&scope.testbed, name).await?;
        eventually(format!("{what} at the proxy of {pod}"), CONFIGURED + DRAINED, async || {
            if !wanted(name, &pod.proxy_admin(LISTENERS).await?) {
                return Ok(Seen::NotYet("it has another configuration".into()));
            }
            let draining = pod.proxy_counts("listener_manager.total_.*_draining").await?;
            // That it says nothing is not that it drains nothing.
            let drained = !draining.is_empty() && draining.iter().all(|(_, count)| *count == 0);
            Ok::<_, cluster::Error>(if drained {
                Seen::Yes(())
            } else {
                Seen::NotYet(format!("draining: {draining:?}"))
            })
        })
        .await
    });
    try_join_all(waiting).await?;
    Ok(())
}

/// A call that the application has no need of.
#[derive(Debug)]
pub struct Stranger(Call);

/// Has every workload call every other that it has no need to call.
///
/// # Errors
/// Where a workload is missing, or does not report on its calls.
pub async fn strangers(scope: &Scope) -> Result<Vec<Stranger>> {
    // Redis cannot call; nothing listens behind the load generator.
    let callers = PLACES.iter().map(|(name, _)| *name).filter(|name| *name != "redis-cart");
    let asked = callers.map(|caller| {
        let needs = CALLS.iter().find(|(name, _)| *name == caller).map_or(&[][..], |(_, callees)| callees);
        let others = PLACES.iter().map(|(name, _)| *name).filter(|name| *name != caller && *name != "loadgenerator");
        (caller, others.filter(|name| !needs.contains(name)).collect())
    });
    Ok(calls(&scope.testbed, asked).await?.into_iter().map(Stranger).collect())
}

impl Stranger {
    /// Claims that the callee's proxy refused the call, while one that needs the callee was answered.
    pub fn claim(&self, controls: &[Call]) -> Claim {
        let Self(Call { name, caller, reach }) = self;
        let of_callee: Vec<_> = controls.iter().filter(|control| control.reach.callee == reach.callee).collect();
        let expected = match reach.callee.as_str() {
            "redis-cart" => "the connection ended by the proxy before a reply",
            "frontend" => "HTTP status 403",
            _ => "gRPC status PERMISSION_DENIED, by the proxy",
        };
        let kubectl = caller.cluster.command("kubectl");
        let requirement = "under least privilege no workload reaches one that it has no need of";
        let mut claim = Claim::about(format!("no-edge/{name}/{}", reach.callee), requirement)
            .from(caller)
            .to(&reach.address)
            .expects(expected)
            .observes(reach, |reach| reach.answer.to_string(), Reach::is_denied)
            .with_commands(vec![
                format!("{kubectl} -n {NAMESPACE} get authorizationpolicies"),
                format!("{kubectl} -n {NAMESPACE} exec {} -- /boutique check", caller.pod),
            ]);
        for control in &of_callee {
            claim = claim.with_evidence(format!("control: {} is answered with {}", control.name, control.reach.answer));
        }
        match of_callee.iter().find(|control| !control.reach.reached) {
            Some(Call { name, .. }) => {
                claim.with_fault(format!("the control, {name}, was not answered: the denial proves nothing"))
            }
            None if of_callee.is_empty() => claim.with_fault("there is no control, so the denial proves nothing"),
            None => claim,
        }
    }
}

/// Claims that plaintext to a workload was reset, and turned away by its own proxy, while a caller over mutual TLS was
/// answered.
pub fn no_plaintext(
    refused: &Exchange,
    (callee, account): (&Workload, Option<&AccessEntry>),
    controls: &[Call],
) -> Claim {
    let (name, control) = match controls.iter().find(|control| control.reach.callee == refused.dial.id) {
        Some(Call { name, reach, .. }) => (*name, reach.reached.then(|| reach.answer.to_string())),
        None => ("nobody", None),
    };
    let claim = Claim::about(format!("plaintext/{}", refused.dial.id), "no service of the application takes plaintext")
        .from(&refused.vantage)
        .to(format!("{callee} at {}", refused.destination()))
        .expects(Expected::Reset.to_string())
        .observes(refused.outcome(), ToString::to_string, |outcome| Expected::Reset.is_met_by(outcome))
        .with_commands(vec![format!("{} get peerauthentications -A", callee.cluster.command("kubectl"))]);
    let claim = match control {
        Some(answer) => claim.with_evidence(format!("control: over mutual TLS {name} is answered with {answer}")),
        None => claim.with_fault(format!("the control, {name}, was not answered: the denial proves nothing")),
    };
    match account.and_then(|account| account.get("response_code_details").or(account.get("response_flags"))) {
        Some(details) => claim.with_evidence(format!("the destination's proxy says {details}")),
        None => claim.with_fault("the destination's proxy does not say that it turned the connection away"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_policy_for_every_workload_and_of_the_meshs_trust_domain() {
        let policies = policies("mesh.example").unwrap();
        let mut named: Vec<&str> =
            policies.iter().filter_map(|policy| policy.pointer("/spec/selector/matchLabels/app")?.as_str()).collect();
        named.sort_unstable();
        let mut places: Vec<&str> = PLACES.iter().map(|(name, _)| *name).collect();
        places.sort_unstable();
        assert_eq!(named, places);
        let text = serde_json::to_string(&policies).unwrap();
        assert!(text.contains("mesh.example/ns/pinnacle/sa/frontend") && !text.contains("cluster.local"));
    }

    #[test]
    fn a_refusal_is_known_by_how_it_was_made() {
        let reach = |callee: &str, answer: Value| Reach {
            callee: callee.into(),
            address: String::new(),
            reached: false,
            answer,
            served_by: None,
            request_id: None,
            local_address: None,
        };
        let grpc = |code, message| json!({"kind": "grpc", "code": code, "message": message});
        assert!(reach("adservice", grpc("PermissionDenied", "RBAC: access denied")).is_denied());
        for other in [
            grpc("PermissionDenied", "the shop says no"),
            grpc("Unavailable", "no healthy upstream"),
            grpc("Ok", ""),
            json!({"kind": "timeout"}),
            json!({"kind": "transport", "error": "dns error: no such host"}),
            json!({"kind": "transport", "error": "connection reset by peer"}),
        ] {
            assert!(!reach("adservice", other.clone()).is_denied(), "{other}");
        }
        assert!(reach("redis-cart", json!({"kind": "transport", "error": "closed without a reply"})).is_denied());
        assert!(!reach("redis-cart", json!({"kind": "transport", "error": "Connection refused"})).is_denied());
        assert!(reach("frontend", json!({"kind": "http", "status": 403})).is_denied());
    }
}
