//! The state of nodes, deployments and Secrets before a test changed them, on the objects themselves: in annotations, and
//! in keys of a Secret. After a killed test, the next test or `up` restores the state.

use std::collections::BTreeMap;
use std::fmt::Debug;

use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Node, Secret};
use kube::api::{Api, Patch, PatchParams};
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Error, Result};
use crate::cluster::HOSTNAME_LABEL;
use crate::istio::MULTI_CLUSTER;

/// Annotation on a node: the labels that tests have changed, each with its previous value.
pub(super) const LABELS: &str = "meshproof.dev/prior-labels";

/// Annotation on a deployment that a test has scaled: the previous replicas.
pub(super) const REPLICAS: &str = "meshproof.dev/prior-replicas";

/// Annotation on a deployment that a test has placed: the previous value of its node selector's [`HOSTNAME_LABEL`].
pub(super) const PLACEMENT: &str = "meshproof.dev/prior-placement";

/// Label of a Secret whose data a test has replaced.
pub(super) const DATA: &str = "meshproof.dev/prior-data-kept";

/// Begins the keys of such a Secret that hold the previous values. An annotation would show them to whoever describes the
/// Secret.
const KEPT: &str = "meshproof-prior.";

/// Label of a remote secret that a test has changed. Until it is put back, the secret may lack [`MULTI_CLUSTER`].
pub(crate) const REMOTE: &str = "meshproof.dev/prior-remote-secret";

/// Annotation on such a secret whose data a test has changed: the previous data. A key of the Secret would not do: istiod
/// takes each key for the name of a cluster.
pub(super) const REMOTE_DATA: &str = "meshproof.dev/prior-data";

/// Most attempts at an update with conflicts.
const ATTEMPTS: u32 = 10;

/// A value before the first change, and the run that made the first change.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Prior<T> {
    run: String,
    value: T,
}

/// By label. `None`: the node did not have the label.
type Labels = BTreeMap<String, Prior<Option<String>>>;

/// The replicas of the deployment before any test changed them.
pub(super) fn replicas(deployment: &Deployment) -> Result<i32> {
    let prior: Option<Prior<i32>> = read(deployment, REPLICAS)?;
    let now = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    Ok(prior.map_or(now, |prior| prior.value))
}

/// The patch that scales a deployment and records the replicas before the first change.
pub(super) fn scaling(deployment: &Deployment, to: i32, run: &str) -> Result<Option<Value>> {
    let mut patch = json!({"spec": {"replicas": to}});
    if read::<Prior<i32>>(deployment, REPLICAS)?.is_none() {
        let prior = Prior { run: run.to_owned(), value: replicas(deployment)? };
        patch["metadata"]["annotations"][REPLICAS] = json!(prior).to_string().into();
    }
    Ok(Some(patch))
}

/// The patch that restores a deployment's replicas. `None` if no test has changed them.
pub(super) fn unscaling(deployment: &Deployment) -> Result<Option<Value>> {
    let prior: Option<Prior<i32>> = read(deployment, REPLICAS)?;
    Ok(prior.map(|prior| json!({"metadata": {"annotations": {REPLICAS: null}}, "spec": {"replicas": prior.value}})))
}

/// The patch that places a deployment's pods on the node with the host name `to`, and records the selector before the
/// first change.
pub(super) fn placing(deployment: &Deployment, to: &str, run: &str) -> Result<Option<Value>> {
    let mut patch = selecting(Some(to));
    if read::<Prior<Option<String>>>(deployment, PLACEMENT)?.is_none() {
        let prior = Prior { run: run.to_owned(), value: placed(deployment) };
        patch["metadata"]["annotations"][PLACEMENT] = json!(prior).to_string().into();
    }
    Ok(Some(patch))
}

/// The patch that restores a deployment's node selector. `None` if no test has changed it.
pub(super) fn unplacing(deployment: &Deployment) -> Result<Option<Value>> {
    let Some(prior) = read::<Prior<Option<String>>>(deployment, PLACEMENT)? else { return Ok(None) };
    let mut patch = selecting(prior.value.as_deref());
    patch["metadata"]["annotations"][PLACEMENT] = Value::Null;
    Ok(Some(patch))
}

/// The host name that a deployment's node selector names.
pub(super) fn placed(deployment: &Deployment) -> Option<String> {
    deployment.spec.as_ref()?.template.spec.as_ref()?.node_selector.as_ref()?.get(HOSTNAME_LABEL).cloned()
}

/// The patch that makes a deployment's node selector name this host.
fn selecting(host: Option<&str>) -> Value {
    json!({"spec": {"template": {"spec": {"nodeSelector": {HOSTNAME_LABEL: host}}}}})
}

/// The patch that sets or removes a node's label and records the value before the first change.
pub(super) fn labelling(node: &Node, label: &str, value: Option<&str>, run: &str) -> Result<Option<Value>> {
    let mut patch = json!({"metadata": {"labels": {label: value}}});
    let mut prior: Labels = read(node, LABELS)?.unwrap_or_default();
    if !prior.contains_key(label) {
        let before = node.labels().get(label).cloned();
        prior.insert(label.to_owned(), Prior { run: run.to_owned(), value: before });
        patch["metadata"]["annotations"][LABELS] = json!(prior).to_string().into();
    }
    Ok(Some(patch))
}

/// The patch that restores a node's label `only`, or all labels that tests have changed.
pub(super) fn unlabelling(node: &Node, only: Option<&str>) -> Result<Option<Value>> {
    let prior: Labels = read(node, LABELS)?.unwrap_or_default();
    let (back, kept): (Labels, Labels) =
        prior.into_iter().partition(|(label, _)| only.is_none_or(|only| only == label.as_str()));
    if back.is_empty() {
        return Ok(None);
    }
    let labels: BTreeMap<&String, &Option<String>> = back.iter().map(|(label, prior)| (label, &prior.value)).collect();
    let annotation = (!kept.is_empty()).then(|| json!(kept).to_string());
    Ok(Some(json!({"metadata": {"labels": labels, "annotations": {LABELS: annotation}}})))
}

/// The patch that replaces all data of a Secret, and keeps the data from before the first change.
pub(super) fn replacing(secret: &Secret, data: &BTreeMap<String, String>) -> Result<Option<Value>> {
    let now = secret.data.clone().unwrap_or_default();
    let is_first = !secret.labels().contains_key(DATA);
    let mut values: BTreeMap<String, Value> = BTreeMap::new();
    for (key, value) in now.iter().filter(|(key, _)| !key.starts_with(KEPT)) {
        values.insert(key.clone(), Value::Null);
        if is_first {
            values.insert(format!("{KEPT}{key}"), json!(value));
        }
    }
    values.extend(data.iter().map(|(key, text)| (key.clone(), json!(ByteString(text.clone().into_bytes())))));
    Ok(Some(json!({"metadata": {"labels": {DATA: "true"}}, "data": values})))
}

/// The patch that restores the data of a Secret. `None` if no test has changed it.
pub(super) fn unreplacing(secret: &Secret) -> Result<Option<Value>> {
    if !secret.labels().contains_key(DATA) {
        return Ok(None);
    }
    let now = secret.data.clone().unwrap_or_default();
    let (kept, new): (Vec<_>, Vec<_>) = now.into_iter().partition(|(key, _)| key.starts_with(KEPT));
    let mut values: BTreeMap<String, Value> = new.into_iter().map(|(key, _)| (key, Value::Null)).collect();
    for (key, value) in kept {
        values.insert(key.trim_start_matches(KEPT).to_owned(), json!(value));
        values.insert(key, Value::Null);
    }
    Ok(Some(json!({"metadata": {"labels": {DATA: null}}, "data": values})))
}

/// The patch that hides a remote secret from istiod.
pub(crate) fn hiding(_: &Secret) -> Result<Option<Value>> {
    Ok(Some(json!({"metadata": {"labels": {MULTI_CLUSTER: null, REMOTE: "true"}}})))
}

/// The patch that gives a remote secret other data, and shows it to istiod. Keeps the data from before the first change.
pub(crate) fn showing(secret: &Secret, data: &BTreeMap<String, String>) -> Result<Option<Value>> {
    let mut patch = json!({"metadata": {"labels": {MULTI_CLUSTER: "true", REMOTE: "true"}}, "stringData": data});
    if !secret.annotations().contains_key(REMOTE_DATA) {
        patch["metadata"]["annotations"][REMOTE_DATA] = json!(secret.data).to_string().into();
    }
    Ok(Some(patch))
}

/// The patch that restores a remote secret. `None` if no test has changed it.
pub(crate) fn unhiding(secret: &Secret) -> Result<Option<Value>> {
    if !secret.labels().contains_key(REMOTE) {
        return Ok(None);
    }
    let mut patch = json!({"metadata": {"labels": {MULTI_CLUSTER: "true", REMOTE: null}}});
    if let Some(data) = read::<Value>(secret, REMOTE_DATA)? {
        patch["metadata"]["annotations"][REMOTE_DATA] = Value::Null;
        patch["data"] = data;
    }
    Ok(Some(patch))
}

fn read<T: DeserializeOwned>(object: &impl Resource<DynamicType = ()>, annotation: &'static str) -> Result<Option<T>> {
    let text = object.meta().annotations.as_ref().and_then(|annotations| annotations.get(annotation));
    let parsed = text.map(|text| serde_json::from_str(text)).transpose();
    parsed.map_err(|source| Error::Prior { object: object.meta().name.clone().unwrap_or_default(), annotation, source })
}

/// Updates an object with the patch computed from its current state. Value and annotation change atomically, and only
/// if the object has not changed in between. Returns whether there was a patch.
pub(crate) async fn change<K>(
    api: &Api<K>,
    name: &str,
    failed: impl Fn(kube::Error) -> Error,
    patch: impl Fn(&K) -> Result<Option<Value>>,
) -> Result<bool>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let mut attempt = 0;
    loop {
        attempt += 1;
        let found = api.get(name).await.map_err(&failed)?;
        let Some(mut patch) = patch(&found)? else { return Ok(false) };
        patch["metadata"]["resourceVersion"] = found.resource_version().into();
        match api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(_) => return Ok(true),
            Err(kube::Error::Api(status)) if status.code == 409 && attempt < ATTEMPTS => {}
            Err(error) => return Err(failed(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Applies a merge patch (RFC 7386), as the API server does.
    fn merge(target: &mut Value, patch: &Value) {
        let Value::Object(changes) = patch else {
            *target = patch.clone();
            return;
        };
        if !target.is_object() {
            *target = json!({});
        }
        for (key, change) in changes {
            if change.is_null() {
                target.as_object_mut().unwrap().remove(key);
            } else {
                merge(&mut target[key], change);
            }
        }
    }

    fn patched<K: Serialize + DeserializeOwned>(object: &K, patch: Option<Value>) -> K {
        let mut merged = json!(object);
        merge(&mut merged, &patch.unwrap());
        serde_json::from_value(merged).unwrap()
    }

    fn node(labels: &[(&str, &str)]) -> Node {
        let mut node = Node::default();
        node.labels_mut().extend(labels.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned())));
        node
    }

    fn deployment(replicas: i32) -> Deployment {
        serde_json::from_value(json!({
            "metadata": {"name": "shop"},
            "spec": {"replicas": replicas, "selector": {}, "template": {}},
        }))
        .unwrap()
    }

    #[test]
    fn a_node_gets_back_the_label_that_it_had_before_the_first_change() {
        let before = node(&[("bypass", "off")]);
        let changed = patched(&before, labelling(&before, "bypass", Some("on"), "r1").unwrap());
        assert_eq!(changed.labels()["bypass"], "on");
        // A later run, after a killed one.
        let again = patched(&changed, labelling(&changed, "bypass", None, "r2").unwrap());
        assert!(!again.labels().contains_key("bypass"));
        let back = patched(&again, unlabelling(&again, Some("bypass")).unwrap());
        assert_eq!((back.labels(), back.annotations()), (before.labels(), before.annotations()));
        assert_eq!(unlabelling(&back, None).unwrap(), None, "a label that no test has changed is left alone");
    }

    #[test]
    fn a_node_that_did_not_have_the_label_loses_it_and_keeps_its_others() {
        let before = node(&[("zone", "a")]);
        let changed = patched(&before, labelling(&before, "bypass", Some("on"), "r1").unwrap());
        let changed = patched(&changed, labelling(&changed, "other", Some("on"), "r1").unwrap());
        let one = patched(&changed, unlabelling(&changed, Some("bypass")).unwrap());
        assert!(!one.labels().contains_key("bypass") && one.labels().contains_key("other"), "{:?}", one.labels());
        let back = patched(&one, unlabelling(&one, None).unwrap());
        assert_eq!((back.labels(), back.annotations()), (before.labels(), before.annotations()));
    }

    #[test]
    fn a_secret_gets_back_its_data_byte_for_byte() {
        let before: Secret = serde_json::from_value(json!({
            "metadata": { "name": "cacerts", "labels": { "own": "yes" } },
            "data": { "key": "AP8K", "chain": "YQ==" },
        }))
        .unwrap();
        let data = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect::<BTreeMap<_, _>>()
        };
        let once = patched(&before, replacing(&before, &data(&[("key", "new"), ("added", "b")])).unwrap());
        let now = |secret: &Secret, key: &str| secret.data.as_ref().unwrap().get(key).map(|value| value.0.clone());
        assert_eq!((now(&once, "key"), now(&once, "chain")), (Some(b"new".to_vec()), None), "all data is replaced");
        // A later run, after a killed one.
        let twice = patched(&once, replacing(&once, &data(&[("key", "newer")])).unwrap());
        assert_eq!((now(&twice, "key"), now(&twice, "added")), (Some(b"newer".to_vec()), None));
        let back = patched(&twice, unreplacing(&twice).unwrap());
        assert_eq!((&back.data, back.labels()), (&before.data, before.labels()));
        assert_eq!(unreplacing(&back).unwrap(), None, "a Secret that no test has changed is left alone");
    }

    #[test]
    fn a_remote_secret_gets_back_its_data_and_its_label() {
        let before: Secret = serde_json::from_value(json!({
            "metadata": { "name": "remote", "labels": { MULTI_CLUSTER: "true" } },
            "data": { "east": "AP8K" },
        }))
        .unwrap();
        let hidden = patched(&before, hiding(&before).unwrap());
        assert!(!hidden.labels().contains_key(MULTI_CLUSTER));
        let token = |text: &str| BTreeMap::from([("east".to_owned(), text.to_owned())]);
        let shown = patched(&hidden, showing(&hidden, &token("refused")).unwrap());
        assert!(shown.labels().contains_key(MULTI_CLUSTER));
        // As the API server does with `stringData`. A later run follows, after a killed one.
        let stored = |mut secret: Secret| {
            let written = secret.string_data.take().unwrap_or_default();
            let written = written.into_iter().map(|(key, text)| (key, ByteString(text.into_bytes())));
            secret.data.get_or_insert_default().extend(written);
            secret
        };
        let shown = stored(shown);
        assert_eq!(shown.data.as_ref().unwrap()["east"].0, b"refused");
        let again = stored(patched(&shown, showing(&shown, &token("refused again")).unwrap()));
        let back = patched(&again, unhiding(&again).unwrap());
        let of = |secret: &Secret| (secret.data.clone(), secret.labels().clone(), secret.annotations().clone());
        assert_eq!(of(&back), of(&before));
        assert_eq!(unhiding(&back).unwrap(), None, "a remote secret that no test has changed is left alone");
    }

    #[test]
    fn a_deployment_gets_back_the_replicas_that_it_had_before_the_first_change() {
        let before = deployment(3);
        let none = patched(&before, scaling(&before, 0, "r1").unwrap());
        // A later run, after a killed one.
        assert_eq!(replicas(&none).unwrap(), 3);
        let one = patched(&none, scaling(&none, 1, "r2").unwrap());
        assert_eq!(one.spec.as_ref().unwrap().replicas, Some(1));
        let back = patched(&one, unscaling(&one).unwrap());
        assert_eq!((back.spec, back.metadata.annotations.unwrap_or_default()), (before.spec, BTreeMap::new()));
        assert_eq!(unscaling(&deployment(0)).unwrap(), None, "a deployment that no test has scaled is left alone");
    }

    #[test]
    fn a_deployment_gets_back_the_node_selector_that_it_had_before_the_first_change() {
        let with = |selector: Value| -> Deployment {
            let pods = json!({"containers": [], "nodeSelector": selector});
            let spec = json!({"replicas": 1, "selector": {}, "template": {"spec": pods}});
            serde_json::from_value(json!({"metadata": {"name": "shop"}, "spec": spec})).unwrap()
        };
        for selector in [json!({"disk": "fast"}), json!({"disk": "fast", HOSTNAME_LABEL: "worker3"})] {
            let before = with(selector);
            let first = patched(&before, placing(&before, "worker1", "r1").unwrap());
            assert_eq!(placed(&first).as_deref(), Some("worker1"));
            // A later run, after a killed one.
            let second = patched(&first, placing(&first, "worker2", "r2").unwrap());
            assert_eq!(placed(&second).as_deref(), Some("worker2"));
            let back = patched(&second, unplacing(&second).unwrap());
            assert_eq!((back.spec, back.metadata.annotations.unwrap_or_default()), (before.spec, BTreeMap::new()));
        }
        assert_eq!(unplacing(&deployment(1)).unwrap(), None, "a deployment that no test has placed is left alone");
    }

    #[test]
    fn an_annotation_that_cannot_be_read_is_named() {
        let mut broken = deployment(1);
        broken.annotations_mut().insert(REPLICAS.into(), "many".into());
        let error = unscaling(&broken).unwrap_err().to_string();
        assert!(error.contains("shop") && error.contains(REPLICAS), "{error}");
    }
}
