//! Each rule of Istio's reference, as a decision about a call.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::*;
use crate::identity::SpiffeId;

fn mesh() -> Mesh {
    Mesh {
        trust_domain: "corp.example".into(),
        aliases: vec!["old.example".into()],
        normalization: Normalization::Base,
        authorizers: [("p", Over::Grpc, false), ("open", Over::Grpc, true), ("http", Over::Http, false)]
            .map(|(name, over, fails_open)| (name.to_owned(), AuthorizerKind { over, fails_open }))
            .into(),
    }
}

fn peer(domain: &str, namespace: &str, account: &str) -> Option<SpiffeId> {
    Some(SpiffeId::workload(domain, namespace, account))
}

fn address(text: &str) -> Option<IpAddr> {
    Some(text.parse().unwrap())
}

/// `GET shop.example/orders` by `shop/web` from 10.1.2.3.
fn call() -> Call {
    Call {
        peer: peer("corp.example", "shop", "web"),
        source_ip: address("10.1.2.3"),
        remote_ip: address("203.0.113.7"),
        destination_ip: address("10.9.9.9"),
        port: 8080,
        server_name: Some("outbound_.8080_._.orders.shop.svc.cluster.local".into()),
        http: Some(HttpRequest::get("shop.example", "/orders")),
        authorizer: Answer::Allows,
    }
}

fn tcp() -> Call {
    Call { http: None, ..call() }
}

fn request(change: impl FnOnce(&mut HttpRequest)) -> Call {
    let mut call = call();
    change(call.http.as_mut().unwrap());
    call
}

fn with_header(name: &str, values: &[&str]) -> Call {
    request(|http| drop(http.headers.insert(name.into(), values.iter().map(|&value| value.into()).collect())))
}

fn with_token(claims: Value) -> Call {
    let claims: std::collections::BTreeMap<String, Value> = serde_json::from_value(claims).unwrap();
    let token = Token {
        issuer: "issuer.example".into(),
        subject: "ann".into(),
        audiences: vec!["orders".into()],
        presenter: Some("portal".into()),
        claims,
    };
    request(|http| http.token = Some(token))
}

fn policy(name: &str, spec: Value) -> Policy {
    Policy::parse("shop", name, spec).unwrap()
}

/// Whether an ALLOW policy with this rule lets the call through.
fn allows(rule: Value, call: &Call) -> bool {
    decide(&mesh(), &[policy("allow", json!({ "rules": [rule] }))], call) == Decision::Allowed
}

/// Whether a DENY policy with this rule denies the call.
fn denies(rule: Value, call: &Call) -> bool {
    let denied = Decision::Denied(Denier::Policy("deny".into()));
    decide(&mesh(), &[policy("deny", json!({ "action": "DENY", "rules": [rule] }))], call) == denied
}

fn from(field: &str, value: &str) -> Value {
    json!({ "from": [{ "source": { field: [value] } }] })
}

fn to(field: &str, value: &str) -> Value {
    json!({ "to": [{ "operation": { field: [value] } }] })
}

fn when(key: &str, value: &str) -> Value {
    json!({ "when": [{ "key": key, "values": [value] }] })
}

#[test]
fn actions_are_asked_in_the_order_custom_deny_allow() {
    let everything = || json!([{}]);
    let custom = || policy("ask", json!({ "action": "CUSTOM", "provider": { "name": "p" }, "rules": everything() }));
    let deny = || policy("deny", json!({ "action": "DENY", "rules": everything() }));
    let allow = || policy("allow", json!({ "rules": everything() }));
    let refused = Call { authorizer: Answer::Denies, ..call() };
    let decided = |policies: &[Policy], call: &Call| decide(&mesh(), policies, call);
    assert_eq!(decided(&[], &call()), Decision::Allowed, "no policy");
    assert_eq!(decided(&[allow(), deny()], &call()), Decision::Denied(Denier::Policy("deny".into())));
    assert_eq!(decided(&[allow(), custom()], &call()), Decision::Allowed);
    let by_authorizer = Decision::Denied(Denier::Authorizer("ask".into()));
    assert_eq!(decided(&[allow(), deny(), custom()], &refused), by_authorizer);
    let unanswered = Call { authorizer: Answer::Nothing, ..call() };
    let no_answer = Decision::Denied(Denier::NoAnswer("ask".into()));
    assert_eq!(decided(&[allow(), deny(), custom()], &unanswered), no_answer, "it fails closed");
    assert_eq!(decided(&[allow()], &unanswered), Decision::Allowed, "nobody is asked");
    assert_eq!(decided(&[policy("none", json!({}))], &call()), Decision::Denied(Denier::NoneAllows), "no rules");
    assert_eq!(decided(&[policy("none", json!({})), allow()], &call()), Decision::Allowed, "one of several is enough");
    let denies_nothing = policy("deny", json!({ "action": "DENY" }));
    assert_eq!(decided(&[denies_nothing], &call()), Decision::Allowed);
}

#[test]
fn a_custom_policy_depends_on_its_provider() {
    let custom = |provider: &str| {
        policy("ask", json!({ "action": "CUSTOM", "provider": { "name": provider }, "rules": [to("methods", "GET")] }))
    };
    let refused = Call { authorizer: Answer::Denies, ..call() };
    let unanswered = Call { authorizer: Answer::Nothing, ..call() };
    let tcp = |call: &Call| Call { http: None, ..call.clone() };
    let decided = |provider: &str, call: &Call| decide(&mesh(), &[custom(provider)], call);
    let by_authorizer = Decision::Denied(Denier::Authorizer("ask".into()));
    assert_eq!(decided("p", &tcp(&refused)), by_authorizer, "fields of HTTP are left out on TCP");
    assert_eq!(decided("p", &tcp(&call())), Decision::Allowed);
    assert_eq!(decided("p", &tcp(&unanswered)), Decision::Denied(Denier::NoAnswer("ask".into())));
    assert_eq!(decided("http", &refused), by_authorizer);
    for call in [&refused, &unanswered] {
        assert_eq!(decided("http", &tcp(call)), Decision::Allowed, "an HTTP provider decides about no connection");
    }
    assert_eq!(decided("open", &refused), by_authorizer);
    assert_eq!(
        (decided("open", &unanswered), decided("open", &tcp(&unanswered))),
        (Decision::Allowed, Decision::Allowed)
    );
    let no_provider = Decision::Denied(Denier::NoProvider("ask".into()));
    for call in [&call(), &tcp(&call())] {
        assert_eq!(decided("misspelt", call), no_provider);
    }
    let post = request(|http| http.method = "POST".into());
    assert_eq!(decided("misspelt", &post), Decision::Allowed, "the rule does not match");
}

#[test]
fn audit_and_dry_run_decide_nothing() {
    let audit = policy("audit", json!({ "action": "AUDIT", "rules": [{}] }));
    let deny = policy("deny", json!({ "action": "DENY", "rules": [{}] })).dry_run();
    let allows_nothing = policy("allow", json!({})).dry_run();
    assert_eq!(decide(&mesh(), &[audit, deny, allows_nothing], &call()), Decision::Allowed);
}

#[test]
fn a_policy_is_about_its_namespace_and_its_labels() {
    let labels = |app: &str| [("app".to_owned(), app.to_owned())].into();
    let selecting = policy("p", json!({ "selector": { "matchLabels": { "app": "orders" } } }));
    assert!(selecting.selects("istio-system", "shop", &labels("orders")));
    assert!(!selecting.selects("istio-system", "shop", &labels("ads")));
    assert!(!selecting.selects("istio-system", "other", &labels("orders")));
    assert!(selecting.selects("shop", "other", &labels("orders")), "shop is the root namespace");
    assert!(policy("p", json!({})).selects("istio-system", "shop", &labels("ads")));
}

#[test]
fn one_source_one_operation_and_all_conditions_must_match() {
    let rule = |account: &str, path: &str, port: &str| {
        json!({
            "from": [{ "source": { "principals": ["corp.example/ns/none/sa/none"] } },
                     { "source": { "principals": [format!("corp.example/ns/shop/sa/{account}")], "namespaces": ["shop"] } }],
            "to": [{ "operation": { "paths": ["/none"] } }, { "operation": { "paths": [path], "methods": ["GET"] } }],
            "when": [{ "key": "destination.port", "values": [port] }, { "key": "source.namespace", "values": ["shop"] }],
        })
    };
    assert!(allows(rule("web", "/orders", "8080"), &call()));
    assert!(!allows(rule("other", "/orders", "8080"), &call()));
    assert!(!allows(rule("web", "/other", "8080"), &call()));
    assert!(!allows(rule("web", "/orders", "9090"), &call()));
}

#[test]
fn principals_match_exactly_by_prefix_by_suffix_and_by_presence() {
    for (pattern, expected) in [
        ("corp.example/ns/shop/sa/web", true),
        ("corp.example/ns/shop/sa/we", false),
        ("corp.example/ns/shop/sa/w*", true),
        ("*/ns/shop/sa/web", true),
        ("*/sa/web", true),
        ("*/sa/other", false),
        ("*", true),
        ("cluster.local/ns/shop/sa/web", true),
        ("old.example/ns/shop/sa/web", true),
        ("foreign.example/ns/shop/sa/web", false),
    ] {
        assert_eq!(allows(from("principals", pattern), &call()), expected, "{pattern}");
        assert_eq!(allows(from("notPrincipals", pattern), &call()), !expected, "not {pattern}");
        assert_eq!(denies(from("principals", pattern), &call()), expected, "DENY {pattern}");
        assert_eq!(allows(when("source.principal", pattern), &call()), expected, "when {pattern}");
    }
}

#[test]
fn a_peer_of_an_alias_is_one_of_the_mesh_and_a_foreign_one_is_not() {
    let of = |domain: &str| Call { peer: peer(domain, "shop", "web"), ..call() };
    let rule = || from("principals", "corp.example/ns/shop/sa/web");
    assert!(allows(rule(), &of("old.example")));
    assert!(!allows(rule(), &of("foreign.example")));
    assert!(!allows(rule(), &of("cluster.local")), "it stands for the trust domain in policies only");
    assert!(allows(from("principals", "foreign.example/ns/shop/sa/web"), &of("foreign.example")));
}

#[test]
fn without_mutual_tls_only_negative_fields_of_the_peer_match() {
    let plain = Call { peer: None, ..call() };
    for (field, value) in [("principals", "*"), ("namespaces", "shop"), ("serviceAccounts", "shop/web")] {
        assert!(!allows(from(field, value), &plain), "{field}");
    }
    // ISTIO-SECURITY-2021-004: a DENY with a negative field denies a caller without identity.
    for (field, value) in [("notPrincipals", "*"), ("notNamespaces", "shop"), ("notServiceAccounts", "shop/web")] {
        assert!(denies(from(field, value), &plain), "{field}");
    }
}

#[test]
fn namespaces_and_service_accounts_are_those_of_the_peer() {
    assert!(allows(from("namespaces", "shop"), &call()) && allows(from("namespaces", "sh*"), &call()));
    assert!(!allows(from("namespaces", "other"), &call()) && !allows(from("notNamespaces", "shop"), &call()));
    assert!(allows(from("serviceAccounts", "shop/web"), &call()) && allows(from("serviceAccounts", "web"), &call()));
    assert!(!allows(from("serviceAccounts", "other/web"), &call()));
    assert!(!allows(from("notServiceAccounts", "web"), &call()));
    assert!(allows(when("source.serviceAccount", "shop/web"), &call()));
}

#[test]
fn operations_are_compared_as_the_reference_says() {
    for (field, value, expected) in [
        ("methods", "GET", true),
        ("methods", "POST", false),
        ("notMethods", "GET", false),
        ("hosts", "SHOP.example", true),
        ("hosts", "*.example", true),
        ("hosts", "shop.*", true),
        ("hosts", "shop.example:8080", false),
        ("notHosts", "Shop.Example", false),
        ("ports", "8080", true),
        ("ports", "80", false),
        ("notPorts", "8080", false),
        ("paths", "/orders", true),
        ("paths", "/ord*", true),
        ("paths", "/{*}", true),
        ("paths", "/Orders", false),
        ("notPaths", "/orders", false),
    ] {
        assert_eq!(allows(to(field, value), &call()), expected, "{field} {value}");
        assert_eq!(denies(to(field, value), &call()), expected, "DENY {field} {value}");
    }
}

#[test]
fn a_host_is_compared_in_any_case_and_a_path_in_its_normal_form() {
    let host = request(|http| http.host = "SHOP.EXAMPLE".into());
    assert!(denies(to("hosts", "shop.example"), &host));
    for (sent, expected) in
        [("/orders?x=1", true), ("/a/../orders", true), ("/%6Frders", true), ("//orders", false), ("/ORDERS", false)]
    {
        let call = request(|http| http.path = sent.into());
        assert_eq!(denies(to("paths", "/orders"), &call), expected, "{sent}");
    }
    let merging = Mesh { normalization: Normalization::MergeSlashes, ..mesh() };
    let deny = policy("deny", json!({ "action": "DENY", "rules": [to("paths", "/orders")] }));
    let double = request(|http| http.path = "//orders".into());
    assert_ne!(decide(&merging, [&deny], &double), Decision::Allowed);
    let fragment = request(|http| http.path = "/orders#x".into());
    assert_ne!(decide(&mesh(), [&deny], &fragment), Decision::Allowed, "CVE-2021-39156");
    let nul = request(|http| http.path = "/orders%00".into());
    assert_eq!(decide(&mesh(), [&deny], &nul), Decision::Malformed);
}

#[test]
fn addresses_are_in_a_block_or_not() {
    for (field, value, expected) in [
        ("ipBlocks", "10.1.2.3", true),
        ("ipBlocks", "10.1.0.0/16", true),
        ("ipBlocks", "203.0.113.7", false),
        ("notIpBlocks", "10.0.0.0/8", false),
        ("remoteIpBlocks", "203.0.113.0/24", true),
        ("remoteIpBlocks", "10.1.2.3", false),
        ("notRemoteIpBlocks", "203.0.113.7", false),
    ] {
        assert_eq!(allows(from(field, value), &call()), expected, "{field} {value}");
    }
    assert!(allows(when("source.ip", "10.1.0.0/16"), &call()) && !allows(when("remote.ip", "10.0.0.0/8"), &call()));
    assert!(allows(when("destination.ip", "10.9.9.9"), &call()));
}

#[test]
fn conditions_are_about_headers_ports_and_server_names() {
    assert!(allows(when("request.headers[x-key]", "a*"), &with_header("x-key", &["abc"])));
    assert!(!allows(when("request.headers[x-key]", "a*"), &call()), "no header");
    // CVE-2026-26308: each value of a repeated header is compared by itself.
    assert!(denies(when("request.headers[x-key]", "bad"), &with_header("x-key", &["good", "bad"])));
    let negative = json!({ "when": [{ "key": "request.headers[x-key]", "notValues": ["bad"] }] });
    assert!(allows(negative.clone(), &call()) && !allows(negative, &with_header("x-key", &["bad"])));
    assert!(allows(when("destination.port", "8080"), &call()) && !allows(when("destination.port", "80"), &call()));
    assert!(allows(when("connection.sni", "outbound_.8080_*"), &call()));
    assert!(!allows(when("no.such.attribute", "x"), &call()));
}

#[test]
fn tokens_have_a_principal_and_claims() {
    let without = call();
    let call = with_token(json!({ "groups": ["admins", "staff"], "org": { "unit": "ads" } }));
    assert!(allows(from("requestPrincipals", "issuer.example/ann"), &call));
    assert!(allows(from("requestPrincipals", "*"), &call) && !allows(from("requestPrincipals", "*"), &without));
    assert!(denies(from("notRequestPrincipals", "*"), &without));
    for (key, value, expected) in [
        ("request.auth.claims[groups]", "staff", true),
        ("request.auth.claims[groups]", "guests", false),
        ("request.auth.claims[org][unit]", "ads", true),
        ("request.auth.claims[org]", "ads", false),
        ("request.auth.audiences", "orders", true),
        ("request.auth.presenter", "portal", true),
        ("request.auth.principal", "issuer.example/*", true),
    ] {
        assert_eq!(allows(when(key, value), &call), expected, "{key} {value}");
        assert!(!allows(when(key, value), &without), "{key} without a token");
    }
}

/// Task *Authorization for TCP traffic*: an ALLOW rule with a field of HTTP never matches; a DENY rule is as if it did not
/// have the field.
#[test]
fn on_tcp_a_field_of_http_allows_nothing_and_spares_nothing() {
    let rule = |method: &str| json!({ "to": [{ "operation": { "methods": [method], "ports": ["8080"] } }] });
    for method in ["GET", "POST"] {
        assert!(!allows(rule(method), &tcp()) && denies(rule(method), &tcp()), "{method}");
    }
    assert!(!denies(json!({ "to": [{ "operation": { "methods": ["GET"], "ports": ["9"] } }] }), &tcp()));
    assert!(allows(to("ports", "8080"), &tcp()) && allows(from("namespaces", "shop"), &tcp()));
    for rule in [from("requestPrincipals", "*"), to("notPaths", "/x"), when("request.headers[x]", "y")] {
        assert!(!allows(rule.clone(), &tcp()) && denies(rule, &tcp()));
    }
}

#[test]
fn a_policy_is_the_manifest_that_it_was_read_from() {
    let spec = json!({
        "action": "DENY", "selector": { "matchLabels": { "app": "orders" } },
        "rules": [{
            "from": [{ "source": { "notPrincipals": ["*"] } }], "to": [{ "operation": { "paths": ["/a"] } }],
            "when": [{ "key": "source.ip", "notValues": ["10.0.0.1"] }],
        }],
    });
    let object = policy("p", spec.clone()).dry_run().object();
    assert_eq!(object["spec"], spec);
    assert_eq!(object["metadata"]["annotations"]["istio.io/dry-run"], "true");
    let misspelt = json!({ "rules": [{ "to": [{ "operation": { "path": ["/a"] } }] }] });
    assert!(Policy::parse("shop", "p", misspelt).unwrap_err().to_string().contains("path"));
}
