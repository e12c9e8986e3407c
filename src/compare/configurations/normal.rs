//! What a proxy was given, without what differs between any two pods: names, addresses, versions, times and secrets.

use std::collections::BTreeMap;

use serde_json::Value;

/// What a proxy was given: the value of each field, by resource and path.
pub(super) type Given = BTreeMap<Resource, BTreeMap<String, String>>;

/// A part of a proxy's configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Resource {
    pub(super) part: Part,
    /// Name. Empty for what there is once.
    pub(super) name: String,
}

/// The parts of a proxy's configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// The pod: image, arguments, environment and resources of its containers.
    Pod,
    /// What the proxy started with.
    Bootstrap,
    Listener,
    Route,
    Cluster,
    /// Anything else that the proxy tells.
    Other,
}

/// Fields that say when or as what something was received.
const PASSING: [&str; 6] =
    ["version_info", "last_updated", "client_status", "uid", "generation", "kubernetes.io/config.seen"];

/// Begins each step of a path. No name has it.
pub(super) const STEP: char = '\u{1}';

/// Beginning of the addresses that Istio gives to service entries.
const ALLOCATED: &str = "240.240.";

/// Pods differ in it, and their proxies are told.
const NAMED: &str = "NAMED";

/// The names of one pod and its surroundings, each with what stands for it in both arms.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    names: Vec<(String, &'static str)>,
}

impl Names {
    /// Adds a name. An empty one is none.
    pub(super) fn add(&mut self, name: impl Into<String>, stands: &'static str) {
        let name = name.into();
        if !name.is_empty() && !self.names.iter().any(|(known, _)| *known == name) {
            self.names.push((name, stands));
            // The longest first: a pod's name begins with its deployment's.
            self.names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        }
    }

    /// The text, with what stands for each name.
    fn replace(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, stands) in &self.names {
            text = bounded(&text, name, stands);
        }
        allocated(&text)
    }
}

/// Replaces the addresses that Istio gives to service entries without one: they depend on the namespace.
fn allocated(text: &str) -> String {
    let (mut result, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once(ALLOCATED) {
        result.push_str(before);
        result.push_str("ALLOCATED");
        rest = after.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    }
    result + rest
}

/// Replaces `name` where no letter or digit continues it: 10.0.0.1 is not in 10.0.0.12.
fn bounded(text: &str, name: &str, stands: &str) -> String {
    let continues = |neighbour: Option<char>| neighbour.is_some_and(char::is_alphanumeric);
    let (mut result, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find(name) {
        let (before, after) = (&rest[..at], &rest[at + name.len()..]);
        let previous = before.chars().next_back().or_else(|| result.chars().next_back());
        let inside = continues(previous) || continues(after.chars().next());
        result.push_str(before);
        result.push_str(if inside { name } else { stands });
        rest = after;
    }
    result + rest
}

/// What Envoy's `/config_dump` says that the proxy was given. Secrets are left out, and so are listeners that drain.
pub(super) fn given(dump: &Value, names: &Names) -> Given {
    let mut given = Given::new();
    for config in dump["configs"].as_array().into_iter().flatten() {
        let kind = config["@type"].as_str().unwrap_or_default().rsplit('.').next().unwrap_or_default();
        match kind {
            "BootstrapConfigDump" => add(&mut given, Part::Bootstrap, "", &config["bootstrap"], names),
            "ClustersConfigDump" => {
                for list in ["static_clusters", "dynamic_active_clusters"] {
                    each(&mut given, Part::Cluster, &config[list], "/cluster", names);
                }
            }
            "ListenersConfigDump" => {
                each(&mut given, Part::Listener, &config["static_listeners"], "/listener", names);
                each(&mut given, Part::Listener, &config["dynamic_listeners"], "/active_state/listener", names);
            }
            // Static routes are part of their listeners.
            "RoutesConfigDump" => {
                each(&mut given, Part::Route, &config["dynamic_route_configs"], "/route_config", names)
            }
            "SecretsConfigDump" | "EndpointsConfigDump" => {}
            other => add(&mut given, Part::Other, other, config, names),
        }
    }
    given
}

/// What the pod was given: its containers and its own labels and annotations.
pub(super) fn of_pod(pod: &Value, names: &Names) -> (Resource, BTreeMap<String, String>) {
    let mut fields = BTreeMap::new();
    for list in ["containers", "initContainers"] {
        for container in pod["spec"][list].as_array().into_iter().flatten() {
            let mut container = container.clone();
            if let Some(container) = container.as_object_mut() {
                // Tokens are mounted below random names.
                container.remove("volumeMounts");
            }
            let name = container["name"].as_str().unwrap_or_default().to_owned();
            flatten(&container, &format!("{STEP}{list}{STEP}[{name}]"), names, &mut fields);
        }
    }
    (Resource { part: Part::Pod, name: String::new() }, fields)
}

fn each(given: &mut Given, part: Part, list: &Value, pointer: &str, names: &Names) {
    for resource in list.as_array().into_iter().flatten().filter_map(|entry| entry.pointer(pointer)) {
        let name = resource["name"].as_str().unwrap_or_default();
        add(given, part, &names.replace(name), resource, names);
    }
}

fn add(given: &mut Given, part: Part, name: &str, value: &Value, names: &Names) {
    flatten(value, "", names, given.entry(Resource { part, name: name.into() }).or_default());
}

/// Adds every leaf of `value` by its path. Items with names are told apart by them, those of one name by their order, and
/// all others by their place.
fn flatten(value: &Value, path: &str, names: &Names, into: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (key, value) in fields.iter().filter(|(key, _)| !PASSING.contains(&key.as_str())) {
                flatten(value, &format!("{path}{STEP}{}", names.replace(key)), names, into);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            let mut seen: BTreeMap<String, usize> = BTreeMap::new();
            for (index, item) in items.iter().enumerate() {
                let key = item["name"].as_str().map_or_else(
                    || index.to_string(),
                    |name| {
                        let name = names.replace(name);
                        let times = seen.entry(name.clone()).or_default();
                        *times += 1;
                        if *times == 1 { name } else { format!("{name} #{times}") }
                    },
                );
                flatten(item, &format!("{path}{STEP}[{key}]"), names, into);
            }
        }
        Value::String(text) => drop(into.insert(path.to_owned(), names.replace(text))),
        other => drop(into.insert(path.to_owned(), other.to_string())),
    }
}

/// The names of a pod: its own, its addresses, and the hash of its template.
pub(super) fn names_of(pod: &Value, stands: &'static str, into: &mut Names) {
    let text = |pointer: &str| pod.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    into.add(text("/metadata/name"), stands);
    into.add(text("/metadata/uid"), NAMED);
    into.add(text("/metadata/labels/pod-template-hash"), NAMED);
    into.add(text("/spec/nodeName"), "NODE");
    into.add(text("/status/hostIP"), "NODE_ADDRESS");
    for address in pod["status"]["podIPs"].as_array().into_iter().flatten() {
        into.add(address["ip"].as_str().unwrap_or_default(), "POD_ADDRESS");
    }
    for volume in pod["spec"]["volumes"].as_array().into_iter().flatten() {
        let name = volume["name"].as_str().unwrap_or_default();
        if name.starts_with("kube-api-access-") {
            into.add(name, NAMED);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn path(steps: &[&str]) -> String {
        steps.iter().map(|step| format!("{STEP}{step}")).collect()
    }

    fn names(namespace: &str, address: &str) -> Names {
        let mut names = Names::default();
        names.add(namespace, "NAMESPACE");
        names.add(address, "POD_ADDRESS");
        names
    }

    fn dump(namespace: &str, address: &str, timeout: &str) -> Value {
        let cluster = json!({ "name": format!("outbound|8080||server.{namespace}.svc"), "connect_timeout": timeout });
        json!({ "configs": [
            { "@type": "type.googleapis.com/envoy.admin.v3.BootstrapConfigDump", "last_updated": address,
              "bootstrap": { "node": { "id": format!("sidecar~{address}~server.{namespace}"), "metadata": { "A": [1, 2] } } } },
            { "@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump", "version_info": address,
              "dynamic_active_clusters": [{ "version_info": address, "cluster": cluster }] },
            { "@type": "type.googleapis.com/envoy.admin.v3.SecretsConfigDump", "dynamic_active_secrets": [{ "name": address }] },
        ]})
    }

    #[test]
    fn two_pods_with_one_configuration_were_given_the_same() {
        let one = given(&dump("arm-a", "10.0.0.1", "1s"), &names("arm-a", "10.0.0.1"));
        let other = given(&dump("arm-b", "10.0.0.12", "1s"), &names("arm-b", "10.0.0.12"));
        assert_eq!(one, other);
        let changed = given(&dump("arm-b", "10.0.0.12", "2s"), &names("arm-b", "10.0.0.12"));
        assert_ne!(one, changed);
        let cluster = Resource { part: Part::Cluster, name: "outbound|8080||server.NAMESPACE.svc".into() };
        assert_eq!(changed[&cluster][&path(&["connect_timeout"])], "2s");
    }

    #[test]
    fn an_address_within_a_longer_one_is_not_replaced() {
        assert_eq!(bounded("10.0.0.1 10.0.0.12 110.0.0.1", "10.0.0.1", "X"), "X 10.0.0.12 110.0.0.1");
    }

    #[test]
    fn an_address_that_istio_allocates_is_none_of_the_configuration() {
        assert_eq!(allocated("240.240.0.7_443 and 240.240.12.1"), "ALLOCATED_443 and ALLOCATED");
        assert_eq!(allocated("240.24.0.7"), "240.24.0.7");
    }

    #[test]
    fn items_are_told_apart_by_their_names_and_else_by_their_places() {
        let mut fields = BTreeMap::new();
        let chains = json!([{ "name": "a", "on": 1 }, { "name": "a", "on": 2 }]);
        let value = json!({ "chains": chains, "ports": [1, 2], "none": [] });
        flatten(&value, "", &Names::default(), &mut fields);
        let paths: Vec<String> = fields.keys().map(|path| path.replace(STEP, "/")).collect();
        let chains = ["/chains/[a #2]/name", "/chains/[a #2]/on", "/chains/[a]/name", "/chains/[a]/on"];
        assert_eq!(paths[..4], chains);
        assert_eq!(paths[4..], ["/none", "/ports/[0]", "/ports/[1]"]);
    }

    #[test]
    fn resources_and_images_of_a_pod_are_what_it_was_given() {
        let pod = json!({ "spec": { "containers": [{ "name": "istio-proxy", "image": "proxy:1", "volumeMounts": [1],
            "resources": { "limits": { "cpu": "1" } } }] } });
        let (resource, fields) = of_pod(&pod, &Names::default());
        assert_eq!(resource.part, Part::Pod);
        let cpu = path(&["containers", "[istio-proxy]", "resources", "limits", "cpu"]);
        assert_eq!(fields[&cpu], "1");
        assert!(!fields.keys().any(|path| path.contains("volumeMounts")));
    }
}
