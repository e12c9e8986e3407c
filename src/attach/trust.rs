//! The roots of a mesh, and the CAs that sign workloads, read without any Secret: roots are public in a ConfigMap, and a
//! server sends its chain.

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::ResourceExt;
use pem::{EncodeConfig, LineEnding, Pem};

use super::error::Result;
use super::reader::Reader;
use crate::cluster::http;
use crate::identity::Certificate;
use crate::istio;
use crate::record::{ControlPlane, Issuer};

/// ConfigMap in every namespace with the roots of the mesh.
const ROOTS: &str = "istio-ca-root-cert";

/// The roots in the ConfigMap of Istio's namespace.
///
/// # Errors
/// [`Error::Cluster`](super::Error::Cluster). [`Error::Identity`](super::Error::Identity): the ConfigMap has no
/// certificates.
pub(super) async fn roots(reader: &Reader, namespace: &str) -> Result<Vec<Certificate>> {
    let found: Option<Option<ConfigMap>> = reader.get(namespace, ROOTS, "the mesh's roots are unknown").await?;
    let data = found.flatten().and_then(|found| found.data).unwrap_or_default();
    let Some(pem) = data.get("root-cert.pem") else { return Ok(Vec::new()) };
    Ok(Certificate::all_from_pem(&format!("ConfigMap {namespace}/{ROOTS} of {}", reader.context), pem)?)
}

/// The CA that signs the workloads: the one below which istiod's own certificate is, by the chain that istiod sends.
///
/// # Errors
/// The reason, as text.
pub(super) async fn issuer(
    reader: &Reader,
    plane: &ControlPlane,
    istiod: &Pod,
    roots: &[Certificate],
) -> Result<Issuer, String> {
    let namespace = istiod.namespace().unwrap_or_default();
    let chain = http::bounded(async {
        let stream = reader.connect(&namespace, &istiod.name_any(), plane.port).await?;
        let stream = istio::secured(stream, roots, &plane.server_name, b"h2").await?;
        let sent = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let pem: String = sent.iter().map(|certificate| to_pem(certificate)).collect();
        Certificate::all_from_pem("istiod's chain", &pem).map_err(|error| error.to_string())
    });
    above(&chain.await?, roots)
}

/// The CAs between the first certificate of a chain and the root.
fn above(chain: &[Certificate], roots: &[Certificate]) -> Result<Issuer, String> {
    let (leaf, above) = chain.split_first().ok_or("istiod sends no certificate")?;
    let end = above.iter().position(|sent| roots.contains(sent)).unwrap_or(above.len());
    let signers = &above[..end];
    let signs = |authority: &Certificate| leaf.is_signed_by(authority).map_err(|error| error.to_string());
    let by_root = || -> Result<bool, String> {
        for root in roots {
            if signs(root)? {
                return Ok(true);
            }
        }
        Ok(false)
    };
    let known = match signers.first() {
        Some(first) => signs(first)?,
        None => by_root()?,
    };
    if !known {
        return Err("istiod's chain lacks the CA that signed its certificate".into());
    }
    Ok(Issuer {
        certificates: signers.iter().map(|signer| to_pem(signer.der())).collect(),
        key: None,
        parent_key: None,
    })
}

/// A certificate in PEM.
pub(super) fn to_pem(der: &[u8]) -> String {
    let lines = EncodeConfig::new().set_line_ending(LineEnding::LF);
    pem::encode_config(&Pem::new("CERTIFICATE", der), lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{Minter, SpiffeId, Validity};

    fn certificates(pem: &str) -> Vec<Certificate> {
        Certificate::all_from_pem("test", pem).unwrap()
    }

    /// A leaf, the CAs above it, and the root.
    fn sent(minter: &Minter) -> Vec<Certificate> {
        let id = SpiffeId::workload("corp.example", "istio-system", "istiod");
        certificates(&minter.mint(&id, Validity::Now).unwrap().chain_pem)
    }

    #[test]
    fn the_signer_is_what_stands_between_the_leaf_and_the_root() {
        let (root, stranger) = (Minter::authority("root").unwrap(), Minter::authority("stranger").unwrap());
        let intermediate = root.intermediate("east").unwrap();
        let roots = [&root, &stranger].map(|root| certificates(root.chain_pem()).remove(0));
        let mut chain = sent(&intermediate);
        let issuer = above(&chain, &roots).unwrap();
        assert_eq!(issuer.certificates.len(), 1);
        assert_eq!(certificates(&issuer.certificates[0]), chain[1..2], "the same bytes, in PEM");
        // istiod appends all roots that it trusts.
        chain.push(roots[1].clone());
        assert_eq!(above(&chain, &roots).unwrap(), issuer);
        assert_eq!(above(&chain[..2], &roots).unwrap(), issuer, "a server may leave the root out");
    }

    #[test]
    fn a_root_may_sign_by_itself_and_a_chain_with_a_gap_tells_nothing() {
        let root = Minter::authority("root").unwrap();
        let roots = [certificates(root.chain_pem()).remove(0)];
        assert!(above(&sent(&root), &roots).unwrap().certificates.is_empty());
        let chain = sent(&root.intermediate("east").unwrap());
        let gap = above(&[chain[0].clone(), roots[0].clone()], &roots).unwrap_err();
        assert!(gap.contains("lacks the CA"), "{gap}");
        above(&[], &roots).unwrap_err();
    }
}
