//! Asks a control plane's injector what it makes of a pod, as the API server would. Nothing is created: the answer is a
//! patch. It tells what no configuration tells reliably: names, network, and how the proxy is put into a pod.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::{Container, Pod, Service};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use serde::Deserialize;
use serde_json::{Value, json};

use super::control_planes::ControlPlane;
use super::reader::Reader;
use super::webhooks;
use crate::cluster::http;
use crate::identity::Certificate;
use crate::istio;

/// Label with a pod's network.
const NETWORK: &str = "topology.istio.io/network";

/// What the injector adds to a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Injected {
    /// Name of the proxy's container.
    pub(super) container: String,
    pub(super) native_sidecar: bool,
    /// Whether an init container needs rights that Pod Security `restricted` refuses.
    pub(super) init_container: bool,
    pub(super) cluster: Option<String>,
    pub(super) network: Option<String>,
    pub(super) mesh_id: Option<String>,
    pub(super) trust_domain: Option<String>,
    /// Domain of services, such as `cluster.local`.
    pub(super) domain: Option<String>,
}

/// Asks the injector about a pod in the namespace `namespace`, which need not exist.
///
/// # Errors
/// The reason, as text.
pub(super) async fn ask(
    reader: &Reader,
    plane: &ControlPlane,
    istiod: &Pod,
    services: &[Service],
    namespace: &str,
) -> Result<Injected, String> {
    let webhook = plane.webhooks.iter().find(|webhook| webhook.service.is_some());
    let webhook = webhook.ok_or("no webhook asks it")?;
    let webhooks::Service { namespace: home, name, port, path } =
        webhook.service.as_ref().ok_or("no webhook asks it")?;
    let of_webhook =
        services.iter().find(|service| service.name_any() == *name && service.namespace().as_ref() == Some(home));
    let of_webhook = of_webhook.ok_or_else(|| format!("its Service {home}/{name} could not be read"))?;
    let port =
        pod_port(of_webhook, *port, istiod).ok_or_else(|| format!("Service {home}/{name} has no port {port}"))?;
    let pem = String::from_utf8(webhook.authorities.clone()).map_err(|_| "its caBundle is not PEM")?;
    let trusted = Certificate::all_from_pem("the webhook's caBundle", &pem).map_err(|error| error.to_string())?;
    let host = format!("{name}.{home}.svc");
    let answer = http::bounded(async {
        let stream = reader.connect(home, &istiod.name_any(), port).await?;
        let stream = istio::secured(stream, &trusted, &host, b"http/1.1").await?;
        http::post(stream, &host, path, review(namespace).to_string().into_bytes()).await
    });
    parse(&answer.await?)
}

/// The port of the pods behind a Service's port.
pub(super) fn pod_port(service: &Service, port: i32, pod: &Pod) -> Option<u16> {
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    let found = ports.into_iter().find(|one| one.port == port)?;
    match &found.target_port {
        None => u16::try_from(port).ok(),
        Some(IntOrString::Int(target)) => u16::try_from(*target).ok(),
        Some(IntOrString::String(name)) => {
            let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
            let mut named = containers.flat_map(|container| container.ports.iter().flatten());
            let named = named.find(|port| port.name.as_ref() == Some(name))?;
            u16::try_from(named.container_port).ok()
        }
    }
}

/// The question of an API server that is about to create a pod.
fn review(namespace: &str) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "meshproof", "operation": "CREATE", "namespace": namespace, "dryRun": true,
            "kind": { "group": "", "version": "v1", "kind": "Pod" },
            "resource": { "group": "", "version": "v1", "resource": "pods" },
            "object": {
                "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "probe", "labels": { "app": "probe" } },
                "spec": { "containers": [{ "name": "probe", "image": "probe" }] },
            },
        },
    })
}

#[derive(Deserialize)]
struct Review {
    response: Response,
}

#[derive(Deserialize)]
struct Response {
    allowed: bool,
    patch: Option<String>,
    #[serde(default)]
    status: Option<Value>,
}

/// An operation of a JSON patch.
#[derive(Deserialize)]
struct Operation {
    path: String,
    #[serde(default)]
    value: Value,
}

fn parse(answer: &str) -> Result<Injected, String> {
    let unreadable = |error: &dyn std::fmt::Display| format!("its answer is unreadable: {error}");
    let Review { response } = serde_json::from_str(answer).map_err(|error| unreadable(&error))?;
    if !response.allowed {
        return Err(format!("it refuses the pod: {}", response.status.unwrap_or_default()));
    }
    let patch = response.patch.ok_or("it adds nothing to a pod: is injection disabled?")?;
    let patch = STANDARD.decode(patch).map_err(|error| unreadable(&error))?;
    let patch: Vec<Operation> = serde_json::from_slice(&patch).map_err(|error| unreadable(&error))?;
    let (main, init) = (containers(&patch, "/spec/containers")?, containers(&patch, "/spec/initContainers")?);
    let is_native = |container: &&Container| container.restart_policy.as_deref() == Some("Always");
    let native = init.iter().filter(is_native).find(|container| is_proxy(container));
    let proxy = native.or_else(|| main.iter().find(|container| is_proxy(container)));
    let proxy = proxy.ok_or("it adds no proxy to a pod")?;
    let variable = |name: &str| {
        let found = proxy.env.iter().flatten().find(|variable| variable.name == name)?;
        found.value.clone().filter(|value| !value.is_empty())
    };
    Ok(Injected {
        container: proxy.name.clone(),
        native_sidecar: native.is_some(),
        init_container: init.iter().any(needs_rights),
        cluster: variable("ISTIO_META_CLUSTER_ID"),
        network: network(&patch).or_else(|| variable("ISTIO_META_NETWORK")),
        mesh_id: variable("ISTIO_META_MESH_ID"),
        trust_domain: variable("TRUST_DOMAIN"),
        domain: domain(proxy),
    })
}

/// How the proxy is in a running pod.
pub(super) fn running(pod: &Pod) -> Option<Injected> {
    let spec = pod.spec.as_ref()?;
    let init = spec.init_containers.as_deref().unwrap_or_default();
    let native = init.iter().find(|container| is_proxy(container));
    let proxy = native.or_else(|| spec.containers.iter().find(|container| is_proxy(container)))?;
    Some(Injected {
        container: proxy.name.clone(),
        native_sidecar: native.is_some(),
        init_container: init.iter().any(needs_rights),
        ..Injected::default()
    })
}

/// The containers that a patch puts at a path, one by one or as a list.
fn containers(patch: &[Operation], path: &str) -> Result<Vec<Container>, String> {
    let at = patch.iter().filter(|operation| {
        let rest = operation.path.strip_prefix(path);
        rest.is_some_and(|rest| rest.is_empty() || (rest.starts_with('/') && !rest[1..].contains('/')))
    });
    let values = at.flat_map(|operation| match &operation.value {
        Value::Array(values) => values.clone(),
        Value::Null => Vec::new(),
        value => vec![value.clone()],
    });
    let read = |value| serde_json::from_value(value).map_err(|error| format!("a container is unreadable: {error}"));
    values.map(read).collect()
}

fn is_proxy(container: &Container) -> bool {
    container.args.iter().flatten().any(|argument| argument == "sidecar")
}

fn needs_rights(container: &Container) -> bool {
    let Some(security) = &container.security_context else { return false };
    let added = security.capabilities.iter().flat_map(|capabilities| capabilities.add.iter().flatten());
    security.privileged == Some(true) || added.into_iter().next().is_some()
}

fn network(patch: &[Operation]) -> Option<String> {
    let path = format!("/metadata/labels/{}", NETWORK.replace('/', "~1"));
    let whole = patch.iter().find(|operation| operation.path == "/metadata/labels");
    let whole = whole.and_then(|operation| operation.value.get(NETWORK));
    let one = patch.iter().find(|operation| operation.path == path).map(|operation| &operation.value);
    one.or(whole)?.as_str().filter(|network| !network.is_empty()).map(str::to_owned)
}

/// The domain in `--domain $(POD_NAMESPACE).svc.DOMAIN`.
fn domain(proxy: &Container) -> Option<String> {
    let arguments = proxy.args.as_ref()?;
    let after = arguments.iter().position(|argument| argument == "--domain")? + 1;
    arguments.get(after)?.split_once(".svc.").map(|(_, domain)| domain.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(patch: &Value) -> String {
        let patch = STANDARD.encode(patch.to_string());
        json!({ "response": { "uid": "1", "allowed": true, "patch": patch } }).to_string()
    }

    fn proxy(extra: Value) -> Value {
        let mut container = json!({
            "name": "istio-proxy",
            "args": ["proxy", "sidecar", "--domain", "$(POD_NAMESPACE).svc.east.example"],
            "env": [
                { "name": "ISTIO_META_CLUSTER_ID", "value": "east" }, { "name": "ISTIO_META_MESH_ID", "value": "corp" },
                { "name": "TRUST_DOMAIN", "value": "corp.example" },
            ],
        });
        container.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        container
    }

    #[test]
    fn a_native_sidecar_with_a_privileged_init_container_is_read_from_one_list() {
        let init = json!({ "name": "istio-init", "securityContext": { "capabilities": { "add": ["NET_ADMIN"] } } });
        let patch = json!([
            { "op": "add", "path": "/metadata/labels/topology.istio.io~1network", "value": "vpc-east" },
            { "op": "add", "path": "/spec/initContainers", "value": [init, proxy(json!({ "restartPolicy": "Always" }))] },
        ]);
        let injected = parse(&answer(&patch)).unwrap();
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(
            injected,
            Injected {
                container: "istio-proxy".into(),
                native_sidecar: true,
                init_container: true,
                cluster: text("east"),
                network: text("vpc-east"),
                mesh_id: text("corp"),
                trust_domain: text("corp.example"),
                domain: text("east.example"),
            }
        );
    }

    #[test]
    fn a_container_added_one_by_one_beside_a_validating_init_container_is_no_native_sidecar() {
        let validation =
            json!({ "name": "istio-validation", "securityContext": { "capabilities": { "drop": ["ALL"] } } });
        let patch = json!([
            { "op": "add", "path": "/spec/containers/0", "value": proxy(json!({})) },
            { "op": "add", "path": "/spec/initContainers/0", "value": validation },
            { "op": "add", "path": "/spec/containers/1/env", "value": [{ "name": "X" }] },
        ]);
        let injected = parse(&answer(&patch)).unwrap();
        assert!(!injected.native_sidecar && !injected.init_container);
        assert_eq!(injected.network, None);
    }

    #[test]
    fn an_injector_that_adds_nothing_is_no_sidecar() {
        let nothing = json!({ "response": { "allowed": true } }).to_string();
        assert!(parse(&nothing).unwrap_err().contains("adds nothing"));
        let other = answer(&json!([{ "op": "add", "path": "/metadata/annotations", "value": {} }]));
        assert_eq!(parse(&other).unwrap_err(), "it adds no proxy to a pod");
        assert!(parse("oops").unwrap_err().contains("unreadable"));
    }
}
