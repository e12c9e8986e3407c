//! Faults of a proxy's certificates. An init container puts certificates where the agent looks for them before it asks
//! istiod: `workload-spiffe-credentials`.

use std::sync::Arc;
use std::time::Duration;

use meshproof::identity::{ClientCertificate, SpiffeId};
use meshproof::istio::await_endpoint;
use meshproof::k8s_openapi::api::core::v1::Pod;
use meshproof::probe::{self, Protocol, Vantage, dial};
use meshproof::record::{Requirement, Write};
use meshproof::report::Layer;
use meshproof::scope::claims;
use meshproof::scope::{CopiedProbe, copied_probe};
use meshproof::suites::Flaw;
use meshproof::{Cluster, Error, Scope, Verdict, Workload};
use serde_json::{Value, json};

use super::{Blame, Broken, SUITE, judge};

/// Longest wait for the pod.
const STARTED: Duration = Duration::from_secs(40);

/// Where the agent looks for certificates, and the volume that the injector mounts there.
const CREDENTIALS: &str = "/var/run/secrets/workload-spiffe-credentials";
const VOLUME: &str = "workload-certs";

/// Red if the chain of the destination's proxy is not looked at, or is not judged by its root and its end.
async fn a_fault(flaw: Flaw) -> Verdict {
    Scope::run(SUITE, format!("a_fault_of_certificates_{flaw}"), async |scope| {
        scope.requires([Requirement::Probes, Requirement::Write(Write::Namespaces)])?;
        scope.requires(flaw.needs_signing_key().then_some(Requirement::SigningKeys))?;
        let cluster = &scope.testbed.clusters[0];
        let namespace = scope.injected_namespace(cluster, "certified").await?;
        let destination = deploy(scope, cluster, &namespace, flaw).await?;
        let source = probe::caller(cluster).await?;
        await_endpoint(&source, &destination).await?;
        let host = format!("probe.{namespace}.svc.{}", cluster.record().domain);
        let call = dial("call", Protocol::Http1, host, probe::port(cluster, Protocol::Http1)?);
        let seen = Vantage::Meshed(source).dial(vec![call]).await?;
        let claim = claims::answered("broken", "a meshed caller is answered", &seen[0], &destination);
        let object = format!("Deployment {namespace}/probe");
        let blame = Blame { layer: Layer::Certificate, cluster: cluster.name().into(), object };
        judge(scope, &format!("certificate-{flaw}"), &Broken { claim, blame }).await;
        Ok(())
    })
    .await
}

async fn deploy(scope: &Scope, cluster: &Arc<Cluster>, namespace: &str, flaw: Flaw) -> Result<Workload, Error> {
    let CopiedProbe { mut account, mut service, mut deployment } = copied_probe(cluster, namespace).await?;
    let name = account["metadata"]["name"].as_str().unwrap_or_default();
    let id = SpiffeId::workload(scope.testbed.trust.domain(), namespace, name);
    let flawed = flaw.certificate(&scope.testbed, cluster.name(), &id)?;
    let flawed = flawed.ok_or_else(|| Error::suite("the flaw has no certificate"))?;
    let mut secret = secret(namespace, &flawed, scope);
    let template = &mut deployment["spec"]["template"];
    // A native sidecar starts before all other init containers, and looks for certificates once.
    template["metadata"]["annotations"]["sidecar.istio.io/nativeSidecar"] = "false".into();
    // With certificates of its own, the agent must be told by what root it knows istiod.
    let metadata = json!({ "proxyMetadata": { "XDS_ROOT_CA": "/var/run/secrets/istio/root-cert.pem" } });
    template["metadata"]["annotations"]["proxy.istio.io/config"] = metadata.to_string().into();
    let template = &mut template["spec"];
    template["initContainers"] = json!([copier(cluster).await?]);
    template["volumes"] = json!([
        { "name": "flawed", "secret": { "secretName": "flawed" } },
        // The injector adds the same volume, and leaves this one as it is.
        { "name": VOLUME, "emptyDir": {} },
    ]);
    for object in [&mut secret, &mut account, &mut service, &mut deployment] {
        scope.apply(cluster, object).await?;
    }
    Ok(Workload::await_ready(cluster, namespace, &probe::declared(cluster)?.meshed.selector, STARTED).await?)
}

fn secret(namespace: &str, ClientCertificate { chain_pem, key_pem }: &ClientCertificate, scope: &Scope) -> Value {
    // The proxy trusts the mesh's roots, so that only its own certificate is at fault.
    let roots = scope.testbed.record.mesh.trust.roots.concat();
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "flawed", "namespace": namespace },
        "stringData": { "cert-chain.pem": chain_pem, "key.pem": key_pem, "root-cert.pem": roots },
    })
}

/// A container that copies the certificates, with the image of a proxy: it has a shell.
async fn copier(cluster: &Arc<Cluster>) -> Result<Value, Error> {
    let Workload { namespace, pod, .. } = probe::meshed(cluster).await?;
    let found = cluster.api::<Pod>(&namespace).get(&pod).await;
    let found = found.map_err(cluster.failed(format!("read pod {namespace}/{pod}")))?;
    let proxy = &cluster.record().istio.proxy.container;
    let spec = found.spec.unwrap_or_default();
    let mut containers = spec.init_containers.into_iter().flatten().chain(spec.containers);
    let model = containers.find(|container| container.name == *proxy).unwrap_or_default();
    Ok(json!({
        "name": "certificates", "image": model.image, "imagePullPolicy": model.image_pull_policy,
        "command": ["sh", "-c", format!("cp -L /flawed/*.pem {CREDENTIALS}/")],
        "securityContext": {
            "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] },
            "runAsNonRoot": true, "runAsUser": 1337, "seccompProfile": { "type": "RuntimeDefault" },
        },
        "volumeMounts": [
            { "name": "flawed", "mountPath": "/flawed", "readOnly": true },
            { "name": VOLUME, "mountPath": CREDENTIALS },
        ],
    }))
}

crate::trials! {
    a_fault {
        of_a_foreign_root(Flaw::ForeignRoot),
        of_an_expired_certificate(Flaw::Expired),
    },
}
