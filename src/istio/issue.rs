//! A certificate from istiod's CA, requested in the way of a workload's agent.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::PostParams;
use meshproof_probe::dial::grpc;
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::cluster::Testbed;
use crate::cluster::{Cluster, Workload, brief};
use crate::identity::{self, Certificate, ClientCertificate, SigningRequest};
use crate::istio::{Error, Result, secured};
use crate::record::{ControlPlane, Istio};

const METHOD: &str = "/istio.v1.auth.IstioCertificateService/CreateCertificate";

/// Requested lifetime of the certificate.
const LIFETIME_SECONDS: i64 = 3_600;

/// Time limit for the whole request.
const BOUND: Duration = Duration::from_secs(15);

/// `IstioCertificateRequest`.
#[derive(Clone, PartialEq, Message)]
struct CertificateRequest {
    /// PEM.
    #[prost(string, tag = "1")]
    csr: String,
    #[prost(int64, tag = "3")]
    validity_seconds: i64,
}

/// `IstioCertificateResponse`.
#[derive(Clone, PartialEq, Message)]
struct CertificateResponse {
    /// PEM, one certificate per entry, the leaf first.
    #[prost(string, repeated, tag = "1")]
    chain: Vec<String>,
}

/// A certificate for the identity of `workload`, issued by istiod of the workload's cluster.
///
/// # Errors
/// [`Error::NotIssued`], with the failed step.
pub async fn issue(testbed: &Testbed, workload: &Workload) -> Result<ClientCertificate> {
    let id = workload.spiffe_id(testbed.trust.domain());
    let cluster = &workload.cluster;
    let failed = |reason: String| Error::NotIssued { cluster: cluster.name().into(), identity: id.to_string(), reason };
    let SigningRequest { pem, key } = identity::request(&id)?;
    let asking = async {
        let token = token(workload).await?;
        let stream = connect(cluster, testbed.trust.roots()).await?;
        let message = CertificateRequest { csr: pem, validity_seconds: LIFETIME_SECONDS };
        let bearer = format!("Bearer {token}");
        let metadata = [("authorization", bearer.as_str()), ("clusterid", cluster.name())];
        let reply =
            grpc::call(stream, &cluster.record().istio.control_plane.server_name, METHOD, &metadata, &message).await;
        reply.map_err(|error| format!("its certificate service says: {error}"))
    };
    let reply = tokio::time::timeout(BOUND, asking).await;
    let reply: CertificateResponse = reply.map_err(|_| failed(format!("not done after {BOUND:?}")))?.map_err(failed)?;
    let chain_pem: String = reply.chain.iter().map(|certificate| format!("{}\n", certificate.trim_end())).collect();
    if chain_pem.is_empty() {
        return Err(failed("its reply holds no certificate".into()));
    }
    Ok(ClientCertificate { chain_pem, key_pem: key.serialize_pem() })
}

/// A token that authenticates the workload to istiod.
async fn token(workload: &Workload) -> Result<String, String> {
    let spec = TokenRequestSpec { audiences: vec!["istio-ca".into()], ..TokenRequestSpec::default() };
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let accounts = workload.cluster.api::<ServiceAccount>(&workload.namespace);
    let issued = accounts.create_token_request(&workload.service_account, &PostParams::default(), &request).await;
    let issued = issued.map_err(|error| format!("no token for its service account: {}", brief(&error)))?;
    issued.status.map(|status| status.token).ok_or_else(|| "the token request came back without a token".into())
}

/// A connection to istiod through the API server. Works wherever the API server is reachable.
async fn connect(
    cluster: &Arc<Cluster>,
    trusted: &[Certificate],
) -> Result<impl AsyncRead + AsyncWrite + Unpin + Send + use<>, String> {
    let Istio { namespace, control_plane: ControlPlane { selector, port, server_name }, .. } = &cluster.record().istio;
    let istiod = Workload::find(cluster, namespace, selector).await.map_err(|error| error.to_string())?;
    let forwarded = cluster.api::<Pod>(namespace).portforward(&istiod.pod, &[*port]).await;
    let mut forwarded = forwarded.map_err(|error| format!("no port-forward to {}: {}", istiod.pod, brief(&error)))?;
    let stream = forwarded.take_stream(*port).ok_or("the port-forward has no stream")?;
    let secured = secured(stream, trusted, server_name, b"h2").await;
    secured.map_err(|reason| format!("{}: {reason}", istiod.pod))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_messages_have_the_field_numbers_of_istios_certificate_service() {
        let request = CertificateRequest { csr: "c".into(), validity_seconds: 3_600 };
        assert_eq!(request.encode_to_vec(), b"\x0a\x01c\x18\x90\x1c");
        let response = CertificateResponse::decode(b"\x0a\x04leaf\x0a\x0cintermediate".as_slice()).unwrap();
        assert_eq!(response.chain, ["leaf", "intermediate"]);
    }
}
