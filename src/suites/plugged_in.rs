//! The authority that the istiod of a cluster signs with, replaced by another one below the same root.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{LocalBoxFuture, try_join_all};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::cluster::{Cluster, Seen, Testbed, eventually};
use crate::identity::{self, Certificate, Minter, pem_certificates};
use crate::istio::issue;
use crate::probe;
use crate::record::{self, Signer, Write};
use crate::scope::change::{Change, NamespaceRef, SecretData};
use crate::scope::{Error, Result};

/// The Secret, and its keys.
const SECRET: &str = "cacerts";
const CERTIFICATE: &str = "ca-cert.pem";
const KEY: &str = "ca-key.pem";
const CHAIN: &str = "cert-chain.pem";
const ROOTS: &str = "root-cert.pem";

/// Annotation of istiod's pods. A change of it makes the kubelet look for new data of the Secret at once, and not within a
/// minute and a half.
const TOUCHED: &str = "meshproof.dev/touched";

/// Longest wait for istiod to sign with another authority.
const SIGNING: Duration = Duration::from_secs(60);

/// A new authority in the Secret `cacerts` of a cluster, as a change. Its root is the former one's.
#[derive(Debug)]
pub struct PluggedIn {
    testbed: Testbed,
    cluster: Arc<Cluster>,
    secret: SecretData,
    /// The authority that signs before and after the change.
    former: Certificate,
    /// The authority that signs meanwhile, and those above it, without the root. PEM.
    issuers: Vec<String>,
    authority: Certificate,
}

impl PluggedIn {
    /// Makes a new authority, which the parent of the present one signs.
    ///
    /// # Errors
    /// [`NotDeclared`](record::Error::NotDeclared): the record names no key of the parent, or istiod has no plugged-in
    /// authority with that parent. [`Error::Cluster`].
    pub async fn renewed(testbed: &Testbed, cluster: &Arc<Cluster>) -> Result<Self> {
        let Signer { key, .. } = cluster.record().parent_signer()?;
        let namespace = &cluster.record().istio.namespace;
        let found = SecretData::read(cluster, namespace, SECRET).await?;
        let lacking = || record::Error::not_declared(format!("an authority plugged into istiod of {}", cluster.name()));
        let [certificate, chain, roots] = [CERTIFICATE, CHAIN, ROOTS]
            .map(|key| text(&found, key))
            .into_iter()
            .collect::<Option<Vec<_>>>()
            .and_then(|texts| <[String; 3]>::try_from(texts).ok())
            .ok_or_else(lacking)?;
        let former = Certificate::from_pem("the present authority", &certificate)?;
        // The chain begins with the authority itself, and may end with the root.
        let above: Vec<String> = pem_certificates(&chain).into_iter().skip(1).collect();
        let parent =
            above.first().cloned().or_else(|| pem_certificates(&roots).into_iter().next()).ok_or_else(lacking)?;
        let path = testbed.directory.join(key);
        let key = std::fs::read_to_string(&path)
            .map_err(|error| identity::Error { what: path.display().to_string(), reason: error.to_string() })?;
        let name = format!("the parent of the authority of {}", cluster.name());
        let parents = if above.is_empty() { parent.clone() } else { above.concat() };
        let minted = Minter::from_pem(&name, parent, &key, parents)?.intermediate("meshproof renewed")?;
        let authority = Certificate::from_pem("the new authority", minted.certificate_pem())?;
        let is_root = |pem: &String| pem_certificates(&roots).contains(pem);
        let issuers = pem_certificates(minted.chain_pem()).into_iter().filter(|pem| !is_root(pem)).collect();
        let data = [
            (CERTIFICATE, minted.certificate_pem().to_owned()),
            (KEY, minted.key_pem()),
            (CHAIN, minted.chain_pem().to_owned()),
            (ROOTS, roots.clone()),
        ];
        let data: BTreeMap<String, String> = data.map(|(key, text)| (key.to_owned(), text)).into();
        Ok(Self {
            testbed: testbed.clone(),
            cluster: Arc::clone(cluster),
            secret: SecretData::new(cluster, namespace, SECRET, data),
            former,
            issuers,
            authority,
        })
    }

    /// The data of the Secret as they are now, by key.
    ///
    /// # Errors
    /// [`Error::Cluster`].
    pub async fn data(cluster: &Cluster) -> Result<BTreeMap<String, ByteString>> {
        let found = SecretData::read(cluster, &cluster.record().istio.namespace, SECRET).await?;
        Ok(found.data.unwrap_or_default())
    }

    /// The new authority's certificate.
    pub fn authority(&self) -> &Certificate {
        &self.authority
    }

    /// The former authority's certificate.
    pub fn former(&self) -> &Certificate {
        &self.former
    }

    /// The certificates of the new authority and of those above it, without the root. PEM.
    pub fn issuers(&self) -> &[String] {
        &self.issuers
    }

    /// Waits until istiod signs with `authority`.
    async fn signs_with(&self, authority: &Certificate) -> Result<()> {
        let workload = probe::meshed(&self.cluster).await?;
        let want = format!("istiod of {} to sign with the authority of {}", self.cluster.name(), self.secret);
        let mut looks = 0_u32;
        let signs = eventually(want, SIGNING, async || {
            looks += 1;
            self.touch(Some(&format!("{}-{looks}", crate::report::run()))).await?;
            let issued = issue(&self.testbed, &workload).await.map_err(Error::suite)?;
            let chain = Certificate::all_from_pem("an issued chain", &issued.chain_pem)?;
            let is_so = chain.get(1) == Some(authority);
            Ok::<_, Error>(if is_so { Seen::Yes(()) } else { Seen::NotYet("another authority signed".into()) })
        });
        Ok(signs.await?)
    }

    /// Annotates istiod's pods, or removes the annotation.
    async fn touch(&self, mark: Option<&str>) -> Result<()> {
        let istio = &self.cluster.record().istio;
        let pods = self.cluster.ready_pods(&istio.namespace, &istio.control_plane.selector).await?;
        let patch: Value = json!({ "metadata": { "annotations": { TOUCHED: mark } } });
        let touching = pods.iter().filter_map(|pod| pod.metadata.name.clone()).map(|name| {
            let (api, patch) = (self.cluster.api::<Pod>(&istio.namespace), patch.clone());
            async move { api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await }
        });
        let touched = try_join_all(touching).await;
        Ok(touched.map(drop).map_err(self.cluster.failed("annotate the pods of istiod"))?)
    }
}

impl fmt::Display for PluggedIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.secret.fmt(f)
    }
}

impl Change for PluggedIn {
    fn write(&self) -> Write {
        self.secret.write()
    }

    fn apply(&self) -> LocalBoxFuture<'_, Result<()>> {
        self.secret.apply()
    }

    fn verify(&self) -> LocalBoxFuture<'_, Result<()>> {
        self.signs_with(&self.authority).boxed_local()
    }

    fn revert(&self) -> LocalBoxFuture<'_, Result<()>> {
        async {
            self.secret.revert().await?;
            self.signs_with(&self.former).await?;
            self.touch(None).await
        }
        .boxed_local()
    }

    fn place(&self) -> Option<NamespaceRef> {
        self.secret.place()
    }
}

/// The text of a key.
fn text(secret: &Secret, key: &str) -> Option<String> {
    let ByteString(bytes) = secret.data.as_ref()?.get(key)?;
    String::from_utf8(bytes.clone()).ok()
}
