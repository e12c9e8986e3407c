//! What suites do in a mesh: everything that is created, and everything that is called. As a stream of YAML, whose
//! comments tell what is not an object.

use std::fmt::Write as _;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Resource;
use serde_json::{Value, json};

use super::calls::calls;
use crate::record::Record;
use crate::scope::{LEASE, Planned, planned};

/// What suites do in the mesh of a record.
pub fn plan(record: &Record) -> String {
    let mut text = String::new();
    for Planned { cluster, objects } in planned(record) {
        comment(
            &mut text,
            &format!("CLUSTER {cluster}: the first suite creates these objects, and `detach` removes them"),
        );
        objects.iter().for_each(|object| document(&mut text, object));
        let of_cluster = record.clusters.iter().find(|one| one.name == cluster);
        if let Some(namespace) = of_cluster.and_then(|cluster| cluster.lease_namespace.as_ref()) {
            document(&mut text, &lease(namespace));
        }
        let secret = of_cluster.and_then(|cluster| cluster.to_deploy()?.1.secret());
        if let Some((namespace, name)) = secret {
            comment(&mut text, &format!("and a copy of the Secret {namespace}/{name} in each of these namespaces"));
        }
    }
    if text.is_empty() {
        comment(&mut text, "Nothing is created: the record permits no write");
    } else {
        let prefix = record.capabilities.namespace_prefix.as_deref().unwrap_or("meshproof");
        comment(
            &mut text,
            &format!("Tests of `mtls` create in every cluster, and remove at their end:\n{}", of_tests(prefix)),
        );
    }
    comment(&mut text, &format!("CALLS, at most\n{}", calls(record)));
    text
}

/// The Lease that keeps two runs from judging the mesh at once.
fn lease(namespace: &str) -> Value {
    json!({
        "apiVersion": Lease::api_version(&()), "kind": Lease::kind(&()),
        "metadata": { "name": LEASE, "namespace": namespace },
    })
}

fn of_tests(prefix: &str) -> String {
    let own = |purpose: &str| format!("  Namespace {prefix}-{purpose}-HASH, with injection");
    let copy = "    in it ServiceAccount, Service and Deployment of one probe";
    format!(
        "{}\n{copy}, and PeerAuthentication permissive (PERMISSIVE, for that namespace only)\n{}\n{copy}",
        own("permissive"),
        own("unexposed")
    )
}

fn comment(text: &mut String, lines: &str) {
    for line in lines.lines() {
        let _ = writeln!(text, "# {line}");
    }
}

fn document(text: &mut String, object: &Value) {
    // Plain data: nothing in it can fail to be written.
    let yaml = serde_saphyr::to_string(object).unwrap_or_else(|error| format!("# not written: {error}\n"));
    let _ = write!(text, "---\n{yaml}");
    if !yaml.ends_with('\n') {
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::attach::mesh::tests::found;
    use crate::attach::{Access, FoundMesh, Names};
    use crate::probe::PROBES_LABEL;
    use crate::record::ProbeDeployment;

    fn record(access: &Access) -> Record {
        let mesh = FoundMesh::new(vec![found("east"), found("west")]).unwrap();
        mesh.record(Path::new("kubeconfig"), &Names::with_prefix("ours"), access)
    }

    fn deployed() -> Access {
        let pull_secret = Some("registry/login".to_owned());
        Access::Probes(ProbeDeployment { image: "registry.example/probe:1".into(), pull_policy: None, pull_secret })
    }

    #[test]
    fn a_plan_is_yaml_of_objects_in_namespaces_of_ours() {
        let text = plan(&record(&deployed()));
        let objects: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
        assert!(objects.len() > 20, "{} objects", objects.len());
        for object in &objects {
            let name = object["metadata"]["name"].as_str().unwrap();
            let namespace = object["metadata"]["namespace"].as_str().unwrap_or(name);
            assert!(namespace.starts_with("ours-"), "{object:#}");
            let labels = &object["metadata"]["labels"];
            assert!(labels[PROBES_LABEL] == "deployed" || object["kind"] == "Lease", "{object:#}");
        }
        let leases = objects.iter().filter(|object| object["kind"] == "Lease").count();
        assert_eq!(leases, 2);
        for part in ["CLUSTER west", "Secret registry/login", "ours-permissive-HASH", "CALLS, at most"] {
            assert!(text.contains(part), "no `{part}` in {text}");
        }
    }

    #[test]
    fn without_writes_nothing_is_created() {
        let text = plan(&record(&Access::ReadOnly));
        assert!(text.contains("Nothing is created") && !text.contains("---"), "{text}");
    }
}
