//! The walk over facts of two fictitious clusters: healthy, and with one fault each.

mod elsewhere;

use std::collections::BTreeMap;
use std::sync::Arc;

use rstest::rstest;
use serde_json::{Value, json};

use super::facts::ProxyFacts;
use super::*;
use crate::cluster::Cluster;
use crate::identity::trust::tests::mesh;
use crate::identity::{Certificate, SpiffeId, Validity};
use crate::istio::{Authorizing, Endpoint, Listening, ProxySecrets, Upstream, UpstreamTls};
use crate::policy::{PeerAuthentication, Policies};
use crate::record;
use crate::report::{Layer as L, Speaks};

const HOST: &str = "probe.shop.svc.cluster.local";

fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn pod(namespace: &str, name: &str, address: &str, labels: Value) -> k8s_openapi::api::core::v1::Pod {
    object(json!({
        "metadata": { "name": format!("{name}-7d9-x"), "namespace": namespace, "labels": labels, "ownerReferences": [
            { "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("{name}-7d9"), "uid": "u", "controller": true },
        ] },
        "spec": { "containers": [{ "name": "probe" }, { "name": "istio-proxy" }] },
        "status": {
            "phase": "Running", "podIPs": [{ "ip": address }], "conditions": [{ "type": "Ready", "status": "True" }],
        },
    }))
}

fn labels(app: &str) -> Value {
    json!({ "app": app, "pod-template-hash": "7d9" })
}

fn service() -> k8s_openapi::api::core::v1::Service {
    object(json!({
        "metadata": { "name": "probe", "namespace": "shop" },
        "spec": { "selector": { "app": "probe" }, "ports": [{ "name": "http", "port": 8080 }] },
    }))
}

fn slice() -> k8s_openapi::api::discovery::v1::EndpointSlice {
    object(json!({
        "metadata": { "name": "probe-1", "namespace": "shop", "labels": { "kubernetes.io/service-name": "probe" } },
        "addressType": "IPv4", "endpoints": [{ "addresses": ["10.2.0.9"], "conditions": { "ready": true } }],
    }))
}

fn cluster(name: &str, network: &str) -> Arc<Cluster> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let config = kube::Config::new("http://127.0.0.1:1/".parse().unwrap());
    let mut record = record::tests::cluster(name);
    record.network = network.into();
    let client = kube::Client::try_from(config).unwrap();
    Arc::new(Cluster::new(record, "/testbed/kubeconfig".into(), client, "v1.34.3".into()))
}

/// The facts of a cluster in which all is well. `away` has the pods.
fn facts_of(name: &str, peer: &str, network: &str) -> ClusterFacts {
    let synced = |name: &str| (name.to_owned(), "synced".to_owned());
    ClusterFacts {
        cluster: cluster(name, network),
        namespaces: BTreeMap::new(),
        services: vec![service()],
        slices: Vec::new(),
        pods: Vec::new(),
        deployments: Vec::new(),
        remote_secrets: Ok([(peer.to_owned(), format!("istio-remote-secret-{peer}"))].into()),
        seen: Ok([synced(name), synced(peer)].into()),
        policies: Policies::Known { root: "istio-system".into(), policies: vec![strict("STRICT")] },
        sidecars: Vec::new(),
        gateways: Ok(vec![object(json!({
            "metadata": { "name": "cross", "namespace": "istio-system" },
            "spec": { "selector": { "istio": "eastwestgateway" }, "servers": [
                { "tls": { "mode": "AUTO_PASSTHROUGH" }, "hosts": ["*.shop.svc.cluster.local"] },
            ] },
        }))]),
    }
}

fn strict(mode: &str) -> PeerAuthentication {
    let object = json!({
        "metadata": { "name": "default", "namespace": "shop" }, "spec": { "mtls": { "mode": mode } },
    });
    PeerAuthentication::of(&object).unwrap()
}

fn place(cluster: &str, namespace: &str, pod: &str) -> Place {
    Place { cluster: cluster.into(), namespace: namespace.into(), pod: format!("{pod}-7d9-x") }
}

/// The facts of a mesh in which all is well, the trust of the mesh, and a call across it.
struct Mesh {
    facts: Facts,
    trust: Trust,
    call: Call,
}

fn caller() -> Place {
    place("here", "shop", "caller")
}

fn destination() -> Place {
    place("there", "shop", "probe")
}

fn gateway() -> Place {
    place("there", "istio-system", "gateway")
}

fn healthy() -> Mesh {
    let (trust, minters) = mesh();
    let mut here = facts_of("here", "there", "network1");
    here.pods.push(pod("shop", "caller", "10.1.0.9", labels("caller")));
    let mut there = facts_of("there", "here", "network2");
    there.slices.push(slice());
    there.pods.push(pod("shop", "probe", "10.2.0.9", labels("probe")));
    let edge = json!({ "istio": "eastwestgateway", "pod-template-hash": "7d9" });
    there.pods.push(pod("istio-system", "gateway", "10.2.0.3", edge));
    let proxy = |account: &str| {
        let id = SpiffeId::workload(trust.domain(), "shop", account);
        let chain = minters[0].mint(&id, Validity::Now).unwrap().chain_pem;
        let chain = Certificate::all_from_pem("a chain", &chain).unwrap();
        let secrets = Ok(ProxySecrets { chain, roots: trust.roots().to_vec() });
        ProxyFacts { endpoints: Ok(Vec::new()), upstreams: BTreeMap::new(), listeners: Ok(Vec::new()), secrets }
    };
    let mut calling = proxy("caller");
    let upstream = Upstream { tls: UpstreamTls::Automatic, rule: None };
    calling.upstreams.insert((HOST.into(), 8080), Ok(Some(upstream)));
    let upstream_cluster = crate::istio::outbound_name(8080, HOST);
    let known = Endpoint { upstream_cluster, address: "10.0.0.3".into(), port: 15443, healthy: true, connections: 0 };
    calling.endpoints = Ok(vec![known]);
    let mut edge = proxy("gateway");
    let server_names = vec![crate::istio::sni_of(8080, HOST)];
    edge.listeners = Ok(vec![Listening { port: 15443, server_names, authorization: Vec::new() }]);
    let facts = Facts {
        clusters: [("here".to_owned(), here), ("there".to_owned(), there)].into(),
        proxies: [(caller(), calling), (destination(), proxy("probe")), (gateway(), edge)].into(),
        denials: BTreeMap::new(),
        silent: BTreeMap::new(),
    };
    let call = Call {
        source: Some(caller()),
        is_meshed: true,
        destination: Some(destination()),
        host: HOST.into(),
        port: 8080,
        server_name: None,
        speaks: Speaks::Http1,
        must: Must::Answer,
        ended: Ended::Otherwise,
    };
    Mesh { facts, trust, call }
}

impl Mesh {
    fn here(&mut self) -> &mut ClusterFacts {
        self.facts.clusters.get_mut("here").unwrap()
    }

    fn there(&mut self) -> &mut ClusterFacts {
        self.facts.clusters.get_mut("there").unwrap()
    }

    fn proxy(&mut self, place: &Place) -> &mut ProxyFacts {
        self.facts.proxies.get_mut(place).unwrap()
    }

    fn cause(&self) -> Option<Cause> {
        first(&Subject::Call(self.call.clone()), &self.facts, &self.trust)
    }
}

#[tokio::test]
async fn nothing_is_blamed_where_all_is_well() {
    assert_eq!(healthy().cause(), None);
}

type Break = fn(&mut Mesh);

#[rstest]
#[case(L::Dns, "Service shop/probe", |mesh: &mut Mesh| { mesh.here().services.clear(); mesh.call.ended = Ended::NoName; })]
#[case(L::Service, "Service shop/probe", |mesh: &mut Mesh| mesh.call.port = 81)]
#[case(L::Service, "Service shop/probe", |mesh: &mut Mesh| mesh.call.speaks = Speaks::Tcp)]
#[case(L::Endpoints, "Service shop/probe", |mesh: &mut Mesh| { mesh.there().slices.clear(); mesh.there().pods.clear(); })]
#[case(L::Visibility, "Service shop/probe", |mesh: &mut Mesh| {
    mesh.proxy(&caller()).upstreams.insert((HOST.into(), 8080), Ok(None));
})]
#[case(L::RemoteSecret, "Secret istio-system/istio-remote-secret-there", |mesh: &mut Mesh| {
    mesh.here().seen.as_mut().unwrap().remove("there");
    mesh.here().remote_secrets.as_mut().unwrap().clear();
})]
#[case(L::RemoteSecret, "Secret istio-system/istio-remote-secret-there", |mesh: &mut Mesh| {
    mesh.here().seen.as_mut().unwrap().insert("there".into(), "syncing".into());
})]
#[case(L::ClientTls, "DestinationRule shop/plain", |mesh: &mut Mesh| {
    let plain = Upstream { tls: UpstreamTls::Plaintext, rule: Some("shop/plain".into()) };
    mesh.proxy(&caller()).upstreams.insert((HOST.into(), 8080), Ok(Some(plain)));
})]
#[case(L::RemoteSecret, "Secret istio-system/istio-remote-secret-there", |mesh: &mut Mesh| {
    mesh.proxy(&caller()).endpoints.as_mut().unwrap().clear();
})]
#[case(L::Network, "Service istio-system/istio-eastwestgateway", |mesh: &mut Mesh| {
    mesh.proxy(&caller()).endpoints.as_mut().unwrap()[0].address = "10.9.9.9".into();
})]
#[case(L::Network, "Service istio-system/istio-eastwestgateway", |mesh: &mut Mesh| {
    mesh.proxy(&caller()).endpoints.as_mut().unwrap().clear();
    mesh.there().services.push(object(json!({
        "metadata": { "name": "istio-eastwestgateway", "namespace": "istio-system" },
        "spec": { "type": "LoadBalancer" },
    })));
})]
#[case(L::Gateway, "Deployment istio-system/istio-eastwestgateway", |mesh: &mut Mesh| {
    mesh.there().pods.retain(|pod| pod.namespace().unwrap() != "istio-system");
})]
#[case(L::GatewayListener, "Gateway istio-system/cross", |mesh: &mut Mesh| {
    mesh.proxy(&gateway()).listeners.as_mut().unwrap().clear();
})]
#[case(L::Sni, "Gateway istio-system/cross", |mesh: &mut Mesh| {
    mesh.proxy(&gateway()).listeners.as_mut().unwrap()[0].server_names.clear();
})]
#[case(L::Sidecar, "Deployment shop/probe", |mesh: &mut Mesh| {
    mesh.there().pods[0].spec.as_mut().unwrap().containers.pop();
})]
#[case(L::Sidecar, "Deployment shop/probe", |mesh: &mut Mesh| {
    mesh.there().pods[0].spec.as_mut().unwrap().containers.pop();
    mesh.proxy(&caller()).endpoints.as_mut().unwrap().clear();
})]
#[case(L::Sidecar, "Deployment shop/caller", |mesh: &mut Mesh| {
    mesh.here().pods[0].spec.as_mut().unwrap().containers.pop();
})]
#[case(L::Sidecar, "Deployment shop/probe", |mesh: &mut Mesh| {
    let excluded = ("traffic.sidecar.istio.io/excludeInboundPorts".to_owned(), "8080".to_owned());
    mesh.there().pods[0].metadata.annotations = Some([excluded].into());
})]
#[case(L::Certificate, "Deployment shop/probe", |mesh: &mut Mesh| {
    mesh.proxy(&destination()).secrets.as_mut().unwrap().roots.clear();
})]
#[case(L::Certificate, "Deployment shop/caller", |mesh: &mut Mesh| {
    mesh.proxy(&caller()).secrets.as_mut().unwrap().chain.clear();
})]
#[case(L::PeerAuthentication, "PeerAuthentication shop/default", |mesh: &mut Mesh| {
    mesh.there().policies = Policies::Known { root: "istio-system".into(), policies: vec![strict("DISABLE")] };
})]
#[case(L::Authorization, "AuthorizationPolicy shop/nobody", |mesh: &mut Mesh| {
    let rule = Authorizing { denies: true, policy: "shop/nobody".into(), ports: Vec::new() };
    let inbound = Listening { port: 15006, server_names: Vec::new(), authorization: vec![rule] };
    mesh.proxy(&destination()).listeners = Ok(vec![inbound]);
    mesh.call.ended = Ended::Denied;
})]
#[case(L::Application, "Deployment shop/probe", |mesh: &mut Mesh| {
    mesh.there().slices.clear();
    mesh.there().pods[0].status.as_mut().unwrap().conditions = None;
})]
#[case(L::Application, "Deployment shop/probe", |mesh: &mut Mesh| {
    mesh.facts.silent.insert(destination(), vec![8080]);
})]
#[tokio::test]
async fn the_first_layer_that_is_not_as_it_must_be_is_named(
    #[case] layer: L,
    #[case] blamed: &str,
    #[case] breaks: Break,
) {
    let mut mesh = healthy();
    breaks(&mut mesh);
    let cause = mesh.cause().expect("a cause");
    assert_eq!((cause.layer, cause.object.as_str()), (layer, blamed), "{cause}");
}

#[tokio::test]
async fn of_two_faults_the_one_nearer_to_the_caller_is_named() {
    let mut mesh = healthy();
    mesh.there().pods[0].spec.as_mut().unwrap().containers.pop();
    mesh.here().seen.as_mut().unwrap().remove("there");
    assert_eq!(mesh.cause().unwrap().layer, L::RemoteSecret);
}

#[rstest]
#[case("probe")]
#[case("probe.shop")]
#[case("probe.shop.svc")]
#[tokio::test]
async fn a_name_may_be_relative_to_the_callers_namespace(#[case] host: &str) {
    let mut mesh = healthy();
    mesh.call.host = host.into();
    assert_eq!(mesh.cause(), None);
    mesh.proxy(&caller()).upstreams.insert((HOST.into(), 8080), Ok(None));
    assert_eq!(mesh.cause().unwrap().layer, L::Visibility);
}

#[rstest]
#[case("probe.shop", Some("shop"))]
#[case("probe.shop.svc", Some("shop"))]
#[case(HOST, Some("shop"))]
#[case("probe", None)]
#[case("probe.shop.acme.demo", None)]
fn the_namespace_of_a_name_is_read(#[case] host: &str, #[case] namespace: Option<&str>) {
    assert_eq!(namespace_of(host).as_deref(), namespace);
}

#[tokio::test]
async fn what_is_unknown_is_not_blamed() {
    let mut mesh = healthy();
    mesh.here().seen = Err("no port-forward".into());
    mesh.here().policies = Policies::Unknown { reason: "403".into() };
    mesh.facts.proxies.clear();
    assert_eq!(mesh.cause(), None);
}

/// Plaintext that was answered: only the destination can be to blame, whatever else is wrong on the way.
#[tokio::test]
async fn for_an_answer_that_should_have_been_a_refusal_the_policy_in_effect_is_named() {
    let mut mesh = healthy();
    mesh.call.source = None;
    (mesh.call.is_meshed, mesh.call.must, mesh.call.ended) = (false, Must::Refuse, Ended::Answered);
    assert_eq!(mesh.cause(), None, "the mode is STRICT");
    mesh.there().policies = Policies::Known { root: "istio-system".into(), policies: vec![strict("PERMISSIVE")] };
    mesh.here().seen.as_mut().unwrap().remove("there");
    let cause = mesh.cause().unwrap();
    assert_eq!((cause.layer, cause.object.as_str()), (L::PeerAuthentication, "PeerAuthentication shop/default"));
}

/// A caller with a certificate is let in by a policy, or for the lack of one, and never by the mode.
#[tokio::test]
async fn for_a_known_caller_that_should_have_been_refused_the_authorization_policy_is_named() {
    let mut mesh = healthy();
    (mesh.call.must, mesh.call.ended) = (Must::Refuse, Ended::Answered);
    mesh.there().policies = Policies::Known { root: "istio-system".into(), policies: vec![strict("PERMISSIVE")] };
    assert_eq!(mesh.cause(), None, "there is no authorization policy");
    let rule = |denies, policy: &str| Authorizing { denies, policy: policy.into(), ports: Vec::new() };
    let mut with = |rules: &[Authorizing]| {
        let inbound = Listening { port: 15006, server_names: Vec::new(), authorization: rules.to_vec() };
        mesh.proxy(&destination()).listeners = Ok(vec![inbound]);
        let cause = mesh.cause().unwrap();
        (cause.layer, cause.object, cause.finding)
    };
    let (deny, allow) = (rule(true, "shop/nobody"), rule(false, "shop/some"));
    let named =
        |name: &str, finding: &str| (L::Authorization, format!("AuthorizationPolicy {name}"), finding.to_owned());
    assert_eq!(with(std::slice::from_ref(&deny)), named("shop/nobody", "no rule of shop/nobody denies the call"));
    assert_eq!(with(&[deny, allow]), named("shop/some", "a rule of shop/some allows the call"));
    // In plaintext the caller is unknown, and the mode lets it in.
    let plain = Upstream { tls: UpstreamTls::Plaintext, rule: None };
    mesh.proxy(&caller()).upstreams.insert((HOST.into(), 8080), Ok(Some(plain)));
    assert_eq!(mesh.cause().unwrap().layer, L::PeerAuthentication);
}

#[tokio::test]
async fn pods_that_are_not_ready_are_explained_without_a_call() {
    let mut mesh = healthy();
    mesh.there().pods[0].status.as_mut().unwrap().conditions = None;
    let (cluster, namespace, selector) = ("there".into(), "shop".into(), "app=probe".into());
    let cause = first(&Subject::Pods { cluster, namespace, selector }, &mesh.facts, &mesh.trust).unwrap();
    assert_eq!((cause.layer, cause.object.as_str()), (L::Application, "Deployment shop/probe"));
}
