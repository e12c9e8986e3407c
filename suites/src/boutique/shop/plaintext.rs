//! Plaintext to each of the application's services. The control is the same request over mutual TLS.

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Pod;
use meshproof::cluster;
use meshproof::identity::ClientCertificate;
use meshproof::istio::{issue, turned_away};
use meshproof::probe::{self, Dial, Expected, Vantage, dial, handshake};
use meshproof::record::HostPort;
use meshproof::report::Claim;
use meshproof::scope::claims;
use meshproof::{Error, Result, Scope, Workload};

use super::calls::{Call, needed};
use super::{FRONTEND, Shop};

/// Sends each service of the application a request in plaintext, and the same request with a certificate of the mesh.
/// Both requests come from the naked probe of the service's cluster, and go to the pod's own port. Claims that the
/// proxy resets the plaintext request, and that the other request is answered. The proxies must have the evidence log
/// enabled.
///
/// # Errors
/// A pod is missing, no certificate is issued, or a log cannot be read.
pub(crate) async fn no_plaintext(scope: &Scope) -> Result<Vec<Claim>> {
    let shop = Shop::of(&scope.testbed)?;
    let certificate = issue(&scope.testbed, &shop.pod(FRONTEND).await?).await?;
    let mut calls = needed(shop).await?;
    calls.sort_by(|one, other| one.callee().cmp(other.callee()));
    calls.dedup_by(|one, other| one.callee() == other.callee());
    try_join_all(calls.iter().map(|call| judge(scope, call, &certificate))).await
}

/// Like [`no_plaintext`], for the callee of `call`, with the request of `call`.
async fn judge(scope: &Scope, call: &Call, certificate: &ClientCertificate) -> Result<Claim> {
    let pod = Shop::of(&scope.testbed)?.pod(call.callee()).await?;
    let naked = probe::naked(&pod.cluster).await?;
    let port = port_of(&pod).await?;
    let Dial { protocol, request, .. } = &call.exchange.dial;
    let plaintext = Dial { request: request.clone(), ..dial(call.callee(), *protocol, &pod.address, port) };
    let over_tls = format!("{}-over-tls", call.callee());
    let control = handshake(over_tls, &HostPort::new(&pod.address, port), None, Some(certificate), *protocol);
    let control = Dial { request: request.clone(), ..control };
    let seen = Vantage::Naked(naked).dial(vec![plaintext, control]).await?;
    let [refused, control] = &seen[..] else { return Err(Error::suite("the probe does not report on two dials")) };
    let accounts = turned_away(std::slice::from_ref(refused), &pod).await?;
    let account = accounts.first().and_then(Option::as_ref);
    let requirement = "no service of the application takes plaintext";
    let how = Expected::Reset;
    let claim = claims::denied_by_proxy("plaintext", requirement, refused, how, control, &pod, account);
    Ok(claims::with_server_of_control(claim, control, &pod, &scope.testbed.trust))
}

/// The port of a workload's own container.
async fn port_of(workload: &Workload) -> cluster::Result<u16> {
    let Workload { cluster, namespace, pod, .. } = workload;
    let found = cluster.api::<Pod>(namespace).get(pod).await;
    let spec = found.map_err(cluster.failed(format!("read pod {namespace}/{pod}")))?.spec.unwrap_or_default();
    let proxy = &cluster.record().istio.proxy.container;
    let own = spec.containers.into_iter().filter(|container| container.name != *proxy);
    let port = own.flat_map(|container| container.ports.unwrap_or_default()).next();
    port.and_then(|port| u16::try_from(port.container_port).ok()).ok_or_else(|| cluster::Error::NoPod {
        cluster: cluster.name().into(),
        namespace: namespace.clone(),
        selector: pod.clone(),
        seen: "and its container names no port".into(),
    })
}
