//! Finds Istio's control planes, and chooses the one to judge.

use std::collections::BTreeSet;

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::ResourceExt;

use super::error::{Error, Result};
use super::found::FoundControlPlane;
use super::reader::Reader;
use super::webhooks::{self, Injecting, REVISION};
use crate::cluster::is_ready;
use crate::record::Label;

/// Label selector of istiod's Deployments and Services.
pub(super) const ISTIOD: &str = "app=istiod";

/// Name that Istio gives to a control plane without a revision.
const DEFAULT: &str = "default";

/// All control planes of a cluster.
pub(super) struct ControlPlanes {
    istiods: Vec<Deployment>,
    webhooks: Vec<Injecting>,
}

/// One control plane: its Deployment, and the webhooks that ask it.
pub(super) struct ControlPlane {
    pub(super) deployment: Deployment,
    pub(super) webhooks: Vec<Injecting>,
}

impl ControlPlanes {
    /// Finds the control planes.
    ///
    /// # Errors
    /// [`Error::Forbidden`], [`Error::NoIstio`].
    pub(super) async fn find(reader: &Reader) -> Result<Self> {
        let (istiods, configurations) = futures::try_join!(
            reader.list::<Deployment>(None, ISTIOD, "where Istio is, is unknown"),
            reader.list_all::<MutatingWebhookConfiguration>("tags and injection labels are unknown"),
        )?;
        let context = reader.context.clone();
        let Some(istiods) = istiods else {
            let doing = "list deployments in all namespaces".into();
            return Err(Error::Forbidden { context, doing, reason: "403".into() });
        };
        let webhooks = webhooks::injecting(&configurations.unwrap_or_default());
        if istiods.is_empty() {
            let elsewhere = webhooks.iter().find_map(|webhook| webhook.url.clone());
            let injector = elsewhere.map(|url| {
                format!(". Its injector is at {url}: attach to the cluster whose istiod that is; a cluster without an istiod of its own cannot be judged")
            });
            return Err(Error::NoIstio { context, injector: injector.unwrap_or_default() });
        }
        Ok(Self { istiods, webhooks })
    }

    /// What to tell of all of them.
    pub(super) fn all(&self) -> Vec<FoundControlPlane> {
        let found = self.istiods.iter().map(|istiod| {
            let asking: Vec<&Injecting> = self.asking(istiod).collect();
            let tags: BTreeSet<String> = asking.iter().filter_map(|webhook| webhook.tag.clone()).collect();
            let mut injection: Vec<Label> = Vec::new();
            for label in asking.iter().filter_map(|webhook| webhook.label.clone()) {
                if !injection.contains(&label) {
                    injection.push(label);
                }
            }
            FoundControlPlane {
                namespace: istiod.namespace().unwrap_or_default(),
                revision: Some(revision(istiod)).filter(|revision| revision != DEFAULT),
                tags: tags.into_iter().collect(),
                injection,
            }
        });
        found.collect()
    }

    /// The webhooks that ask this istiod.
    fn asking<'a>(&'a self, istiod: &'a Deployment) -> impl Iterator<Item = &'a Injecting> {
        let (namespace, revision) = (istiod.namespace(), revision(istiod));
        self.webhooks.iter().filter(move |webhook| {
            let service = webhook.service.as_ref();
            service.is_some_and(|service| Some(&service.namespace) == namespace.as_ref())
                && webhook.revision.as_deref().unwrap_or(DEFAULT) == revision
        })
    }

    /// The control plane to judge: of the revision or tag `named`, the one with the tag `default`, or the only one.
    ///
    /// # Errors
    /// [`Error::Revisions`], [`Error::UnknownRevision`].
    pub(super) fn choose(&self, context: &str, named: Option<&str>) -> Result<ControlPlane> {
        let has_tag = |istiod: &Deployment, tag: &str| self.asking(istiod).any(|by| by.tag.as_deref() == Some(tag));
        let is = |istiod: &&Deployment, name: &str| revision(istiod) == name || has_tag(istiod, name);
        let one = |name: &str| {
            let mut found = self.istiods.iter().filter(|istiod| is(istiod, name));
            found.next().filter(|_| found.next().is_none())
        };
        let chosen = match (named, self.istiods.as_slice()) {
            (Some(name), _) => one(name),
            (None, [only]) => Some(only),
            (None, _) => one(DEFAULT),
        };
        let known = || {
            let named = self
                .istiods
                .iter()
                .map(|istiod| format!("{} ({})", revision(istiod), istiod.namespace().unwrap_or_default()));
            named.collect::<Vec<_>>()
        };
        let context = context.to_owned();
        match (chosen, named) {
            (Some(deployment), _) => Ok(ControlPlane {
                deployment: deployment.clone(),
                webhooks: self.asking(deployment).cloned().collect(),
            }),
            (None, Some(name)) => Err(Error::UnknownRevision { context, revision: name.into(), known: known() }),
            (None, None) => Err(Error::Revisions { context, known: known() }),
        }
    }
}

impl ControlPlane {
    pub(super) fn namespace(&self) -> String {
        self.deployment.namespace().unwrap_or_default()
    }

    /// The revision. `None` for the default revision.
    pub(super) fn revision(&self) -> Option<String> {
        Some(revision(&self.deployment)).filter(|revision| revision != DEFAULT)
    }

    /// Label selector of istiod's pods.
    pub(super) fn selector(&self) -> String {
        let labels = self.deployment.spec.iter().flat_map(|spec| spec.selector.match_labels.iter().flatten());
        let mut selector: Vec<String> = labels.map(|(key, value)| format!("{key}={value}")).collect();
        // The selector of a revision without a name matches the pods of all revisions.
        let of_revision = format!("{REVISION}={}", revision(&self.deployment));
        if !selector.contains(&of_revision) {
            selector.push(of_revision);
        }
        selector.join(",")
    }

    /// istiod's ready pods.
    ///
    /// # Errors
    /// [`Error::Cluster`].
    pub(super) async fn pods(&self, reader: &Reader) -> Result<Vec<Pod>> {
        let namespace = self.namespace();
        let so = "istiod cannot be asked";
        let pods = reader.list::<Pod>(Some(&namespace), &self.selector(), so).await?.unwrap_or_default();
        Ok(pods.into_iter().filter(is_ready).collect())
    }

    /// The value of an environment variable of istiod.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        let set = containers(&self.deployment).flat_map(|container| container.env.iter().flatten());
        set.into_iter().find(|variable| variable.name == name)?.value.clone().filter(|value| !value.is_empty())
    }

    /// The value of an argument of istiod, such as `--domain`.
    pub(super) fn argument(&self, name: &str) -> Option<String> {
        let given: Vec<&String> =
            containers(&self.deployment).flat_map(|container| container.args.iter().flatten()).collect();
        let joined = given.iter().find_map(|argument| argument.strip_prefix(&format!("{name}=")).map(str::to_owned));
        let apart = given.iter().position(|argument| *argument == name).and_then(|at| given.get(at + 1));
        joined.or_else(|| apart.map(|value| (*value).clone()))
    }

    /// Whether a Service of this name is istiod's own, as Istio's charts name it.
    pub(super) fn is_own_service(&self, name: &str) -> bool {
        match self.revision() {
            None => name == "istiod",
            Some(revision) => name == format!("istiod-{revision}"),
        }
    }

    /// The tag of istiod's image.
    pub(super) fn image_tag(&self) -> Option<String> {
        let image = containers(&self.deployment).find_map(|container| container.image.as_deref())?;
        let (_, tag) = image.split_once('@').map_or(image, |(name, _)| name).rsplit_once(':')?;
        Some(tag.to_owned())
    }

    /// The label of a namespace that enables injection: preferably the one that names the revision itself.
    pub(super) fn injection(&self) -> Option<Label> {
        let labels: Vec<&Label> = self.webhooks.iter().filter_map(|webhook| webhook.label.as_ref()).collect();
        let revision = revision(&self.deployment);
        let of_revision = |label: &&&Label| label.key == REVISION && label.value == revision && revision != DEFAULT;
        let classic = |label: &&&Label| label.key == "istio-injection";
        let preferred = labels.iter().find(of_revision).or_else(|| labels.iter().find(classic)).or(labels.first());
        preferred.map(|label| (*label).clone())
    }
}

fn containers(deployment: &Deployment) -> impl Iterator<Item = &Container> {
    let template = deployment.spec.iter().filter_map(|spec| spec.template.spec.as_ref());
    template.flat_map(|pod| &pod.containers)
}

/// The revision of an istiod, `default` if it has none.
fn revision(istiod: &Deployment) -> String {
    let labelled = istiod.labels().get(REVISION).filter(|revision| !revision.is_empty());
    labelled.cloned().unwrap_or_else(|| DEFAULT.into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn istiod(namespace: &str, revision: &str) -> Deployment {
        let labels = json!({ "app": "istiod", "istio.io/rev": revision });
        let container = json!({
            "name": "discovery", "args": ["discovery", "--domain", "east.example"],
            "env": [{ "name": "CLUSTER_ID", "value": "east" }],
        });
        serde_json::from_value(json!({
            "metadata": { "name": "istiod", "namespace": namespace, "labels": labels },
            "spec": {
                "selector": { "matchLabels": { "app": "istiod" } },
                "template": { "spec": { "containers": [container] } },
            },
        }))
        .unwrap()
    }

    fn webhook(revision: &str, tag: Option<&str>, key: &str, value: &str) -> Injecting {
        let service = webhooks::Service {
            namespace: "istio-system".into(),
            name: "istiod".into(),
            port: 443,
            path: "/inject".into(),
        };
        Injecting {
            revision: Some(revision.into()),
            tag: tag.map(str::to_owned),
            service: Some(service),
            url: None,
            authorities: vec![],
            label: Some(Label { key: key.into(), value: value.into() }),
        }
    }

    fn planes(revisions: &[&str], webhooks: Vec<Injecting>) -> ControlPlanes {
        let istiods = revisions.iter().map(|revision| istiod("istio-system", revision)).collect();
        ControlPlanes { istiods, webhooks }
    }

    #[test]
    fn the_only_control_plane_is_chosen_whatever_its_revision() {
        let chosen = planes(&["1-31"], vec![]).choose("east", None).unwrap();
        assert_eq!(chosen.revision().as_deref(), Some("1-31"));
        assert_eq!(chosen.selector(), "app=istiod,istio.io/rev=1-31");
        assert_eq!(planes(&["default"], vec![]).choose("east", None).unwrap().revision(), None);
        assert_eq!(chosen.variable("CLUSTER_ID").as_deref(), Some("east"));
        assert_eq!(chosen.argument("--domain").as_deref(), Some("east.example"));
    }

    #[test]
    fn of_two_the_tag_default_decides_or_else_the_reader() {
        let two = planes(&["1-30", "1-31"], vec![]);
        let error = two.choose("east", None).err().unwrap().to_string();
        assert!(error.contains("1-30 (istio-system), 1-31 (istio-system): choose one with --revision"), "{error}");
        let tagged = planes(&["1-30", "1-31"], vec![webhook("1-31", Some("default"), "istio-injection", "enabled")]);
        assert_eq!(tagged.choose("east", None).unwrap().revision().as_deref(), Some("1-31"));
        assert_eq!(tagged.choose("east", Some("1-30")).unwrap().revision().as_deref(), Some("1-30"));
        assert_eq!(tagged.all()[1].tags, ["default"]);
        let error = tagged.choose("east", Some("1-29")).err().unwrap().to_string();
        assert!(error.contains("no revision or tag `1-29`"), "{error}");
    }

    #[test]
    fn the_injection_label_is_one_that_a_webhook_of_the_revision_asks_for() {
        let webhooks = vec![
            webhook("1-31", Some("prod"), "istio.io/rev", "prod"),
            webhook("1-31", None, "istio.io/rev", "1-31"),
            webhook("1-30", None, "istio.io/rev", "1-30"),
        ];
        let chosen = planes(&["1-31"], webhooks).choose("east", None).unwrap();
        assert_eq!(chosen.injection(), Some(Label { key: "istio.io/rev".into(), value: "1-31".into() }));
        assert_eq!(planes(&["1-31"], vec![]).choose("east", None).unwrap().injection(), None);
    }
}
