//! Rules, their manifest, and a preflight against an API server of this process.

mod live;

use std::collections::BTreeSet;
use std::convert::Infallible;

use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

use super::*;
use crate::record::tests::cluster;
use crate::record::{self, AccessLog, ProbeDeployment, Write};

/// A cluster like an attached one, in which suites deploy the probes.
fn attached() -> record::Cluster {
    let mut cluster = cluster("east");
    let secret = Some("registries/credentials".into());
    let deployment =
        ProbeDeployment { image: "registry.example/probe:1".into(), pull_policy: None, pull_secret: secret };
    cluster.probes.as_mut().unwrap().deployment = Some(deployment);
    cluster.istio.access_log = Some(AccessLog::Filter);
    cluster.lease_namespace = Some("meshproof-naked".into());
    cluster.bench = None;
    cluster
}

fn places() -> Places {
    Places::of(&attached(), &[Write::Namespaces, Write::Objects])
}

fn rules_of(mode: Mode) -> Vec<Rule> {
    needed(mode.tasks(), &places())
}

fn subject() -> Subject {
    Subject::ServiceAccount { namespace: "ci".into(), name: "meshproof".into() }
}

/// An API server that denies what `denies` says of `VERB RESOURCE NAMESPACE`, with this status for each request.
fn server(status: u16, denies: impl Fn(&str) -> bool + Clone + Send + 'static) -> Client {
    let service = tower::service_fn(move |request: Request<Body>| {
        let denies = denies.clone();
        async move {
            let body = request.into_body().collect_bytes().await.unwrap();
            let mut review: Value = serde_json::from_slice(&body).unwrap();
            let asked = &review["spec"]["resourceAttributes"];
            let text = |field: &str| asked[field].as_str().unwrap_or_default().to_owned();
            let resource = match asked["subresource"].as_str() {
                Some(subresource) => format!("{}/{subresource}", text("resource")),
                None => text("resource"),
            };
            let line = format!("{} {resource} {}", text("verb"), text("namespace"));
            review["status"] = json!({ "allowed": !denies(line.trim()) });
            if status != 201 {
                let message = "selfsubjectaccessreviews.authorization.k8s.io is forbidden: you may not ask";
                review = json!({"kind": "Status", "status": "Failure", "message": message, "code": status});
            }
            let body = Body::from(review.to_string().into_bytes());
            Ok::<_, Infallible>(Response::builder().status(status).body(body).unwrap())
        }
    });
    Client::new(service, "default")
}

fn asked(name: &str, client: Client) -> Asked {
    Asked { cluster: name.into(), client, rules: rules_of(Mode::Suites) }
}

#[tokio::test]
async fn all_that_is_missing_in_all_clusters_is_in_one_table_with_its_reason() {
    let east = asked("east", server(201, |line| line == "delete namespaces"));
    let west = asked("west", server(201, |line| line.ends_with("pods/exec") || line == "get configmaps istio-system"));
    let found = preflight(&[east, west]).await;
    let table = found.to_string();
    println!("{table}");
    for line in [
        "east     namespaces  delete      (everywhere)",
        "west     configmaps  get         istio-system",
        "west     pods/exec   get create  (everywhere)  dial from the probes",
    ] {
        assert!(table.contains(line), "{line}\n{table}");
    }
    assert!(table.starts_with("4 of ") && table.lines().count() == 5, "{table}");
    let refused = found.check().unwrap_err();
    assert_eq!(refused.to_string(), table);
}

#[tokio::test]
async fn with_all_rights_there_is_nothing_to_say() {
    let found = preflight(&[asked("east", server(201, |_| false))]).await;
    assert!(found.is_granted(), "{found}");
    let verbs: usize = rules_of(Mode::Suites).iter().map(|rule| rule.verbs.len()).sum();
    assert_eq!(found.to_string(), format!("{verbs} rights are there"));
    found.check().unwrap();
}

#[tokio::test]
async fn a_cluster_that_cannot_be_asked_grants_nothing() {
    for status in [403, 404, 500] {
        let found = preflight(&[asked("east", server(status, |_| false)), asked("west", server(201, |_| false))]).await;
        assert!(!found.is_granted(), "{status}");
        let message = found.check().unwrap_err().to_string();
        println!("{message}");
        assert!(message.contains("east: could not ask") && message.contains("you may not ask"), "{message}");
        assert!(!message.contains("west:"), "{message}");
    }
}

#[test]
fn reading_needs_no_right_to_write() {
    for rule in rules_of(Mode::ReadOnly) {
        // Kubernetes counts a port-forward as creating.
        let reads = |verb: &&str| ["get", "list", "watch"].contains(verb) || rule.resource == "pods/portforward";
        assert!(rule.verbs.iter().all(reads), "{rule:?}");
    }
}

#[test]
fn whoever_may_create_an_object_may_also_find_and_delete_it() {
    for rule in rules_of(Mode::Suites) {
        let is_request = rule.resource.contains('/');
        // A copied Secret and the Lease go with their namespace. Listing Secrets would be reading them.
        let goes_along = ["secrets", "leases"].contains(&rule.resource);
        if rule.verbs.contains(&"create") && !is_request && !goes_along {
            assert!(rule.verbs.contains(&"delete") && rule.verbs.contains(&"list"), "{rule:?}");
        }
    }
}

#[test]
fn no_rule_is_wider_than_it_must_be() {
    for rule in rules_of(Mode::Suites) {
        assert!(!rule.why.is_empty() && !rule.verbs.contains(&"*") && rule.resource != "*", "{rule:?}");
        let wide = rule.extent == Extent::Cluster;
        let reads = rule.verbs.iter().any(|verb| ["get", "list", "watch"].contains(verb));
        assert!(!(rule.resource == "secrets" && wide && reads), "every Secret of the cluster: {rule:?}");
        assert!(!(rule.resource == "serviceaccounts/token" && wide), "every identity of the cluster: {rule:?}");
        assert!(!(rule.resource == "leases" && wide), "{rule:?}");
        assert!(!(rule.resource == "nodes" && rule.verbs.contains(&"patch")), "{rule:?}");
    }
    let all = Places::of(&attached(), &[Write::Namespaces, Write::Objects, Write::NodeLabels]);
    let nodes = |rule: &Rule| rule.resource == "nodes" && rule.verbs.contains(&"patch");
    assert!(needed(Mode::Suites.tasks(), &all).iter().any(nodes), "the record permits it");
}

#[test]
fn each_right_is_asked_for_once() {
    let rules = rules_of(Mode::Suites);
    let rights = rules.iter().flat_map(|rule| rule.verbs.iter().map(move |verb| (rule.resource_name(), *verb)));
    let everywhere: BTreeSet<_> = rules
        .iter()
        .filter(|rule| rule.extent == Extent::Cluster)
        .flat_map(|rule| rule.verbs.iter().map(move |verb| (rule.resource_name(), *verb)))
        .collect();
    let count = |right: &(String, &str)| rights.clone().filter(|one| one == right).count();
    assert!(everywhere.iter().all(|right| count(right) == 1), "a right for the cluster holds in its namespaces");
}

#[test]
fn the_manifest_has_every_right_and_says_what_for() {
    let (rules, places) = (rules_of(Mode::Suites), places());
    let yaml = to_yaml(&rules, &places, "meshproof", &subject());
    println!("{yaml}");
    let objects: Vec<Value> = serde_saphyr::from_multiple(&yaml).unwrap();
    let kinds: Vec<&str> = objects.iter().map(|object| object["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "ClusterRole").count(), 1);
    for rule in &rules {
        let namespace = match &rule.extent {
            Extent::Cluster => &Value::Null,
            Extent::Namespace(name) => &json!(name),
        };
        let grants = |object: &Value| {
            let mut granted = object["rules"].as_array().into_iter().flatten();
            &object["metadata"]["namespace"] == namespace
                && granted.any(|one| {
                    one["resources"] == json!([rule.resource])
                        && one["apiGroups"] == json!([rule.group])
                        && one["verbs"] == json!(rule.verbs)
                })
        };
        assert!(objects.iter().any(grants), "{rule:?}");
        assert!(yaml.contains(&format!("# {}: {}", rule.resource_name(), rule.why)), "{rule:?}");
    }
    // Whose namespace has meshproof's label, `detach` removes it.
    let named = |kind: &str| -> BTreeSet<&str> {
        let of_kind = objects.iter().filter(|object| object["kind"] == kind);
        of_kind.map(|object| object["metadata"]["name"].as_str().unwrap()).collect()
    };
    assert_eq!(named("Namespace"), BTreeSet::from(["meshproof-naked", "pinnacle"]));
    let theirs = Places::of(&cluster("east"), &[]);
    let yaml = to_yaml(&needed(&[Task::Suites], &theirs), &theirs, "meshproof", &subject());
    assert!(!yaml.contains("kind: Namespace\n"), "probes that stand already stand in somebody's namespace");
}

#[test]
fn users_and_groups_are_bound_as_such() {
    let rules = needed(&[Task::Attach], &Places::of_istio("istio-system"));
    for (subject, kind) in [(Subject::User("jane".into()), "User"), (Subject::Group("sre".into()), "Group")] {
        let yaml = to_yaml(&rules, &Places::default(), "meshproof", &subject);
        let objects: Vec<Value> = serde_saphyr::from_multiple(&yaml).unwrap();
        let bound: Vec<_> = objects.iter().filter(|object| object["subjects"][0]["kind"] == kind).collect();
        assert_eq!(bound.len(), 2, "{yaml}");
        assert_eq!(bound[0]["subjects"][0]["apiGroup"], "rbac.authorization.k8s.io");
    }
}
