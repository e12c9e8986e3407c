//! The user's own service as the server: what its manifests must declare. They are read before anything is written.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use serde_json::Value;

use super::error::{Error, Result};
use super::manifests::{Manifests, NAMESPACE, WORKLOADS};
use super::plan::OwnService;
use crate::judge::Arm;

impl OwnService {
    /// Checks that a side declares the service, with its port, and with pods behind it. Needs no mesh.
    ///
    /// # Errors
    /// [`Error::Service`], with what the side declares instead.
    pub fn checked(&self, manifests: &Manifests, side: Arm) -> Result<()> {
        self.selector(manifests, side, NAMESPACE).map(drop)
    }

    /// The label selector of the service, in the namespace of an arm.
    ///
    /// # Errors
    /// Those of [`OwnService::checked`].
    pub(super) fn selector(&self, manifests: &Manifests, side: Arm, namespace: &str) -> Result<String> {
        let failed = |reason: String| Error::Service { service: self.name.clone(), side, reason };
        let objects = manifests.in_namespace(namespace);
        let of_kind = |version: &'static str, kind: &'static str| {
            objects.iter().filter(move |object| object["apiVersion"] == version && object["kind"] == kind)
        };
        let services: Vec<&Value> = of_kind("v1", "Service").collect();
        let Some(service) = services.iter().find(|service| service["metadata"]["name"] == *self.name) else {
            let names = services.iter().filter_map(|service| service["metadata"]["name"].as_str());
            let names = listed(names.map(|name| format!("Service/{name}")).collect(), "no Service");
            return Err(failed(format!("its manifests declare {names}: add it, with its Deployment")));
        };
        let service: Service = serde_json::from_value((*service).clone())
            .map_err(|error| failed(format!("Service/{} in its manifests is none: {error}", self.name)))?;
        let ServiceSpec { ports, selector, .. } = service.spec.unwrap_or_default();
        let ports = ports.unwrap_or_default();
        if !ports.iter().any(|port| port.port == i32::from(self.port)) {
            let declared = listed(ports.iter().map(told).collect(), "no port");
            let Self { name, port, .. } = self;
            return Err(failed(format!(
                "Service/{name} in its manifests has {declared}, and must have the port {port}"
            )));
        }
        let selector = selector.unwrap_or_default();
        if selector.is_empty() {
            return Err(failed("it selects no pods: give it a selector".into()));
        }
        let patched = WORKLOADS.map(|name| ours(name, manifests.patch(name, namespace)));
        let mut pods = of_kind("apps/v1", "Deployment").map(labels).chain(patched);
        if !pods.any(|labels| selector.iter().all(|(key, value)| labels.get(key) == Some(value))) {
            let reason =
                "it selects the pods of no Deployment in its manifests: compare its selector with their labels";
            return Err(failed(reason.into()));
        }
        Ok(selector.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(","))
    }
}

/// Labels of the pods of a Deployment.
fn labels(deployment: &Value) -> BTreeMap<String, String> {
    let labels = deployment.pointer("/spec/template/metadata/labels");
    labels.and_then(|labels| serde_json::from_value(labels.clone()).ok()).unwrap_or_default()
}

/// Labels of the pods of a workload of ours.
fn ours(name: &str, patch: Option<Value>) -> BTreeMap<String, String> {
    let mut all = patch.as_ref().map(labels).unwrap_or_default();
    all.insert("app".into(), name.into());
    all
}

fn told(port: &ServicePort) -> String {
    match &port.name {
        Some(name) => format!("{} ({name})", port.port),
        None => port.port.to_string(),
    }
}

/// The names, or `none` where there is none.
fn listed(names: Vec<String>, none: &str) -> String {
    if names.is_empty() { none.into() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const SHOP: &str = "
apiVersion: v1
kind: Service
metadata: {name: cart}
spec:
  selector: {app: cart, of: '${NAMESPACE}'}
  ports: [{name: http, port: 80, targetPort: 8080}, {port: 9090}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: cart}
spec: {template: {metadata: {labels: {app: cart, of: '${NAMESPACE}', tier: back}}}}
";

    fn checked(text: &str, name: &str, port: u16) -> Result<String> {
        let manifests = Manifests::parse(text, Path::new("shop.yaml"))?;
        let own = OwnService { name: name.into(), port, path: "/".into() };
        own.checked(&manifests, Arm::Treatment)?;
        own.selector(&manifests, Arm::Treatment, "arm")
    }

    #[test]
    fn a_declared_service_is_known_by_its_port_and_its_selector() {
        assert_eq!(checked(SHOP, "cart", 9090).unwrap(), "app=cart,of=arm");
        // A service of the user in front of a workload of ours.
        let of_ours = SHOP.replace("selector: {app: cart, of: '${NAMESPACE}'}", "selector: {app: server}");
        assert_eq!(checked(&of_ours, "cart", 80).unwrap(), "app=server");
    }

    #[test]
    fn what_the_manifests_lack_is_told_with_what_they_have() {
        for (text, port, said) in [
            (SHOP.to_owned(), 70, "Service/cart in its manifests has 80 (http), 9090, and must have the port 70"),
            (SHOP.replace("port: 80,", "port: http,"), 80, "Service/cart in its manifests is none: invalid type"),
            (SHOP.replace("{name: cart}", "{name: basket}"), 80, "its manifests declare Service/basket: add it"),
            (String::new(), 80, "its manifests declare no Service: add it, with its Deployment"),
            (SHOP.replace("selector: {app: cart, of: '${NAMESPACE}'}", "selector: {}"), 80, "it selects no pods"),
            (
                SHOP.replace("labels: {app: cart", "labels: {app: card"),
                80,
                "it selects the pods of no Deployment in its manifests",
            ),
        ] {
            let error = checked(&text, "cart", port).unwrap_err();
            let owed = format!("service cart of the treatment cannot be measured: {said}");
            assert!(error.is_usage() && error.to_string().starts_with(&owed), "{text}: {error}");
        }
    }
}
