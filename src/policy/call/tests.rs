use std::collections::BTreeMap;

use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::policy::{Client, PeerAuthentication};

const SPEECHES: [Speech; 4] = [Speech::Http, Speech::Tcp, Speech::ServerFirst, Speech::Tls];

fn peer(namespace: &str, name: &str, spec: Value) -> PeerAuthentication {
    let metadata = json!({ "name": name, "namespace": namespace, "creationTimestamp": "2026-01-01T00:00:00Z" });
    PeerAuthentication::of(&json!({ "metadata": metadata, "spec": spec })).unwrap()
}

fn rule(namespace: &str, mode: &str) -> DestinationRule {
    let metadata = json!({ "name": "tls", "namespace": namespace, "creationTimestamp": "2026-01-01T00:00:00Z" });
    let spec = json!({ "host": "*.shop.svc.cluster.local", "trafficPolicy": { "tls": { "mode": mode } } });
    DestinationRule::of(&json!({ "metadata": metadata, "spec": spec })).unwrap()
}

fn configuration(policies: Vec<PeerAuthentication>, rules: Vec<DestinationRule>) -> Configuration {
    let policies = Policies::Known { root: "istio-system".into(), policies };
    Configuration { policies, rules, domain: "cluster.local".into() }
}

fn of_shop(mode: &str) -> PeerAuthentication {
    peer("shop", "default", json!({ "mtls": { "mode": mode } }))
}

fn of_cart(mode: &str) -> PeerAuthentication {
    peer("shop", "cart", json!({ "selector": { "matchLabels": { "app": "cart" } }, "mtls": { "mode": mode } }))
}

/// A call of `cart` in `shop`, by a client in `web`.
struct Case {
    caller: Caller,
    service: Service,
    server: Server,
    crosses: bool,
    at_caller: Configuration,
    at_server: Configuration,
}

impl Case {
    /// Both clusters have the same configuration.
    fn of(caller: Caller, configuration: Configuration) -> Self {
        let host = "cart.shop.svc.cluster.local".into();
        Self {
            caller,
            service: Service { host, namespace: "shop".into(), port: 80, headless: false, renamed: false },
            server: Server {
                namespace: "shop".into(),
                labels: BTreeMap::from([("app".into(), "cart".into())]),
                port: 8080,
                ports: [8080].into(),
                capture: Capture::Sidecar,
            },
            crosses: false,
            at_caller: configuration.clone(),
            at_server: configuration,
        }
    }

    fn foretell(&self, speech: Speech) -> Foretold {
        let Self { caller, service, server, crosses, at_caller, at_server } = self;
        let gateway = Client { namespace: "istio-system".into(), is_gateway: true, ..Client::default() };
        let through = crosses.then_some(&gateway);
        let call = Call { speech, caller, service, server, through, at_caller, at_server };
        foretell(&call).unwrap()
    }

    fn endings(&self) -> String {
        SPEECHES.map(|speech| format!("{}: {}", speech, self.foretell(speech).ending)).join(", ")
    }
}

fn proxied() -> Caller {
    Caller::Proxied(Client { namespace: "web".into(), ..Client::default() })
}

/// The heart of the model: what each mode makes of each client.
#[test]
fn every_mode_and_client_end_as_istios_reference_says() {
    let mut lines = Vec::new();
    for mode in ["STRICT", "PERMISSIVE", "DISABLE"] {
        let naked = Case::of(Caller::Naked, configuration(vec![of_shop(mode)], vec![]));
        lines.push(format!("{mode}, naked: {}", naked.endings()));
        let automatic = Case::of(proxied(), configuration(vec![of_shop(mode)], vec![]));
        lines.push(format!("{mode}, automatic: {}", automatic.endings()));
        for tls in ["ISTIO_MUTUAL", "DISABLE", "SIMPLE"] {
            let ruled = Case::of(proxied(), configuration(vec![of_shop(mode)], vec![rule("web", tls)]));
            lines.push(format!("{mode}, rule {tls}: {}", ruled.endings()));
        }
    }
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn other_networks_are_reached_over_mutual_tls_or_not_at_all() {
    let mut lines = Vec::new();
    for mode in ["STRICT", "PERMISSIVE", "DISABLE"] {
        for rules in
            [vec![], vec![rule("web", "ISTIO_MUTUAL")], vec![rule("web", "DISABLE")], vec![rule("web", "SIMPLE")]]
        {
            let by = rules.first().map_or("automatic".into(), |rule| format!("rule {}", rule.mode_of(80).unwrap()));
            let mut case = Case::of(proxied(), configuration(vec![of_cart(mode)], rules));
            case.crosses = true;
            lines.push(format!("{mode}, {by}: {}", case.endings()));
        }
    }
    insta::assert_snapshot!(lines.join("\n"));
}

/// A5. Red if an excluded port is taken for one that the policy guards, or if the client is thought to know of it.
#[test]
fn an_excluded_port_is_open_to_all_but_the_mesh() {
    for capture in [Capture::Uncaptured, Capture::NoSidecar] {
        let naked = Case::of(Caller::Naked, configuration(vec![of_shop("STRICT")], vec![]));
        let naked = Case { server: Server { capture, ..naked.server.clone() }, ..naked };
        assert_eq!(naked.foretell(Speech::Http).ending, Ending::Plaintext);
        let meshed = Case { caller: proxied(), ..naked };
        let owed = match capture {
            Capture::Uncaptured => Ending::Unavailable(Flag::ConnectionFailed),
            _ => Ending::Plaintext,
        };
        assert_eq!(meshed.foretell(Speech::Http).ending, owed, "{capture:?}");
    }
}

/// A4. Red if rules for clients of the server's cluster count for clients of another.
#[test]
fn a_rule_counts_in_its_own_cluster_only() {
    let ruled = |namespace| configuration(vec![of_shop("STRICT")], vec![rule(namespace, "DISABLE")]);
    let without = configuration(vec![of_shop("STRICT")], vec![]);
    let mut case = Case::of(proxied(), without.clone());
    case.crosses = true;
    case.at_server = ruled("web");
    assert_eq!(case.foretell(Speech::Http).ending, Ending::MutualTls);
    (case.at_caller, case.at_server) = (ruled("shop"), without);
    let foretold = case.foretell(Speech::Http);
    assert_eq!(foretold.ending, Ending::Unavailable(Flag::NoEndpoint), "an endpoint that no name leads to is left out");
    assert!(foretold.why[0].contains("shop/tls of the caller's cluster"), "{:?}", foretold.why);
}

/// Red if the east-west gateway is not a client itself: a rule of the service in the server's cluster counts for it.
#[test]
fn a_rule_of_the_service_takes_its_endpoints_from_the_east_west_gateway() {
    let mut case = Case::of(proxied(), configuration(vec![of_shop("STRICT")], vec![]));
    case.crosses = true;
    for (mode, owed) in [("DISABLE", Ending::Unavailable(Flag::ConnectionFailed)), ("ISTIO_MUTUAL", Ending::MutualTls)]
    {
        case.at_server = configuration(vec![of_shop("STRICT")], vec![rule("shop", mode)]);
        assert_eq!(case.foretell(Speech::Http).ending, owed, "{mode}");
    }
}

/// Red if a gateway is taken for a sidecar, which knows no endpoints of a headless service.
#[test]
fn a_gateway_knows_whether_a_pod_of_a_headless_service_takes_tls() {
    let client = |is_gateway| Caller::Proxied(Client { namespace: "web".into(), is_gateway, ..Client::default() });
    for (is_gateway, owed) in [(true, Sent::Plaintext), (false, Sent::MutualTls)] {
        let policies = vec![of_shop("STRICT"), of_cart("DISABLE")];
        let mut case = Case::of(client(is_gateway), configuration(policies, vec![]));
        case.service.headless = true;
        assert_eq!(case.foretell(Speech::Http).sent, owed, "{is_gateway}");
    }
}

/// Red if the narrower mode decides how clients speak, although Istio asks the whole namespace first.
#[test]
fn a_namespace_without_tls_turns_automatic_tls_off_for_strict_workloads_too() {
    let case = Case::of(proxied(), configuration(vec![of_shop("DISABLE"), of_cart("STRICT")], vec![]));
    let foretold = case.foretell(Speech::Http);
    assert_eq!(foretold.sent, Sent::Plaintext);
    assert_eq!(foretold.ending, Ending::Unavailable(Flag::ConnectionEnded));
}

/// A1. Red if `portLevelMtls` is looked up by the port of the service.
#[rstest]
#[case::of_the_service("80", Ending::Plaintext)]
#[case::of_the_container("8080", Ending::Reset)]
fn port_level_modes_are_keyed_by_the_containers_port(#[case] key: &str, #[case] owed: Ending) {
    let selector = json!({ "matchLabels": { "app": "cart" } });
    let spec = json!({ "selector": selector, "mtls": { "mode": "PERMISSIVE" }, "portLevelMtls": { key: { "mode": "STRICT" } } });
    let foretold =
        Case::of(Caller::Naked, configuration(vec![peer("shop", "port", spec)], vec![])).foretell(Speech::Http);
    assert_eq!(foretold.ending, owed);
    let hint = foretold
        .why
        .iter()
        .any(|line| line.contains("key 80 of PeerAuthentication shop/port matches no container port"));
    assert_eq!(hint, key == "80", "{:?}", foretold.why);
}

/// A14. Red if a client is promised pods of another network that no gateway can lead to.
#[test]
fn pods_without_a_sidecar_and_headless_services_stay_on_their_network() {
    let mut case = Case::of(proxied(), configuration(vec![of_shop("STRICT")], vec![]));
    case.crosses = true;
    case.server.capture = Capture::NoSidecar;
    assert_eq!(case.foretell(Speech::Http).ending, Ending::Unavailable(Flag::NoEndpoint));
    case.server.capture = Capture::Sidecar;
    case.service.headless = true;
    assert_eq!(case.foretell(Speech::Http).ending, Ending::Unavailable(Flag::NoEndpoint));
}

/// A13. Red if a port's number alone is thought to lead to the pods of another cluster.
#[test]
fn a_port_of_another_name_leads_nowhere() {
    let mut case = Case::of(proxied(), configuration(vec![of_shop("STRICT")], vec![]));
    (case.crosses, case.service.renamed) = (true, true);
    assert_eq!(case.foretell(Speech::Http).ending, Ending::Unavailable(Flag::NoEndpoint));
}

/// A15. Red if silence is taken for a refusal.
#[test]
fn a_client_that_waits_for_the_server_hears_nothing_wherever_tls_is_taken() {
    for (mode, owed) in [("PERMISSIVE", Ending::Silence), ("STRICT", Ending::Silence), ("DISABLE", Ending::Plaintext)] {
        let case = Case::of(Caller::Naked, configuration(vec![of_shop(mode)], vec![]));
        assert_eq!(case.foretell(Speech::ServerFirst).ending, owed, "{mode}");
    }
    assert!(!Ending::Silence.is_answer());
}

#[test]
fn what_cannot_be_read_is_not_foretold() {
    let mut case = Case::of(Caller::Naked, configuration(vec![], vec![]));
    case.at_server.policies = Policies::Unknown { reason: "403".into() };
    let Case { caller, service, server, at_caller, at_server, .. } = &case;
    let call = Call { speech: Speech::Http, caller, service, server, through: None, at_caller, at_server };
    assert_eq!(foretell(&call), None);
}
