//! Faults of a proxy's certificates. An init container puts certificates where the agent looks for them before it asks
//! istiod.

use std::sync::Arc;

use meshproof::istio::await_endpoint;
use meshproof::probe::{self, Protocol, Vantage, dial};
use meshproof::record::{Requirement, Write};
use meshproof::report::Layer;
use meshproof::scope::claims;
use meshproof::scope::{copied_probe, deploy_probe_with};
use meshproof::suites::{Credentials, Flaw, ProxyImage, certify, identity_of};
use meshproof::{Cluster, Error, Scope, Verdict, Workload};

use super::{Blame, Broken, SUITE, judge};

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

/// A probe with the flawed certificate. Its proxy trusts the mesh's roots, so that only its own certificate is at fault.
async fn deploy(scope: &Scope, cluster: &Arc<Cluster>, namespace: &str, flaw: Flaw) -> Result<Workload, Error> {
    let image = ProxyImage::of(cluster).await?;
    let id = identity_of(&copied_probe(cluster, namespace).await?, scope.testbed.trust.domain());
    let flawed = flaw.certificate(&scope.testbed, cluster.name(), &id)?;
    let flawed = flawed.ok_or_else(|| Error::suite("the flaw has no certificate"))?;
    let credentials = Credentials::new(flawed, scope.testbed.record.mesh.trust.roots.concat());
    let pods = deploy_probe_with(scope, cluster, namespace, |copy| certify(copy, &image, &credentials)).await?;
    pods.into_iter().next().ok_or_else(|| Error::suite("the probe has no pod"))
}

crate::trials! {
    a_fault {
        of_a_foreign_root(Flaw::ForeignRoot),
        of_an_expired_certificate(Flaw::Expired),
    },
}
