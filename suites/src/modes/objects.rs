//! The objects of the table.

use std::collections::BTreeMap;

use meshproof::cluster::Cluster;
use meshproof::identity::ClientCertificate;
use meshproof::policy::ClientTls;
use meshproof::probe::Protocol;
use serde_json::{Value, json};

use super::rows::{Group, Row};

/// What a service adds to the container's port: so a policy that is keyed by the wrong one shows.
const SERVICE: u16 = 1_000;

/// What a service adds to the container's port for the port that no rule of a client names: the control's.
const OPEN: u16 = 2_000;

/// The service's port for a container's port.
pub(crate) fn service_port(port: u16) -> u16 {
    port + SERVICE
}

/// The service's port by which the control reaches a container's port, whatever rules say.
pub(crate) fn open_port(port: u16) -> u16 {
    port + OPEN
}

/// Directory in the proxies of clients with a certificate of their own.
const OWN: &str = "/etc/meshproof";

/// Name of the secret with that certificate.
const OWN_SECRET: &str = "own-certificate";

/// Label `app` of clients.
pub(crate) const CLIENT: &str = "client";

/// Puts a certificate that the mesh did not issue into the proxy of a pod with these annotations.
pub(crate) fn mount_own(annotations: &mut BTreeMap<String, String>) {
    let volume = json!({ "own": { "secret": { "secretName": OWN_SECRET } } });
    let mount = json!({ "own": { "mountPath": OWN, "readOnly": true } });
    annotations.insert("sidecar.istio.io/userVolume".into(), volume.to_string());
    annotations.insert("sidecar.istio.io/userVolumeMount".into(), mount.to_string());
}

/// The secret that [`mount_own`] mounts.
pub(crate) fn own_certificate(namespace: &str, own: &ClientCertificate) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": metadata(OWN_SECRET, namespace),
        "stringData": { "tls.crt": own.chain_pem, "tls.key": own.key_pem },
    })
}

/// A port of the probes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Port {
    pub(crate) protocol: Protocol,
    /// By which Istio knows the protocol.
    pub(crate) name: &'static str,
    pub(crate) number: u16,
}

fn metadata(name: &str, namespace: &str) -> Value {
    json!({ "name": name, "namespace": namespace })
}

/// The policy of a namespace.
pub(crate) fn of_namespace(group: &Group, namespace: &str) -> Option<Value> {
    let mode = group.mode?;
    Some(json!({
        "apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication", "metadata": metadata("default", namespace),
        "spec": { "mtls": { "mode": mode } },
    }))
}

/// The policies of a row. The oldest first.
pub(crate) fn of_row(row: &Row, namespace: &str) -> Vec<Value> {
    let policies = row.policies.iter().enumerate().map(|(age, policy)| {
        let ports: serde_json::Map<String, Value> =
            policy.ports.iter().map(|(port, mode)| (port.to_string(), json!({ "mode": mode }))).collect();
        let mut spec = json!({ "selector": { "matchLabels": { "app": row.name } }, "mtls": { "mode": policy.mode } });
        if !ports.is_empty() {
            spec["portLevelMtls"] = ports.into();
        }
        // The name of the younger sorts first, so that it is not the name that decides.
        let name = format!("{}-{}", row.name, ["z", "a"].get(age).copied().unwrap_or("b"));
        json!({
            "apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication", "metadata": metadata(&name, namespace),
            "spec": spec,
        })
    });
    policies.collect()
}

/// The service of a row, seen by the clients' namespaces only: other proxies need not know of it.
pub(crate) fn service(row: &Row, namespace: &str, ports: &[Port], seen_by: &[String], renamed: bool) -> Value {
    let port = |one: &Port, number: u16, suffix: &str| {
        let more = if renamed { "-api" } else { "" };
        json!({ "name": format!("{}{suffix}{more}", one.name), "port": number, "targetPort": one.number })
    };
    let ports: Vec<Value> = match row.headless {
        // A headless service has no port to translate: what is dialled is the pod's.
        true => ports.iter().map(|one| port(one, one.number, "")).collect(),
        false => {
            let both =
                |one: &Port| [port(one, service_port(one.number), ""), port(one, open_port(one.number), "-open")];
            ports.iter().flat_map(both).collect()
        }
    };
    let mut service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": metadata(&row.name, namespace),
        "spec": { "selector": { "app": row.name }, "ports": ports },
    });
    service["metadata"]["annotations"] = json!({ "networking.istio.io/exportTo": seen_by.join(",") });
    if row.headless {
        service["spec"]["clusterIP"] = "None".into();
    }
    service
}

/// A rule that sets how clients speak to the services' ports, and not to those of the controls.
pub(crate) fn rule(name: &str, namespace: &str, host: &str, mode: ClientTls, ports: &[Port], private: bool) -> Value {
    let mut tls = json!({ "mode": mode.to_string() });
    if mode == ClientTls::Mutual {
        tls["clientCertificate"] = format!("{OWN}/tls.crt").into();
        tls["privateKey"] = format!("{OWN}/tls.key").into();
    }
    if matches!(mode, ClientTls::Simple | ClientTls::Mutual) {
        // Otherwise the client's proxy refuses the server's certificate, and the server is never asked.
        tls["insecureSkipVerify"] = true.into();
    }
    let settings = |number: u16| json!({ "port": { "number": number }, "tls": tls });
    let settings: Vec<Value> =
        ports.iter().flat_map(|one| [settings(service_port(one.number)), settings(one.number)]).collect();
    let export = if private { "." } else { "*" };
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": metadata(name, namespace),
        "spec": { "host": host, "exportTo": [export], "trafficPolicy": { "portLevelSettings": settings } },
    })
}

/// Servers call nobody. So their proxies need no configuration of services, which keeps the mesh's pushes small.
pub(crate) fn calls_nobody(namespace: &str) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "Sidecar", "metadata": metadata("default", namespace),
        "spec": { "egress": [{ "hosts": ["~/*"] }] },
    })
}

/// Clients in a namespace of servers call these servers.
pub(crate) fn calls_neighbours(namespace: &str) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "Sidecar", "metadata": metadata(CLIENT, namespace),
        "spec": { "workloadSelector": { "labels": { "app": CLIENT } }, "egress": [{ "hosts": ["./*"] }] },
    })
}

/// Host by which the ingress gateway leads to a port of a row.
pub(crate) fn routed_host(row: &Row, group: &Group, protocol: Protocol) -> String {
    format!("{protocol}.{}.{}", row.name, routes_of(group))
}

fn routes_of(group: &Group) -> String {
    format!("{}.modes.meshproof.test", group.name)
}

/// The routes through the ingress gateway to the rows of a group.
pub(crate) fn routes(group: &Group, namespace: &str, cluster: &Cluster, ports: &[Port]) -> Option<[Value; 2]> {
    let selector = &cluster.record().gateways.ingress.as_ref()?.selector;
    let selector: serde_json::Map<String, Value> = selector
        .split(',')
        .map(|one| one.split_once('='))
        .map(|one| one.map(|(key, value)| (key.into(), json!(value))))
        .collect::<Option<_>>()?;
    let wildcard = format!("*.{}", routes_of(group));
    let route = |row: &Row, port: &Port| {
        let number = if row.headless { port.number } else { service_port(port.number) };
        let host = format!("{}.{namespace}.svc.{}", row.name, cluster.record().domain);
        json!({
            "match": [{ "authority": { "exact": routed_host(row, group, port.protocol) } }],
            "route": [{ "destination": { "host": host, "port": { "number": number } } }],
        })
    };
    let routes: Vec<Value> = group.rows.iter().flat_map(|row| ports.iter().map(move |port| route(row, port))).collect();
    let gateway = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": metadata("rows", namespace),
        "spec": { "selector": selector, "servers": [{
            "port": { "number": 80, "name": "http", "protocol": "HTTP" }, "hosts": [wildcard],
        }] },
    });
    let service = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": metadata("rows", namespace),
        "spec": { "hosts": [wildcard], "gateways": ["rows"], "http": routes },
    });
    Some([gateway, service])
}
