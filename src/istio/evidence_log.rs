//! The objects that make proxies write the evidence: an access log with what each end of a connection saw of its peer.

use serde_json::{Map, Value, json};

use crate::record::{AccessLog, Label};

/// Fields of a log line, with Envoy's formats. The same as those of the provider `meshproof-evidence` in
/// `fixtures/mesh/evidence-log.yaml`.
const FIELDS: [(&str, &str); 34] = [
    ("start_time", "%START_TIME%"),
    ("protocol", "%PROTOCOL%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    ("connection_termination_details", "%CONNECTION_TERMINATION_DETAILS%"),
    ("upstream_transport_failure_reason", "%UPSTREAM_TRANSPORT_FAILURE_REASON%"),
    ("downstream_transport_failure_reason", "%DOWNSTREAM_TRANSPORT_FAILURE_REASON%"),
    ("authority", "%REQ(:AUTHORITY)%"),
    ("path", "%REQ(:PATH)%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER_RAW%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"),
    ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
    ("route_name", "%ROUTE_NAME%"),
    ("downstream_peer_uri_san", "%DOWNSTREAM_PEER_URI_SAN%"),
    ("downstream_local_uri_san", "%DOWNSTREAM_LOCAL_URI_SAN%"),
    ("downstream_peer_issuer", "%DOWNSTREAM_PEER_ISSUER%"),
    ("downstream_peer_cert", "%DOWNSTREAM_PEER_CERT%"),
    ("downstream_peer_fingerprint_256", "%DOWNSTREAM_PEER_FINGERPRINT_256%"),
    ("downstream_tls_version", "%DOWNSTREAM_TLS_VERSION%"),
    ("downstream_tls_cipher", "%DOWNSTREAM_TLS_CIPHER%"),
    ("upstream_peer_uri_san", "%UPSTREAM_PEER_URI_SAN%"),
    ("upstream_local_uri_san", "%UPSTREAM_LOCAL_URI_SAN%"),
    ("upstream_peer_issuer", "%UPSTREAM_PEER_ISSUER%"),
    ("upstream_peer_cert", "%UPSTREAM_PEER_CERT%"),
    ("upstream_tls_version", "%UPSTREAM_TLS_VERSION%"),
    ("upstream_tls_cipher", "%UPSTREAM_TLS_CIPHER%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("duration", "%DURATION%"),
];

/// The object `name` that enables the evidence log of `namespace` in the proxies of the pods with `label`.
pub fn evidence_log(log: &AccessLog, name: &str, namespace: &str, label: &Label) -> Value {
    let labels = json!({ &label.key: label.value });
    let metadata = json!({ "name": name, "namespace": namespace });
    match log {
        AccessLog::Provider(provider) => json!({
            "apiVersion": "telemetry.istio.io/v1", "kind": "Telemetry", "metadata": metadata,
            "spec": {
                "selector": { "matchLabels": labels },
                "accessLogging": [{ "providers": [{ "name": provider }] }],
            },
        }),
        AccessLog::Filter => json!({
            "apiVersion": "networking.istio.io/v1alpha3", "kind": "EnvoyFilter", "metadata": metadata,
            "spec": { "workloadSelector": { "labels": labels }, "configPatches": patches() },
        }),
    }
}

/// Patches that add the log to the two filters that end a connection, and to the listeners. A listener logs the
/// connections that match none of its filter chains, as with Telemetry: no filter sees them.
fn patches() -> Value {
    let merge = |apply_to: &str, filter: Value, value: Value| {
        json!({
            "applyTo": apply_to,
            "match": { "context": "ANY", "listener": filter },
            "patch": { "operation": "MERGE", "value": value },
        })
    };
    let at_filter = |name: &str, kind: &str| {
        let which = json!({ "filterChain": { "filter": { "name": format!("envoy.filters.network.{name}") } } });
        let kind = format!("type.googleapis.com/envoy.extensions.filters.network.{kind}");
        merge("NETWORK_FILTER", which, json!({ "typed_config": { "@type": kind, "access_log": [logger(None)] } }))
    };
    let unmatched = json!({ "response_flag_filter": { "flags": ["NR"] } });
    json!([
        at_filter("http_connection_manager", "http_connection_manager.v3.HttpConnectionManager"),
        at_filter("tcp_proxy", "tcp_proxy.v3.TcpProxy"),
        merge("LISTENER", json!({}), json!({ "access_log": [logger(Some(unmatched))] })),
    ])
}

/// A logger to standard output, of the entries that pass `filter`.
fn logger(filter: Option<Value>) -> Value {
    let fields: Map<String, Value> = FIELDS.iter().map(|(name, format)| ((*name).into(), (*format).into())).collect();
    let mut logger = json!({
        "name": "envoy.access_loggers.file",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": "/dev/stdout",
            "log_format": { "json_format": fields },
        },
    });
    if let Some(filter) = filter {
        logger["filter"] = filter;
    }
    logger
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label() -> Label {
        Label { key: "app".into(), value: "probe".into() }
    }

    #[test]
    fn the_fields_are_those_of_the_provider_that_up_configures() {
        let text = include_str!("../../fixtures/mesh/evidence-log.yaml");
        let operator: Value = serde_saphyr::from_str(text).unwrap();
        let providers = operator["spec"]["meshConfig"]["extensionProviders"].as_array().unwrap();
        let evidence = providers.iter().find(|provider| provider["name"] == "meshproof-evidence").unwrap();
        let log = &evidence["envoyFileAccessLog"];
        let logger = logger(None);
        assert_eq!(logger["typed_config"]["log_format"]["json_format"], log["logFormat"]["labels"]);
        assert_eq!(logger["typed_config"]["path"], log["path"]);
    }

    #[test]
    fn a_provider_is_enabled_by_telemetry_for_the_labelled_pods() {
        let log = evidence_log(&AccessLog::Provider("evidence".into()), "log", "shop", &label());
        assert_eq!(log["kind"], "Telemetry");
        assert_eq!(log["spec"]["selector"]["matchLabels"], json!({ "app": "probe" }));
        assert_eq!(log["spec"]["accessLogging"][0]["providers"][0]["name"], "evidence");
    }

    #[test]
    fn without_a_provider_a_filter_logs_both_protocols_and_what_matches_no_chain() {
        let log = evidence_log(&AccessLog::Filter, "log", "shop", &label());
        assert_eq!((&log["kind"], &log["metadata"]["namespace"]), (&json!("EnvoyFilter"), &json!("shop")));
        assert_eq!(log["spec"]["workloadSelector"]["labels"], json!({ "app": "probe" }));
        let patches = log["spec"]["configPatches"].as_array().unwrap();
        let patched: Vec<_> = patches.iter().map(|patch| patch["applyTo"].as_str().unwrap()).collect();
        assert_eq!(patched, ["NETWORK_FILTER", "NETWORK_FILTER", "LISTENER"]);
        assert!(patches.iter().all(|patch| patch["patch"]["operation"] == "MERGE"));
        let listener = &patches[2]["patch"]["value"]["access_log"][0];
        assert_eq!(listener["filter"]["response_flag_filter"]["flags"], json!(["NR"]));
    }
}
