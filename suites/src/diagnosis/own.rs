//! Faults of namespaces that the tests own.

use std::sync::Arc;
use std::time::Duration;

use meshproof::cluster::Pair;
use meshproof::istio::{await_endpoint, evidence_log, issue};
use meshproof::k8s_openapi::api::core::v1::Pod;
use meshproof::kube::runtime::watcher::Config;
use meshproof::probe::{self, Expected, Outcome, Phase, Protocol, Vantage, dial, handshake};
use meshproof::record::{HostPort, Requirement, Write};
use meshproof::report::{Claim, Layer};
use meshproof::scope::claims::{self, Peers};
use meshproof::scope::{CopiedProbe, copied_probe, deploy_probe};
use meshproof::{Cluster, Error, Scope, Seen, Verdict, Workload};
use serde_json::{Value, json};

use super::{Blame, Broken, SUITE, judge};

/// Longest wait for a pod that cannot run to have said so.
const CRASHED: Duration = Duration::from_secs(40);

/// Longest wait for a policy to reach a proxy.
const TOLD: Duration = Duration::from_secs(15);

/// A fault of a namespace of the test's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    PolicyMode,
    PortOverride,
    ExcludedPort,
    MissingSidecar,
    DestinationRule,
    AuthorizationPolicy,
    ServicePortName,
    EndpointsEmpty,
    ApplicationDown,
    NobodyListens,
}

/// Each fault is made in a namespace of its own. Red if the walk leaves out the layer, or comes to a later one first.
async fn a_fault(fault: Fault) -> Verdict {
    Scope::run(SUITE, format!("a_fault_{fault:?}"), async |scope| {
        scope.requires([Requirement::Probes, Requirement::AccessLog, Requirement::Write(Write::Namespaces)])?;
        let cluster = &scope.testbed.clusters[0];
        let place = Own { scope, cluster, namespace: &scope.injected_namespace(cluster, "broken").await? };
        let destination = place.deploy(fault).await?;
        let claim = match fault {
            Fault::PolicyMode | Fault::PortOverride | Fault::ExcludedPort | Fault::MissingSidecar => {
                place.plaintext(&destination).await?
            }
            _ => place.call(fault, &destination).await?,
        };
        let (layer, object) = place.to_blame(fault);
        let blame = Blame { layer, cluster: cluster.name().into(), object };
        judge(scope, &format!("{fault:?}"), &Broken { claim, blame }).await;
        Ok(())
    })
    .await
}

/// A namespace of the test's own.
struct Own<'a> {
    scope: &'a Scope,
    cluster: &'a Arc<Cluster>,
    namespace: &'a str,
}

impl Own<'_> {
    /// Deploys a probe with the fault.
    async fn deploy(&self, fault: Fault) -> Result<Workload, Error> {
        let Self { scope, cluster, namespace } = *self;
        let mut copy = copied_probe(cluster, namespace).await?;
        self.change(fault, &mut copy)?;
        for mut object in self.policies(fault)? {
            scope.apply(cluster, &mut object).await?;
        }
        let CopiedProbe { account, service, deployment } = &mut copy;
        for object in [account, service, deployment] {
            scope.apply(cluster, object).await?;
        }
        let selector = &probe::declared(cluster)?.meshed.selector;
        match fault {
            Fault::ApplicationDown => {
                let want = format!("a pod of {namespace} to have failed");
                let failed = cluster.await_pods(namespace, selector, want, CRASHED, |pods| {
                    let found = pods.iter().find(|pod| restarts(pod) > 0).and_then(|pod| Workload::of(cluster, pod));
                    found.map_or_else(|| Seen::NotYet("none".into()), Seen::Yes)
                });
                match failed.await {
                    // It failed for so long that the wait gave up on it.
                    Err(meshproof::cluster::Error::Stuck { .. }) => self.pod(selector).await,
                    failed => Ok(failed?),
                }
            }
            _ => Ok(Workload::await_ready(cluster, namespace, selector, CRASHED).await?),
        }
    }

    /// The only pod of the namespace, ready or not.
    async fn pod(&self, selector: &str) -> Result<Workload, Error> {
        let want = format!("a pod of {}", self.namespace);
        let which = Config::default().labels(selector);
        let pods = self.cluster.api::<Pod>(self.namespace);
        let found = meshproof::cluster::watch_all(pods, which, want, TOLD, |pods| {
            let found = pods.iter().find_map(|pod| Workload::of(self.cluster, pod));
            found.map_or_else(|| Seen::NotYet("none".into()), Seen::Yes)
        });
        Ok(found.await?)
    }

    fn change(&self, fault: Fault, copy: &mut CopiedProbe) -> Result<(), Error> {
        let port = probe::port(self.cluster, Protocol::Http1)?;
        let template = &mut copy.deployment["spec"]["template"];
        match fault {
            Fault::ExcludedPort => {
                let name = "traffic.sidecar.istio.io/excludeInboundPorts";
                template["metadata"]["annotations"][name] = port.to_string().into();
            }
            Fault::MissingSidecar => template["metadata"]["labels"]["sidecar.istio.io/inject"] = "false".into(),
            // The probe ends at once: it knows no such command.
            Fault::ApplicationDown => template["spec"]["containers"][0]["args"] = json!(["no-such-command"]),
            Fault::EndpointsEmpty => copy.service["spec"]["selector"] = json!({ "app": "nobody" }),
            Fault::ServicePortName => rename(&mut copy.service, port),
            // The service leads to a port that nobody serves.
            Fault::NobodyListens => retarget(&mut copy.service, port),
            _ => {}
        }
        Ok(())
    }

    fn policies(&self, fault: Fault) -> Result<Vec<Value>, Error> {
        let namespace = self.namespace;
        let port = probe::port(self.cluster, Protocol::Http1)?;
        let object = |group: &str, kind: &str, name: &str, spec: Value| {
            json!({
                "apiVersion": format!("{group}.istio.io/v1"), "kind": kind, "spec": spec,
                "metadata": { "name": name, "namespace": namespace },
            })
        };
        let peer = |name: &str, spec: Value| object("security", "PeerAuthentication", name, spec);
        let log = self.cluster.record().istio.access_log.as_ref();
        let log = log.map(|log| evidence_log(log, "evidence", namespace, &probe::evidence_label()));
        let strict = peer("default", json!({ "mtls": { "mode": "STRICT" } }));
        let labels = probe::declared(self.cluster)?.meshed.labels().unwrap_or_default();
        let policies = match fault {
            Fault::PolicyMode => vec![peer("default", json!({ "mtls": { "mode": "PERMISSIVE" } }))],
            Fault::PortOverride => {
                let ports = json!({ port.to_string(): { "mode": "DISABLE" } });
                let spec = json!({ "selector": { "matchLabels": labels }, "portLevelMtls": ports });
                vec![strict, peer("port", spec)]
            }
            Fault::DestinationRule => {
                let host = format!("*.{namespace}.svc.{}", self.cluster.record().domain);
                let spec = json!({ "host": host, "trafficPolicy": { "tls": { "mode": "DISABLE" } } });
                vec![strict, object("networking", "DestinationRule", "plain", spec)]
            }
            Fault::AuthorizationPolicy => {
                vec![
                    strict,
                    object("security", "AuthorizationPolicy", "nobody", json!({ "action": "DENY", "rules": [{}] })),
                ]
            }
            _ => vec![strict],
        };
        Ok(policies.into_iter().chain(log).collect())
    }

    /// The claim that plaintext is refused.
    async fn plaintext(&self, destination: &Workload) -> Result<Claim, Error> {
        let port = probe::port(self.cluster, Protocol::Http1)?;
        let certificate = issue(&self.scope.testbed, &probe::meshed(self.cluster).await?).await?;
        let address = HostPort::new(&destination.address, port);
        let control = handshake("control", &address, None, Some(&certificate), Protocol::Http1);
        let plaintext = dial("plaintext", Protocol::Http1, &destination.address, port);
        let naked = Vantage::Naked(probe::naked(self.cluster).await?);
        // An excluded port has no proxy that could answer the control: plaintext is its own control here.
        let seen = naked.dial(vec![plaintext, control]).await?;
        let control = seen.iter().rev().find(|one| one.outcome().is_answered()).unwrap_or(&seen[1]);
        let owed = "a STRICT namespace takes no plaintext";
        Ok(claims::denied("broken", owed, &seen[0], Expected::Reset, control, Some(destination)))
    }

    /// The claim that a meshed caller of the cluster is answered over mutual TLS.
    async fn call(&self, fault: Fault, destination: &Workload) -> Result<Claim, Error> {
        let source = probe::caller(self.cluster).await?;
        let has_endpoint = !matches!(fault, Fault::EndpointsEmpty | Fault::ApplicationDown);
        if has_endpoint {
            await_endpoint(&source, destination).await?;
        }
        let port = probe::port(self.cluster, Protocol::Http1)?;
        let host = format!(
            "{}.{}.svc.{}",
            probe::declared(self.cluster)?.meshed.deployment,
            self.namespace,
            self.cluster.record().domain
        );
        let call = dial("call", Protocol::Http1, host, port);
        let seen = Vantage::Meshed(source.clone()).dial(vec![call]).await?;
        let between = Peers { source: &source, destination };
        Ok(match fault {
            Fault::ServicePortName => claims::mutual_tls("broken", &seen[0], None, between, &self.scope.testbed.trust),
            _ => claims::answered("broken", "a meshed caller is answered", &seen[0], destination),
        })
    }

    fn to_blame(&self, fault: Fault) -> (Layer, String) {
        let of = |kind: &str, name: &str| format!("{kind} {}/{name}", self.namespace);
        match fault {
            Fault::PolicyMode => (Layer::PeerAuthentication, of("PeerAuthentication", "default")),
            Fault::PortOverride => (Layer::PeerAuthentication, of("PeerAuthentication", "port")),
            Fault::ExcludedPort | Fault::MissingSidecar => (Layer::Sidecar, of("Deployment", "probe")),
            Fault::DestinationRule => (Layer::ClientTls, of("DestinationRule", "plain")),
            Fault::AuthorizationPolicy => (Layer::Authorization, of("AuthorizationPolicy", "nobody")),
            Fault::ServicePortName => (Layer::Service, of("Service", "probe")),
            Fault::EndpointsEmpty => (Layer::Endpoints, of("Service", "probe")),
            Fault::ApplicationDown | Fault::NobodyListens => (Layer::Application, of("Deployment", "probe")),
        }
    }
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    statuses.map(|container| container.restart_count).sum()
}

fn rename(service: &mut Value, port: u16) {
    for one in service["spec"]["ports"].as_array_mut().into_iter().flatten().filter(|one| one["port"] == port) {
        one["name"] = "tcp-web".into();
    }
}

fn retarget(service: &mut Value, port: u16) {
    for one in service["spec"]["ports"].as_array_mut().into_iter().flatten().filter(|one| one["port"] == port) {
        one["targetPort"] = 9.into();
    }
}

/// Red if a `Sidecar` that keeps a service from its callers is taken for another fault.
async fn a_fault_of_a_sidecars_scope() -> Verdict {
    Scope::run(SUITE, "a_fault_of_a_sidecars_scope", async |scope| {
        scope.requires([Requirement::Probes, Requirement::Write(Write::Namespaces)])?;
        let cluster = &scope.testbed.clusters[0];
        let namespace = scope.injected_namespace(cluster, "scoped").await?;
        let hosts = json!([format!("{}/*", cluster.record().istio.namespace)]);
        let mut sidecar = json!({
            "apiVersion": "networking.istio.io/v1", "kind": "Sidecar",
            "metadata": { "name": "scope", "namespace": namespace }, "spec": { "egress": [{ "hosts": hosts }] },
        });
        scope.apply(cluster, &mut sidecar).await?;
        let source = deploy_probe(scope, cluster, &namespace).await?;
        let destination = probe::meshed(cluster).await?;
        let call = dial("call", Protocol::Http1, probe::service_host(cluster)?, probe::port(cluster, Protocol::Http1)?);
        let seen = Vantage::Meshed(source).dial(vec![call]).await?;
        let claim = claims::answered("broken", "a meshed caller is answered", &seen[0], &destination);
        let object = format!("Sidecar {namespace}/scope");
        let blame = Blame { layer: Layer::Visibility, cluster: cluster.name().into(), object };
        judge(scope, "SidecarScope", &Broken { claim, blame }).await;
        Ok(())
    })
    .await
}

/// Red if a name that does not resolve in the caller's cluster is taken for another fault.
async fn a_fault_of_dns() -> Verdict {
    Scope::run(SUITE, "a_fault_of_dns", async |scope| {
        scope.requires([Requirement::Probes, Requirement::Clusters(2), Requirement::Write(Write::Namespaces)])?;
        let Some(Pair { from, to }) = scope.testbed.pairs().into_iter().find(Pair::crosses) else { return Ok(()) };
        let namespace = scope.injected_namespace(&to, "nameless").await?;
        let destination = deploy_probe(scope, &to, &namespace).await?;
        let host = format!("probe.{namespace}.svc.{}", to.record().domain);
        let call = dial("call", Protocol::Http1, host, probe::port(&to, Protocol::Http1)?);
        let seen = Vantage::Meshed(probe::caller(&from).await?).dial(vec![call]).await?;
        let claim = claims::answered("broken", "a meshed caller is answered", &seen[0], &destination);
        let blame =
            Blame { layer: Layer::Dns, cluster: from.name().into(), object: format!("Service {namespace}/probe") };
        judge(scope, "Dns", &Broken { claim, blame }).await;
        Ok(())
    })
    .await
}

/// Red if the diagnosis blames something where nothing is broken: the claim asks for the wrong pod.
async fn nothing_is_blamed_where_nothing_is_broken() -> Verdict {
    Scope::run(SUITE, "nothing_is_blamed", async |scope| {
        scope.requires([Requirement::Probes])?;
        for Pair { from, to } in scope.testbed.pairs() {
            let (source, destination) = (probe::caller(&from).await?, probe::meshed(&to).await?);
            let call = dial("call", Protocol::Http1, probe::service_host(&to)?, probe::port(&to, Protocol::Http1)?);
            let mut seen = Vantage::Meshed(source).dial(vec![call]).await?;
            // The mesh is as it must be. Only the report of the call is not.
            seen[0].report.outcome = Outcome::Timeout { phase: Phase::Response };
            let red = claims::answered("healthy", "a meshed caller is answered", &seen[0], &destination);
            let diagnosed = meshproof::diagnosis::diagnose(&scope.testbed, &[&red]).await;
            let id = format!("healthy/{}-to-{}", from.name(), to.name());
            let judged =
                Claim::about(id, "nothing is blamed where nothing is broken").equals(&Vec::new(), &diagnosed.causes);
            scope.claim(judged);
        }
        Ok(())
    })
    .await
}

crate::trials! {
    a_fault {
        of_the_policys_mode(Fault::PolicyMode),
        of_a_ports_policy(Fault::PortOverride),
        of_an_excluded_port(Fault::ExcludedPort),
        of_a_missing_sidecar(Fault::MissingSidecar),
        of_a_destination_rule(Fault::DestinationRule),
        of_an_authorization_policy(Fault::AuthorizationPolicy),
        of_the_name_of_a_services_port(Fault::ServicePortName),
        of_a_service_without_endpoints(Fault::EndpointsEmpty),
        of_an_application_that_does_not_run(Fault::ApplicationDown),
        of_an_application_that_does_not_listen(Fault::NobodyListens),
    },
    a_fault_of_a_sidecars_scope,
    a_fault_of_dns,
    nothing_is_blamed_where_nothing_is_broken,
}
