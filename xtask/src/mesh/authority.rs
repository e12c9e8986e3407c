//! The mesh's certificate authorities: one root, and one intermediate per cluster (Istio's plug-in certificates).

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};

use crate::paths;

/// Validity of the authorities. A testbed lives for hours.
const VALIDITY: Duration = Duration::days(365);

/// Files of one cluster's authority, with the names that Istio's `cacerts` secret requires.
pub(crate) const FILES: [&str; 4] = ["ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem"];

/// The authorities on disk: `secrets/root/` and `secrets/<cluster>/`.
pub(crate) struct Authority {
    directory: PathBuf,
}

impl Authority {
    /// Uses the authorities in `directory` and makes missing ones. If the root is missing, makes all of them: an
    /// intermediate is valid under its own root only.
    pub(crate) fn ensure(directory: PathBuf, clusters: &[&str]) -> Result<Self> {
        let root_directory = directory.join("root");
        let (key_path, certificate_path) = (root_directory.join("ca-key.pem"), root_directory.join("ca-cert.pem"));
        let fresh = !key_path.exists() || !certificate_path.exists();
        if fresh {
            let key = KeyPair::generate()?;
            let root = CertifiedIssuer::self_signed(parameters("root", None), key)?;
            paths::write_secret(&key_path, &root.key().serialize_pem())?;
            paths::write_secret(&certificate_path, &root.pem())?;
        }
        let root_pem = paths::read(&certificate_path)?;
        let key = KeyPair::from_pem(&paths::read(&key_path)?).context("the root's key is unreadable")?;
        let root = Issuer::from_ca_cert_pem(&root_pem, key).context("the root's certificate is unreadable")?;
        let authority = Self { directory };
        for cluster in clusters {
            let file = |name: &str| authority.file(cluster, name);
            if !fresh && FILES.iter().all(|name| file(name).exists()) {
                continue;
            }
            let key = KeyPair::generate()?;
            let certificate = parameters("intermediate", Some(cluster)).signed_by(&key, &root)?;
            paths::write_secret(&file("ca-key.pem"), &key.serialize_pem())?;
            paths::write_secret(&file("ca-cert.pem"), &certificate.pem())?;
            paths::write_secret(&file("cert-chain.pem"), &format!("{}{root_pem}", certificate.pem()))?;
            paths::write_secret(&file("root-cert.pem"), &root_pem)?;
        }
        Ok(authority)
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

fn parameters(kind: &str, cluster: Option<&str>) -> CertificateParams {
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
    // An intermediate signs workload certificates only.
    let constraint = if cluster.is_some() { BasicConstraints::Constrained(0) } else { BasicConstraints::Unconstrained };
    parameters.is_ca = IsCa::Ca(constraint);
    parameters.key_usages =
        vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    parameters.use_authority_key_identifier_extension = cluster.is_some();
    // A node's clock may be a little behind.
    parameters.not_before = OffsetDateTime::now_utc() - Duration::hours(1);
    parameters.not_after = OffsetDateTime::now_utc() + VALIDITY;
    parameters
}

/// Removes every authority below `directory`.
pub(crate) fn remove(directory: &Path) -> Result<()> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn authorities_are_kept_private_and_made_again_with_their_root() {
        let directory = tempfile::tempdir().unwrap();
        let ensure = || Authority::ensure(directory.path().to_owned(), &["cluster1", "cluster2"]).unwrap();
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
}
