//! What a proxy is configured to do, as reported by the proxy. It explains a verdict and never makes one.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;

use crate::cluster::{Result, Workload};
use crate::identity::Certificate;

/// How a proxy speaks to an upstream cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamTls {
    /// Mutual TLS where the endpoint has a sidecar, otherwise plaintext.
    Automatic,
    /// TLS with a client certificate.
    Mutual,
    /// TLS without a client certificate.
    Simple,
    /// Plaintext.
    Plaintext,
}

/// An upstream cluster of a proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// How the proxy speaks to it.
    pub tls: UpstreamTls,
    /// Namespace and name of the `DestinationRule` that the configuration comes from, as `NAMESPACE/NAME`.
    pub rule: Option<String>,
}

/// A listener of a proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listening {
    /// Port.
    pub port: u16,
    /// The server names of all filter chains.
    pub server_names: Vec<String>,
    /// The authorization policies of all filter chains.
    pub authorization: Vec<Authorizing>,
}

/// A rule of an authorization policy in a proxy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Authorizing {
    /// Whether the rule denies. Otherwise, it allows.
    pub denies: bool,
    /// Namespace and name of the `AuthorizationPolicy`, as `NAMESPACE/NAME`.
    pub policy: String,
    /// The ports of the filter chains with the rule. Empty: every port that has no chain of its own.
    pub ports: Vec<u16>,
}

/// The certificates of a proxy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProxySecrets {
    /// The proxy's own chain, leaf first.
    pub chain: Vec<Certificate>,
    /// The roots that the proxy trusts.
    pub roots: Vec<Certificate>,
}

/// The listener for what comes in to a workload: only it, because a large mesh has thousands of listeners.
pub(super) const INBOUND: &str = "config_dump?resource=dynamic_listeners&name_regex=virtualInbound";

/// Envoy's name of a service's port: `outbound|8080||probe.shop.svc.cluster.local`.
pub fn outbound_name(port: u16, service_host: &str) -> String {
    format!("outbound|{port}||{service_host}")
}

/// How a workload's proxy speaks to a service's port. `None` if the proxy does not know the service.
///
/// # Errors
/// The errors of [`Workload::proxy_admin`]. The answer cannot be parsed.
pub async fn upstream(workload: &Workload, port: u16, service_host: &str) -> Result<Option<Upstream>> {
    let name = outbound_name(port, service_host);
    let path = format!("config_dump?resource=dynamic_active_clusters&name_regex={}", pattern(&name));
    let dump: Dump = dumped(workload, &path).await?;
    Ok(dump.configs.iter().filter_map(|config| config.get("cluster")).find_map(|cluster| upstream_of(cluster, &name)))
}

/// The listeners of a workload's proxy.
///
/// # Errors
/// The errors of [`Workload::proxy_admin`]. The answer cannot be parsed.
pub async fn listeners(workload: &Workload) -> Result<Vec<Listening>> {
    let dump: Dump = dumped(workload, "config_dump?resource=dynamic_listeners").await?;
    Ok(listening(&dump))
}

/// The listener for what comes in to a workload.
///
/// # Errors
/// The errors of [`Workload::proxy_admin`]. The answer cannot be parsed.
pub async fn inbound_listeners(workload: &Workload) -> Result<Vec<Listening>> {
    let dump: Dump = dumped(workload, INBOUND).await?;
    Ok(listening(&dump))
}

/// The certificates of a workload's proxy.
///
/// # Errors
/// The errors of [`Workload::proxy_admin`]. The answer or a certificate cannot be parsed.
pub async fn secrets(workload: &Workload) -> Result<ProxySecrets> {
    let path = "config_dump?resource=dynamic_active_secrets";
    let dump: Dump = dumped(workload, path).await?;
    secrets_of(&dump).map_err(|reason| workload.unusable(path, reason))
}

/// A part of Envoy's `/config_dump`. Only what is asked of it is read.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Dump {
    pub(super) configs: Vec<Value>,
}

pub(super) async fn dumped(workload: &Workload, path: &str) -> Result<Dump> {
    let answer = workload.proxy_admin(path).await?;
    serde_json::from_str(&answer).map_err(|error| workload.unusable(path, error.to_string()))
}

/// A regular expression for a name that needs no escapes in a URL.
fn pattern(name: &str) -> String {
    name.replace(|c: char| !c.is_ascii_alphanumeric(), ".")
}

fn upstream_of(cluster: &Value, name: &str) -> Option<Upstream> {
    if cluster["name"] != name {
        return None;
    }
    let common = cluster.pointer("/transport_socket/typed_config/common_tls_context");
    let tls = match (common, cluster.get("transport_socket_matches")) {
        (_, Some(_)) => UpstreamTls::Automatic,
        (None, None) => UpstreamTls::Plaintext,
        (Some(common), None) => {
            let has = |field: &str| common.get(field).is_some_and(|value| !value.is_null());
            let mutual = has("tls_certificate_sds_secret_configs") || has("tls_certificates");
            if mutual { UpstreamTls::Mutual } else { UpstreamTls::Simple }
        }
    };
    let config = cluster.pointer("/metadata/filter_metadata/istio/config").and_then(Value::as_str);
    // …/namespaces/NAMESPACE/destination-rule/NAME
    let rule = config.and_then(|config| {
        let mut parts = config.rsplit('/');
        let (name, kind, namespace) = (parts.next()?, parts.next()?, parts.next()?);
        (kind == "destination-rule").then(|| format!("{namespace}/{name}"))
    });
    Some(Upstream { tls, rule })
}

fn listening(dump: &Dump) -> Vec<Listening> {
    let listeners = dump.configs.iter().filter_map(|config| config.pointer("/active_state/listener"));
    listeners.filter_map(listener).collect()
}

fn listener(listener: &Value) -> Option<Listening> {
    let port = listener.pointer("/address/socket_address/port_value")?.as_u64()?;
    let chains: Vec<&Value> = listener["filter_chains"].as_array().into_iter().flatten().collect();
    let names = chains.iter().filter_map(|chain| chain.pointer("/filter_chain_match/server_names")?.as_array());
    let server_names = names.flatten().filter_map(|name| Some(name.as_str()?.to_owned())).collect();
    let mut authorizing: BTreeMap<(bool, String), Vec<u16>> = BTreeMap::new();
    for chain in chains {
        let port = chain.pointer("/filter_chain_match/destination_port").and_then(Value::as_u64);
        for (denies, policy) in authorizing_of(chain) {
            let ports = authorizing.entry((denies, policy)).or_default();
            ports.extend(port.and_then(|port| u16::try_from(port).ok()));
        }
    }
    let authorization =
        authorizing.into_iter().map(|((denies, policy), ports)| Authorizing { denies, policy, ports }).collect();
    Some(Listening { port: u16::try_from(port).ok()?, server_names, authorization })
}

/// The rules in the RBAC filters of a chain: of the chain itself, and of its HTTP connection manager.
fn authorizing_of(chain: &Value) -> Vec<(bool, String)> {
    let own = chain["filters"].as_array().into_iter().flatten();
    let http = own.clone().filter_map(|filter| filter.pointer("/typed_config/http_filters")?.as_array()).flatten();
    let filters = own.chain(http).filter(|filter| filter["name"].as_str().is_some_and(|name| name.contains("rbac")));
    let mut found = Vec::new();
    for rules in filters.filter_map(|filter| filter.pointer("/typed_config/rules")) {
        // Protobuf JSON omits the default, which is ALLOW.
        let denies = rules["action"] == "DENY";
        let names = rules["policies"].as_object().into_iter().flat_map(|policies| policies.keys());
        found.extend(names.filter_map(|name| Some((denies, policy_of(name)?))));
    }
    found
}

/// The `AuthorizationPolicy` in Istio's name of a rule, `ns[NAMESPACE]-policy[NAME]-rule[0]`, as `NAMESPACE/NAME`.
pub(super) fn policy_of(rule: &str) -> Option<String> {
    let (_, rest) = rule.split_once("ns[")?;
    let (namespace, rest) = rest.split_once("]-policy[")?;
    let (name, _) = rest.split_once("]-rule[")?;
    Some(format!("{namespace}/{name}"))
}

fn secrets_of(dump: &Dump) -> Result<ProxySecrets, String> {
    let mut secrets = ProxySecrets::default();
    for secret in dump.configs.iter().filter_map(|config| config.get("secret")) {
        let (pointer, place) = match secret["name"].as_str() {
            Some("default") => ("/tls_certificate/certificate_chain/inline_bytes", &mut secrets.chain),
            Some("ROOTCA") => ("/validation_context/trusted_ca/inline_bytes", &mut secrets.roots),
            _ => continue,
        };
        let Some(encoded) = secret.pointer(pointer).and_then(Value::as_str) else { continue };
        let bytes = STANDARD.decode(encoded).map_err(|error| error.to_string())?;
        let text = String::from_utf8(bytes).map_err(|error| error.to_string())?;
        *place = Certificate::all_from_pem("a proxy's secret", &text).map_err(|error| error.to_string())?;
    }
    Ok(secrets)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NAME: &str = "outbound|8080||probe.shop.svc.cluster.local";

    fn tls(fields: Value) -> Value {
        let mut cluster = json!({ "name": NAME });
        cluster.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        cluster
    }

    #[test]
    fn how_a_proxy_speaks_to_a_service_is_read_with_the_rule_that_says_so() {
        let of = |fields: Value| upstream_of(&tls(fields), NAME).unwrap();
        let context =
            |context: Value| json!({ "transport_socket": { "typed_config": { "common_tls_context": context } } });
        assert_eq!(of(json!({ "transport_socket_matches": [] })).tls, UpstreamTls::Automatic);
        assert_eq!(of(context(json!({ "tls_certificate_sds_secret_configs": [{}] }))).tls, UpstreamTls::Mutual);
        assert_eq!(of(context(json!({}))).tls, UpstreamTls::Simple);
        let config = "/apis/networking.istio.io/v1/namespaces/shop/destination-rule/plain";
        let plain = of(json!({ "metadata": { "filter_metadata": { "istio": { "config": config } } } }));
        assert_eq!(plain, Upstream { tls: UpstreamTls::Plaintext, rule: Some("shop/plain".into()) });
        assert_eq!(upstream_of(&tls(json!({})), "outbound|80||other"), None);
    }

    #[test]
    fn a_listeners_server_names_and_policies_are_those_of_all_its_chains() {
        let rbac = |action: Option<&str>, rule: &str| {
            let mut rules = json!({ "policies": { rule: {} } });
            if let Some(action) = action {
                rules["action"] = action.into();
            }
            json!({ "name": "envoy.filters.http.rbac", "typed_config": { "rules": rules } })
        };
        let allow = rbac(None, "ns[shop]-policy[allow]-rule[0]");
        let deny = rbac(Some("DENY"), "ns[istio-system]-policy[deny]-rule[1]");
        let listener = json!({
            "address": { "socket_address": { "port_value": 15443 } },
            "filter_chains": [
                { "filter_chain_match": { "server_names": ["a", "b"], "destination_port": 8080 },
                  "filters": [{ "name": "hcm", "typed_config": { "http_filters": [allow] } }] },
                { "filter_chain_match": { "server_names": ["c"] }, "filters": [deny] },
            ],
        });
        let dump = Dump { configs: vec![json!({ "active_state": { "listener": listener } }), json!({})] };
        let allow = Authorizing { denies: false, policy: "shop/allow".into(), ports: vec![8080] };
        let deny = Authorizing { denies: true, policy: "istio-system/deny".into(), ports: Vec::new() };
        let server_names = ["a", "b", "c"].map(str::to_owned).to_vec();
        assert_eq!(listening(&dump), [Listening { port: 15443, server_names, authorization: vec![allow, deny] }]);
    }

    #[test]
    fn a_proxys_own_chain_and_its_roots_are_told_apart() {
        let root = crate::identity::Minter::authority("root").unwrap();
        let encoded = STANDARD.encode(root.chain_pem());
        let secret = |name: &str, content: Value| {
            let mut secret = content;
            secret["name"] = name.into();
            json!({ "secret": secret })
        };
        let configs = vec![
            secret("ROOTCA", json!({ "validation_context": { "trusted_ca": { "inline_bytes": encoded } } })),
            secret("other", json!({})),
        ];
        let secrets = secrets_of(&Dump { configs }).unwrap();
        assert_eq!((secrets.chain.len(), secrets.roots.len()), (0, 1));
    }
}
