//! The mesh's certificate authorities: one for each cluster (Istio's plug-in certificates), and those that sign them.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context, Result};
use meshproof::identity::pem_certificates;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};

use crate::declaration::Authority as Kind;
use crate::paths;

/// Validity of the authorities. A testbed lives for hours.
const VALIDITY: Duration = Duration::days(365);

/// Files of one cluster's authority, with the names that Istio's `cacerts` secret requires.
pub(crate) const FILES: [&str; 4] = ["ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem"];

/// The authorities on disk, a directory each: `secrets/<cluster>/`, and `secrets/root/` and the like for those above.
pub(crate) struct Authority {
    directory: PathBuf,
    kind: Kind,
}

/// The authorities above a cluster's own. Each signs the next; the first is a root.
fn above(kind: Kind, cluster: &str) -> Vec<String> {
    match kind {
        Kind::SharedRoot => vec!["root".into()],
        Kind::Chain => vec!["root".into(), "issuing".into()],
        Kind::SeparateRoots => vec![format!("root-{cluster}")],
    }
}

impl Authority {
    /// Uses the authorities in `directory` and makes missing ones. An authority whose signer is new is made anew as well,
    /// also after an interruption.
    ///
    /// # Errors
    /// Fails if a file cannot be read or written.
    pub(crate) fn ensure(directory: PathBuf, kind: Kind, clusters: &[&str]) -> Result<Self> {
        let authority = Self { directory, kind };
        let signers = clusters.iter().map(|cluster| authority.signer(&above(kind, cluster)));
        let signers = signers.collect::<Result<Vec<Signer>>>()?;
        let roots: BTreeSet<&str> = signers.iter().map(|signer| signer.root.as_str()).collect();
        let bundle = roots.into_iter().collect::<String>();
        for (cluster, signer) in clusters.iter().zip(&signers) {
            authority.intermediate(cluster, signer, &bundle)?;
        }
        Ok(authority)
    }

    /// The last of `names`, each of which signs the next. The first is a root.
    fn signer(&self, names: &[String]) -> Result<Signer> {
        let mut signer: Option<Signer> = None;
        for (place, name) in names.iter().enumerate() {
            let parameters = parameters(name, None, names.len() - place);
            let parents = signer.as_ref().map(Signer::chain).unwrap_or_default();
            if !self.has(name, &parents) {
                let key = KeyPair::generate()?;
                let certificate = match &signer {
                    None => parameters.self_signed(&key)?,
                    Some(parent) => parameters.signed_by(&key, &parent.issuer()?)?,
                };
                self.write(name, &key, &certificate, &parents)?;
            }
            let certificate = self.read(name, "ca-cert.pem")?;
            let root = signer.map_or_else(|| certificate.clone(), |parent| parent.root);
            signer = Some(Signer { key: self.read(name, "ca-key.pem")?, certificate, parents, root });
        }
        signer.context("no authority is named")
    }

    /// Makes the cluster's authority if it is missing or has another signer, and writes what the cluster trusts.
    fn intermediate(&self, cluster: &str, signer: &Signer, bundle: &str) -> Result<()> {
        if !self.has(cluster, &signer.chain()) {
            let key = KeyPair::generate()?;
            let certificate = parameters("intermediate", Some(cluster), 0).signed_by(&key, &signer.issuer()?)?;
            self.write(cluster, &key, &certificate, &signer.chain())?;
        }
        if self.read(cluster, "root-cert.pem").ok().as_deref() != Some(bundle) {
            paths::write_secret(&self.file(cluster, "root-cert.pem"), bundle)?;
        }
        Ok(())
    }

    /// Whether there is a complete authority `name` below `parents`.
    fn has(&self, name: &str, parents: &str) -> bool {
        let [certificate, chain] = ["ca-cert.pem", "cert-chain.pem"].map(|file| self.read(name, file).ok());
        let complete = certificate.map(|certificate| certificate + parents);
        complete.is_some() && chain == complete && self.file(name, "ca-key.pem").exists()
    }

    /// Writes an authority. The chain is last: it is what makes an authority complete.
    fn write(&self, name: &str, key: &KeyPair, certificate: &Certificate, parents: &str) -> Result<()> {
        paths::write_secret(&self.file(name, "ca-key.pem"), &key.serialize_pem())?;
        paths::write_secret(&self.file(name, "ca-cert.pem"), &certificate.pem())?;
        paths::write_secret(&self.file(name, "cert-chain.pem"), &format!("{}{parents}", certificate.pem()))
    }

    /// Name of the authority that signed the cluster's.
    pub(crate) fn parent(&self, cluster: &str) -> String {
        above(self.kind, cluster).pop().unwrap_or_default()
    }

    /// The certificates of the cluster's authority and of its parents, PEM, without the root.
    pub(crate) fn issuers(&self, cluster: &str) -> Result<Vec<String>> {
        let mut chain = pem_certificates(&self.read(cluster, "cert-chain.pem")?);
        chain.pop();
        Ok(chain)
    }

    /// The roots that the cluster trusts, PEM.
    pub(crate) fn roots(&self, cluster: &str) -> Result<Vec<String>> {
        Ok(pem_certificates(&self.read(cluster, "root-cert.pem")?))
    }

    /// Path of one of [`FILES`].
    pub(crate) fn file(&self, cluster: &str, name: &str) -> PathBuf {
        self.directory.join(cluster).join(name)
    }

    /// Contents of one of [`FILES`].
    pub(crate) fn read(&self, cluster: &str, name: &str) -> Result<String> {
        paths::read(&self.file(cluster, name))
    }
}

/// An authority that signs clusters' authorities.
struct Signer {
    key: String,
    certificate: String,
    /// The authorities above it, up to the root. Empty for a root.
    parents: String,
    root: String,
}

impl Signer {
    fn issuer(&self) -> Result<Issuer<'static, KeyPair>> {
        let key = KeyPair::from_pem(&self.key).context("an authority's key is unreadable")?;
        Issuer::from_ca_cert_pem(&self.certificate, key).context("an authority's certificate is unreadable")
    }

    /// Its certificate and those above it.
    fn chain(&self) -> String {
        format!("{}{}", self.certificate, self.parents)
    }
}

/// An authority that may have `below` levels of authorities below it.
fn parameters(kind: &str, cluster: Option<&str>, below: usize) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "meshproof");
    name.push(
        DnType::CommonName,
        cluster.map_or_else(|| format!("{kind} CA"), |cluster| format!("{kind} CA of {cluster}")),
    );
    if let Some(cluster) = cluster {
        name.push(DnType::LocalityName, cluster);
    }
    parameters.distinguished_name = name;
    // A cluster's authority signs workload certificates only.
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(below as u8));
    parameters.key_usages =
        vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    parameters.use_authority_key_identifier_extension = true;
    // A node's clock may be a little behind.
    parameters.not_before = OffsetDateTime::now_utc() - Duration::hours(1);
    parameters.not_after = OffsetDateTime::now_utc() + VALIDITY;
    parameters
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn authorities_are_kept_private_and_made_again_with_their_root() {
        let directory = tempfile::tempdir().unwrap();
        let clusters = ["cluster1", "cluster2"];
        let ensure = || Authority::ensure(directory.path().to_owned(), Kind::SharedRoot, &clusters).unwrap();
        let authority = ensure();
        let first = authority.read("cluster1", "cert-chain.pem").unwrap();
        assert_ne!(first, authority.read("cluster2", "cert-chain.pem").unwrap());
        let mode = std::fs::metadata(authority.file("cluster1", "ca-key.pem")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        assert_eq!(ensure().read("cluster1", "cert-chain.pem").unwrap(), first, "a second run changed the authority");
        std::fs::remove_dir_all(directory.path().join("root")).unwrap();
        assert_ne!(
            ensure().read("cluster1", "cert-chain.pem").unwrap(),
            first,
            "an intermediate of a lost root stayed"
        );
    }

    fn depth(kind: Kind) -> (Vec<usize>, Vec<usize>) {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::ensure(directory.path().to_owned(), kind, &["a", "b"]).unwrap();
        let count = |of: fn(&Authority, &str) -> Result<Vec<String>>| {
            ["a", "b"].map(|cluster| of(&authority, cluster).unwrap().len()).to_vec()
        };
        (count(Authority::issuers), count(Authority::roots))
    }

    #[test]
    fn each_kind_has_its_issuers_and_its_roots() {
        assert_eq!(depth(Kind::SharedRoot), (vec![1, 1], vec![1, 1]));
        assert_eq!(depth(Kind::SeparateRoots), (vec![1, 1], vec![2, 2]));
        assert_eq!(depth(Kind::Chain), (vec![2, 2], vec![1, 1]));
    }

    #[test]
    fn the_parent_of_a_clusters_authority_is_the_one_that_signed_it() {
        for kind in [Kind::SharedRoot, Kind::SeparateRoots, Kind::Chain] {
            let directory = tempfile::tempdir().unwrap();
            let authority = Authority::ensure(directory.path().to_owned(), kind, &["a", "b"]).unwrap();
            let (own, parent) = (authority.read("b", "cert-chain.pem").unwrap(), authority.parent("b"));
            let parent = authority.read(&parent, "ca-cert.pem").unwrap();
            assert_eq!(pem_certificates(&own)[1], parent, "{kind:?}");
        }
    }

    #[test]
    fn a_lost_intermediate_of_a_chain_makes_what_it_signed_anew_and_keeps_the_root() {
        let directory = tempfile::tempdir().unwrap();
        let ensure = || Authority::ensure(directory.path().to_owned(), Kind::Chain, &["a"]).unwrap();
        let first = ensure();
        let (root, own) = (first.roots("a").unwrap(), first.read("a", "ca-cert.pem").unwrap());
        std::fs::remove_dir_all(directory.path().join("issuing")).unwrap();
        let second = ensure();
        assert_eq!(second.roots("a").unwrap(), root);
        assert_ne!(second.read("a", "ca-cert.pem").unwrap(), own);
    }
}
