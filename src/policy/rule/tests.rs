use rstest::rstest;
use serde_json::{Value, json};

use super::*;

fn rule(place: &str, created: u8, spec: Value) -> DestinationRule {
    let (namespace, name) = place.split_once('/').unwrap();
    let created = format!("2026-01-01T00:00:{created:02}Z");
    let metadata = json!({ "name": name, "namespace": namespace, "creationTimestamp": created });
    let object = json!({ "kind": "DestinationRule", "metadata": metadata, "spec": spec });
    DestinationRule::of(&object).unwrap()
}

fn sets(host: &str, mode: &str) -> Value {
    json!({ "host": host, "trafficPolicy": { "tls": { "mode": mode } } })
}

const CART: &str = "cart.shop.svc.cluster.local";

/// The mode for a client in `namespace` that calls port 8080 of `cart` in `shop`, and the rule that sets it.
fn chosen(rules: &[DestinationRule], namespace: &str) -> Option<(String, Option<ClientTls>)> {
    let client = Client { namespace: namespace.into(), ..Client::default() };
    let service = Service { host: CART.into(), namespace: "shop".into(), port: 8080, headless: false, renamed: false };
    let rule = choose(rules, &client, &service, "istio-system", "cluster.local")?;
    Some((rule.to_string(), rule.mode_of(service.port)))
}

#[rstest]
#[case::full_name("cart.shop.svc.cluster.local", true)]
#[case::wildcard("*.shop.svc.cluster.local", true)]
#[case::short_name("cart", true)]
#[case::with_namespace("cart.shop", true)]
#[case::another("web.shop.svc.cluster.local", false)]
#[case::another_namespace("*.other.svc.cluster.local", false)]
fn a_rule_is_about_the_services_that_its_host_names(#[case] host: &str, #[case] owed: bool) {
    let said = rule("shop/cart-off", 1, sets(host, "DISABLE")).about("cart", "shop", "cluster.local");
    assert_eq!(said.is_some(), owed, "{said:?}");
    assert!(said.is_none_or(|said| said.contains("shop/cart-off") && said.contains("DISABLE")));
}

#[test]
fn a_rule_without_a_tls_mode_explains_nothing() {
    assert_eq!(rule("shop/a", 1, json!({ "host": "cart" })).about("cart", "shop", "cluster.local"), None);
}

/// Red if the order of the namespaces is another: client's, service's, root.
#[test]
fn the_clients_namespace_comes_first_then_the_services_then_the_root() {
    let mut rules = vec![
        rule("istio-system/root", 1, sets("*.local", "SIMPLE")),
        rule("shop/service", 2, sets(CART, "ISTIO_MUTUAL")),
        rule("web/client", 3, sets(CART, "DISABLE")),
    ];
    let mode = |rules: &[DestinationRule], from| chosen(rules, from).unwrap().1.unwrap();
    assert_eq!(mode(&rules, "web"), ClientTls::Disable);
    assert_eq!(mode(&rules, "other"), ClientTls::IstioMutual);
    assert_eq!(mode(&rules, "istio-system"), ClientTls::IstioMutual, "a root rule for all comes last there as well");
    rules.remove(1);
    assert_eq!(mode(&rules, "other"), ClientTls::Simple);
}

/// Red if a rule of a later namespace fills in what an earlier one leaves open.
#[test]
fn the_first_namespace_with_a_rule_decides_even_if_it_says_nothing_of_tls() {
    let silent = json!({ "host": CART, "trafficPolicy": { "connectionPool": {} } });
    let rules = [rule("web/client", 1, silent), rule("shop/service", 2, sets(CART, "DISABLE"))];
    assert_eq!(chosen(&rules, "web"), Some(("DestinationRule web/client".into(), None)));
}

#[rstest]
#[case::to_all(json!(["*"]), [true, true])]
#[case::to_its_own(json!(["."]), [true, false])]
#[case::to_its_own_by_name(json!(["shop"]), [true, false])]
#[case::to_the_client(json!(["web"]), [false, true])]
#[case::to_another(json!(["elsewhere"]), [false, false])]
fn a_rule_counts_where_it_is_exported_to(#[case] export: Value, #[case] owed: [bool; 2]) {
    let mut spec = sets(CART, "DISABLE");
    spec["exportTo"] = export;
    let rules = [rule("shop/service", 1, spec)];
    // From its own namespace, a rule that is exported to others only is found as the service's.
    assert_eq!(["shop", "web"].map(|from| chosen(&rules, from).is_some()), owed);
}

#[test]
fn the_most_specific_host_counts_and_a_short_name_is_of_the_rules_own_namespace() {
    let rules = [
        rule("shop/wide", 1, sets("*.local", "SIMPLE")),
        rule("shop/narrow", 2, sets("*.shop.svc.cluster.local", "DISABLE")),
        rule("shop/exact", 3, sets("cart", "ISTIO_MUTUAL")),
    ];
    assert_eq!(chosen(&rules, "shop").unwrap().0, "DestinationRule shop/exact");
    assert_eq!(chosen(&rules[..2], "shop").unwrap().0, "DestinationRule shop/narrow");
    assert_eq!(chosen(&[rule("web/short", 1, sets("cart", "DISABLE"))], "web"), None, "this is cart.web");
    assert_eq!(
        chosen(&[rule("shop/half", 1, sets("cart.shop", "DISABLE"))], "shop"),
        None,
        "Istio completes no such name"
    );
}

#[test]
fn of_two_rules_for_one_host_the_oldest_with_a_policy_counts() {
    let rules = [
        rule("shop/young", 9, sets(CART, "SIMPLE")),
        rule("shop/old", 2, sets(CART, "DISABLE")),
        rule("shop/oldest", 1, json!({ "host": CART })),
    ];
    assert_eq!(chosen(&rules, "shop").unwrap().0, "DestinationRule shop/old");
}

#[test]
fn a_port_of_the_service_has_its_own_mode_and_the_others_the_rules() {
    let mut spec = sets(CART, "DISABLE");
    spec["trafficPolicy"]["portLevelSettings"] =
        json!([{ "port": { "number": 9090 }, "tls": { "mode": "ISTIO_MUTUAL" } }]);
    let rule = rule("shop/ports", 1, spec);
    assert_eq!(rule.mode_of(9090), Some(ClientTls::IstioMutual));
    assert_eq!(rule.mode_of(8080), Some(ClientTls::Disable));
}

#[test]
fn a_rule_for_chosen_clients_counts_for_them_in_its_own_namespace_only() {
    let mut spec = sets(CART, "DISABLE");
    spec["workloadSelector"] = json!({ "matchLabels": { "app": "web" } });
    let rules = [rule("web/some", 1, spec)];
    let service = Service { host: CART.into(), namespace: "shop".into(), port: 8080, headless: false, renamed: false };
    let of = |namespace: &str, app: &str| {
        let labels = [("app".to_owned(), app.to_owned())].into();
        let client = Client { namespace: namespace.into(), labels, ..Client::default() };
        choose(&rules, &client, &service, "istio-system", "cluster.local").is_some()
    };
    assert!(of("web", "web") && !of("web", "batch") && !of("other", "web"));
}
