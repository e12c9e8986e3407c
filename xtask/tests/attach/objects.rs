//! All objects of a cluster, to be compared byte for byte.

use std::collections::BTreeMap;

use kube::api::{Api, DynamicObject, ListParams};
use kube::discovery::{Discovery, verbs};
use kube::{Client, ResourceExt};
use serde_json::Value;

/// All objects, by cluster, kind, namespace and name.
pub(crate) type Objects = BTreeMap<String, String>;

/// Kinds that change by themselves.
const RESTLESS: [&str; 2] = ["Lease", "Event"];

/// Annotation by which the leader of a control plane says that it is alive, in a ConfigMap in place of a Lease.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";

/// All objects of a cluster.
pub(crate) async fn of(client: &Client, cluster: &str) -> Objects {
    let discovered = Discovery::new(client.clone()).run_aggregated().await.expect("the cluster tells its kinds");
    let mut all = Objects::new();
    for (kind, capabilities) in discovered.groups().flat_map(|group| group.resources_by_stability()) {
        if RESTLESS.contains(&kind.kind.as_str()) || !capabilities.supports_operation(verbs::LIST) {
            continue;
        }
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &kind);
        let listed = match api.list(&ListParams::default()).await {
            Ok(listed) => listed.items,
            // Kinds that can be listed in name only.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 405) => continue,
            Err(error) => panic!("{cluster}: cannot list {}: {error}", kind.kind),
        };
        for object in listed {
            let place = format!(
                "{cluster} {}.{} {}/{}",
                kind.kind,
                kind.group,
                object.namespace().unwrap_or_default(),
                object.name_any()
            );
            all.insert(place, steady(serde_json::to_value(object).unwrap()));
        }
    }
    assert!(all.len() > 100, "{cluster} has only {} objects", all.len());
    all
}

/// The objects of a core kind.
pub(crate) async fn named(client: &Client, kind: &str) -> Vec<Value> {
    let kind = kube::core::GroupVersionKind::gvk("", "v1", kind);
    let (resource, _) = kube::discovery::pinned_kind(client, &kind).await.unwrap();
    let listed = Api::<DynamicObject>::all_with(client.clone(), &resource).list(&ListParams::default()).await.unwrap();
    listed.items.into_iter().map(|object| serde_json::to_value(object).unwrap()).collect()
}

/// The object without what changes by itself.
fn steady(mut object: Value) -> String {
    let metadata = &mut object["metadata"];
    if let Some(metadata) = metadata.as_object_mut() {
        metadata.remove("resourceVersion");
    }
    if let Some(annotations) = metadata["annotations"].as_object_mut()
        && annotations.remove(LEADER).is_some()
    {
        // Its manager notes the time of each renewal.
        metadata["managedFields"] = Value::Null;
    }
    if let Some(fields) = metadata["managedFields"].as_array_mut() {
        fields.retain(|manager| manager["subresource"] != "status");
    }
    if let Some(conditions) = object.pointer_mut("/status/conditions").and_then(Value::as_array_mut) {
        for condition in conditions.iter_mut().filter_map(Value::as_object_mut) {
            // A node's heartbeat, and the times at which the control plane's own pods became ready: what they are counts.
            condition.remove("lastHeartbeatTime");
            condition.remove("lastTransitionTime");
        }
    }
    serde_json::to_string_pretty(&object).unwrap()
}

/// What is not the same, each with its first line that differs.
pub(crate) fn differences(before: &Objects, after: &Objects) -> Vec<String> {
    let gone = before.keys().filter(|place| !after.contains_key(*place)).map(|place| format!("gone: {place}"));
    let new = after.keys().filter(|place| !before.contains_key(*place)).map(|place| format!("new: {place}"));
    let changed = before.iter().filter_map(|(place, was)| {
        let is = after.get(place)?;
        let (was, is) = was.lines().zip(is.lines()).find(|(was, is)| was != is).or((was != is).then_some(("", "")))?;
        Some(format!("changed: {place}: `{}` is `{}`", was.trim(), is.trim()))
    });
    gone.chain(new).chain(changed).collect()
}

#[test]
fn what_is_gone_new_or_changed_is_named() {
    let objects =
        |of: &[(&str, &str)]| of.iter().map(|(place, text)| ((*place).to_owned(), (*text).to_owned())).collect();
    let before: Objects = objects(&[("a", "1\n2"), ("b", "1"), ("c", "1")]);
    let after: Objects = objects(&[("a", "1\n3"), ("c", "1"), ("d", "1")]);
    assert_eq!(differences(&before, &after), ["gone: b", "new: d", "changed: a: `2` is `3`"]);
    assert!(differences(&before, &before).is_empty());
}

#[test]
fn an_objects_content_counts_and_its_version_does_not() {
    let object = |version: &str, value: &str| serde_json::json!({ "metadata": { "resourceVersion": version }, "data": { "key": value } });
    assert_eq!(steady(object("1", "a")), steady(object("2", "a")));
    assert_ne!(steady(object("1", "a")), steady(object("1", "b")));
}
