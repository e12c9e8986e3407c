//! Istio's own manifests: rendered by istioctl, and written as all other objects are.
//!
//! `istioctl install` would write them as well, but it asks only every two seconds whether anything is ready.

use std::fs::File;
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use kube::ResourceExt;
use kube::api::{Api, DynamicObject, ObjectMeta, PostParams};
use kube::core::GroupVersionKind;
use kube::runtime::watcher;
use meshproof::cluster::watch_all;
use meshproof::{Seen, eventually};
use serde_json::Value;

use super::install::{BOUND, Member, SYSTEM};
use crate::artifacts::Key;
use crate::kubernetes::{self, Kind};
use crate::{paths, template};

/// Label of every object that was installed, with the name of what it belongs to. istioctl sets the same one.
const OWNER: &str = "install.operator.istio.io/owning-resource";

/// Kind of the definitions of Istio's own kinds.
const DEFINITION: &str = "CustomResourceDefinition";

/// Kinds that Istio's charts render. Definitions are not among them: with one, all objects of its kind would go.
const KINDS: [Kind<'static>; 11] = [
    Kind { version: "admissionregistration.k8s.io/v1", name: "MutatingWebhookConfiguration" },
    Kind { version: "admissionregistration.k8s.io/v1", name: "ValidatingWebhookConfiguration" },
    Kind { version: "apps/v1", name: "Deployment" },
    Kind { version: "apps/v1", name: "DaemonSet" },
    Kind { version: "v1", name: "Service" },
    Kind { version: "v1", name: "ConfigMap" },
    Kind { version: "v1", name: "ServiceAccount" },
    Kind { version: "rbac.authorization.k8s.io/v1", name: "ClusterRoleBinding" },
    Kind { version: "rbac.authorization.k8s.io/v1", name: "ClusterRole" },
    Kind { version: "rbac.authorization.k8s.io/v1", name: "RoleBinding" },
    Kind { version: "rbac.authorization.k8s.io/v1", name: "Role" },
];

/// Name of the container that istiod injects.
const PROXY: &str = "istio-proxy";

impl Member<'_> {
    /// Writes what IstioOperator files declare, of which a later one adds to the earlier ones, and removes what earlier
    /// versions of the files declared and these do not. `name` tells installations apart. Does not wait until
    /// anything runs.
    pub(super) async fn install(&self, name: &str, fixtures: &[&str]) -> Result<()> {
        let operators = fixtures.iter().map(|relative| template::fixture(relative, &self.values));
        let operators = operators.collect::<Result<Vec<_>>>()?;
        let client = &self.target.client;
        kubernetes::once(client, name, &operators.concat(), async {
            let objects = self.rendered(name, &operators).await?;
            let written = kubernetes::apply_objects(client, &objects).await?;
            kubernetes::prune(client, &KINDS, &format!("{OWNER}={name}"), &written).await
        })
        .await
    }

    /// The objects of IstioOperator files. They are kept in the cache, because every cluster that is made anew has the
    /// same ones again.
    async fn rendered(&self, name: &str, operators: &[String]) -> Result<Vec<DynamicObject>> {
        let key = Key::new("manifests 1").text(name).text(&self.istioctl.to_string_lossy()).text(&operators.concat());
        let kept = self.store.path("manifests", &key.finish());
        if let Some(objects) = read_kept(&kept) {
            return Ok(objects);
        }
        let objects = self.render(name, operators).await?;
        let text = serde_json::to_string(&objects).context("objects are not JSON")?;
        paths::write_secret(&kept, &text)?;
        Ok(objects)
    }

    async fn render(&self, name: &str, operators: &[String]) -> Result<Vec<DynamicObject>> {
        let mut command = self.istioctl(&["manifest", "generate"]);
        for (number, operator) in operators.iter().enumerate() {
            let file = self.target.secrets.join(format!("{name}-{number}.yaml"));
            std::fs::write(&file, operator).with_context(|| format!("cannot write {}", file.display()))?;
            command = command.arg("--filename").arg(&file);
        }
        let mut objects = kubernetes::parse(&command.stdout().await?)?;
        for object in &mut objects {
            object.labels_mut().insert(OWNER.into(), name.into());
        }
        Ok(objects)
    }

    /// Waits until the API server serves Istio's own kinds.
    pub(super) async fn defined(&self) -> Result<()> {
        let definitions = GroupVersionKind::gvk("apiextensions.k8s.io", "v1", DEFINITION);
        let resource = kube::discovery::ApiResource::from_gvk(&definitions);
        let all: Api<DynamicObject> = Api::all_with(self.target.client.clone(), &resource);
        let ours = watcher::Config::default().labels(OWNER);
        Ok(watch_all(all, ours, "Istio's kinds to be established", BOUND, established).await?)
    }

    /// Waits until new pods get proxies. That is no object's state: the API server must reach istiod by its service, and
    /// know the authority of istiod's certificate. So this asks for a pod that is not created.
    pub(super) async fn injects(&self) -> Result<()> {
        let pods: Api<Pod> = Api::namespaced(self.target.client.clone(), SYSTEM);
        let pod = injected_pod(self.declaration.istio.revision.as_deref().unwrap_or("default"));
        let dry = PostParams { dry_run: true, ..PostParams::default() };
        let injects = eventually("istiod to inject a proxy into a pod", BOUND, async || {
            let answered = pods.create(&dry, &pod).await?;
            Ok::<_, kube::Error>(if has_proxy(&answered) { Seen::Yes(()) } else { Seen::NotYet("no proxy".into()) })
        });
        Ok(injects.await?)
    }
}

/// What an earlier run kept. `None` if there is nothing that can be read: it is made again.
fn read_kept(path: &Path) -> Option<Vec<DynamicObject>> {
    let objects = serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok()?;
    // The time of the last use, for the sweep of the cache.
    let _ = File::open(path).and_then(|file| file.set_modified(SystemTime::now()));
    Some(objects)
}

/// Whether every definition is established.
fn established(definitions: &[&DynamicObject]) -> Seen<()> {
    if definitions.is_empty() {
        return Seen::NotYet("there is none".into());
    }
    let is_established = |definition: &DynamicObject| {
        let conditions = definition.data.pointer("/status/conditions").and_then(Value::as_array);
        conditions
            .into_iter()
            .flatten()
            .any(|condition| condition["type"] == "Established" && condition["status"] == "True")
    };
    let lacking: Vec<String> =
        definitions.iter().filter(|definition| !is_established(definition)).map(|one| one.name_any()).collect();
    if lacking.is_empty() { Seen::Yes(()) } else { Seen::NotYet(format!("not {}", lacking.join(", "))) }
}

/// A pod that the control plane of `revision` gives a proxy, in a namespace that selects no revision.
fn injected_pod(revision: &str) -> Pod {
    let labels = [("sidecar.istio.io/inject", "true"), ("istio.io/rev", revision)];
    let container = Container { name: "none".into(), image: Some("none".into()), ..Container::default() };
    Pod {
        metadata: ObjectMeta {
            name: Some("meshproof-is-not-created".into()),
            labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec { containers: vec![container], ..PodSpec::default() }),
        ..Pod::default()
    }
}

fn has_proxy(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    // A native sidecar is an init container.
    spec.init_containers.iter().flatten().chain(&spec.containers).any(|container| container.name == PROXY)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn definition(name: &str, established: &str) -> DynamicObject {
        let conditions = json!([
            {"type": "NamesAccepted", "status": "True"},
            {"type": "Established", "status": established},
        ]);
        let object = json!({"metadata": {"name": name}, "status": {"conditions": conditions}});
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn what_was_kept_is_read_again_and_what_is_broken_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let kept = directory.path().join("kept");
        assert!(read_kept(&kept).is_none());
        paths::write_secret(&kept, &serde_json::to_string(&[definition("a", "True")]).unwrap()).unwrap();
        assert_eq!(read_kept(&kept).unwrap()[0].name_any(), "a");
        std::fs::write(&kept, "[{").unwrap();
        assert!(read_kept(&kept).is_none());
    }

    #[test]
    fn every_definition_must_be_established() {
        let (yes, no) = (definition("a", "True"), definition("b", "False"));
        assert_eq!(established(&[&yes]), Seen::Yes(()));
        assert_eq!(established(&[&yes, &no]), Seen::NotYet("not b".into()));
        assert!(matches!(established(&[]), Seen::NotYet(_)));
    }

    #[test]
    fn a_proxy_is_found_as_a_container_and_as_a_native_sidecar() {
        let mut pod = injected_pod("default");
        assert!(!has_proxy(&pod));
        let proxy = Container { name: PROXY.into(), ..Container::default() };
        pod.spec.as_mut().unwrap().init_containers = Some(vec![proxy.clone()]);
        assert!(has_proxy(&pod));
        pod.spec.as_mut().unwrap().init_containers = None;
        pod.spec.as_mut().unwrap().containers.push(proxy);
        assert!(has_proxy(&pod));
    }
}
