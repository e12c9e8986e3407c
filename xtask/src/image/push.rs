//! Pushes an OCI image layout to a registry.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use docker_credential::{CredentialRetrievalError, DockerCredential};
use oci_client::client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};

use super::{Contents, TAG, build};
use crate::artifacts::layout::{self, Layout};

/// Time limit for a connection to the registry.
const CONNECT: Duration = Duration::from_secs(15);

/// Longest silence of the registry.
const SILENCE: Duration = Duration::from_secs(60);

/// Where Docker's configuration keeps the credentials for Docker Hub.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

#[derive(clap::Args)]
#[command(after_help = "Example: cargo xtask image push registry.example/team/probe")]
pub(crate) struct Push {
    /// Registry and repository, with or without a tag. Default tag: the version of this program
    #[arg(value_name = "REGISTRY/REPO[:TAG]")]
    image: String,
    #[command(flatten)]
    contents: Contents,
    #[command(flatten)]
    connection: Connection,
}

/// How to reach a registry.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct Connection {
    /// The registry speaks HTTP without TLS. Credentials cross the network in plain text
    #[arg(long)]
    pub(super) plain_http: bool,
    /// PEM file with the CA of the registry, if the system does not trust it
    #[arg(long, value_name = "FILE", conflicts_with = "plain_http")]
    pub(super) registry_ca: Option<PathBuf>,
    /// Directory of Docker's `config.json`, with the credentials. Default: ~/.docker
    #[arg(long, value_name = "DIR", env = "DOCKER_CONFIG")]
    pub(super) docker_config: Option<PathBuf>,
}

impl Connection {
    /// Docker's configuration file, if there is one.
    fn docker_config(&self) -> Result<Option<File>> {
        let home = || std::env::home_dir().map(|home| home.join(".docker"));
        let Some(directory) = self.docker_config.clone().or_else(home) else { return Ok(None) };
        let path = directory.join("config.json");
        match File::open(&path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// The credentials for `registry` in Docker's configuration. Anonymous if there are none.
    fn credentials(&self, registry: &str) -> Result<RegistryAuth> {
        let server = if registry == "docker.io" { DOCKER_HUB } else { registry };
        let Some(file) = self.docker_config()? else { return Ok(RegistryAuth::Anonymous) };
        match docker_credential::get_credential_from_reader(file, server) {
            Ok(DockerCredential::UsernamePassword(user, password)) => Ok(RegistryAuth::Basic(user, password)),
            Ok(DockerCredential::IdentityToken(_)) => bail!(
                "Docker's configuration has an identity token for {registry}; only a user and a password are \
                 supported: run `docker login {registry}` with an access token as the password"
            ),
            Err(CredentialRetrievalError::NoCredentialConfigured) => Ok(RegistryAuth::Anonymous),
            Err(error) => {
                Err(error).with_context(|| format!("Docker's configuration has no usable credentials for {registry}"))
            }
        }
    }
}

impl Push {
    pub(super) async fn run(self) -> Result<()> {
        let image = reference(&self.image)?;
        let registry = Registry::open(&image, &self.connection)?;
        let directory = tempfile::tempdir()?;
        let layout = build(&self.contents, directory.path(), image.tag().unwrap_or(TAG)).await?;
        registry.push(&image, directory.path(), &layout).await?;
        println!("{}/{}@{}", image.registry(), image.repository(), layout.index.digest);
        Ok(())
    }
}

/// The image that a command line names.
///
/// # Errors
/// Fails if `text` is no image, names no registry, or names a digest: the digest follows from what is pushed.
pub(super) fn reference(text: &str) -> Result<Reference> {
    let image: Reference = text.parse().with_context(|| format!("`{text}` is not an image's name"))?;
    let first = text.split('/').next().unwrap_or_default();
    if !text.contains('/') || !(first.contains(['.', ':']) || first == "localhost") {
        bail!("`{text}` names no registry; name it in full, for example docker.io/{text}");
    }
    if image.digest().is_some() {
        bail!("`{text}` names a digest; name a tag, or none");
    }
    let tagged = text.rsplit('/').next().is_some_and(|name| name.contains(':'));
    let tag = image.tag().filter(|_| tagged).unwrap_or(TAG);
    Ok(Reference::with_tag(image.registry().into(), image.repository().into(), tag.into()))
}

/// A registry to push to.
pub(super) struct Registry {
    client: Client,
    auth: RegistryAuth,
    name: String,
}

impl Registry {
    /// Prepares a connection with the credentials that `docker login` stored, if there are any.
    ///
    /// # Errors
    /// Fails if the CA's file or the credentials cannot be read.
    pub(super) fn open(image: &Reference, connection: &Connection) -> Result<Self> {
        let mut config = ClientConfig {
            protocol: if connection.plain_http { ClientProtocol::Http } else { ClientProtocol::Https },
            connect_timeout: Some(CONNECT),
            read_timeout: Some(SILENCE),
            user_agent: concat!("meshproof/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        };
        if let Some(path) = &connection.registry_ca {
            let data = std::fs::read(path).with_context(|| format!("cannot read the CA {}", path.display()))?;
            config.extra_root_certificates = vec![Certificate { encoding: CertificateEncoding::Pem, data }];
        }
        let name = image.registry().to_owned();
        let client = Client::try_from(config).context("the CA of the registry is unusable")?;
        Ok(Self { client, auth: connection.credentials(&name)?, name })
    }

    /// Pushes everything that the layout in `directory` holds. What the registry has already is not sent again.
    ///
    /// # Errors
    /// Fails if the registry cannot be reached or refuses. The error says whether credentials were sent.
    pub(super) async fn push(&self, image: &Reference, directory: &Path, layout: &Layout) -> Result<()> {
        self.client.store_auth_if_needed(image.resolve_registry(), &self.auth).await;
        let sent = self.send(image, directory, layout).await;
        sent.map_err(|error| {
            let advice = tls_advice(&error).map_or_else(|| self.login_advice(), str::to_owned);
            error.context(format!("cannot push {image} ({advice})"))
        })
    }

    fn login_advice(&self) -> String {
        let Self { auth, name, .. } = self;
        match auth {
            RegistryAuth::Anonymous => {
                format!("without credentials: Docker's configuration has none for it; run `docker login {name}`")
            }
            _ => "with the credentials of Docker's configuration".into(),
        }
    }

    async fn send(&self, image: &Reference, directory: &Path, layout: &Layout) -> Result<()> {
        for blob in &layout.blobs {
            if !self.client.blob_exists(image, &blob.digest).await? {
                self.client.push_blob(image, layout::read(directory, blob)?, &blob.digest).await?;
            }
        }
        for manifest in &layout.manifests {
            let (registry, repository) = (image.registry().to_owned(), image.repository().to_owned());
            let by_digest = Reference::with_digest(registry, repository, manifest.digest.clone());
            let bytes = layout::read(directory, manifest)?;
            self.client.push_manifest_raw(&by_digest, bytes, layout::MANIFEST.parse()?).await?;
        }
        let index = layout::read(directory, &layout.index)?;
        self.client.push_manifest_raw(image, index, layout::INDEX.parse()?).await?;
        Ok(())
    }
}

/// What to do about a failed handshake. `None` if TLS was not the reason.
fn tls_advice(error: &anyhow::Error) -> Option<&'static str> {
    Some(match error.chain().find_map(tls_error)? {
        rustls::Error::InvalidCertificate(_) => "its certificate is not trusted; name its CA with `--registry-ca`",
        _ => "TLS failed; if the registry speaks plain HTTP, say so with `--plain-http`",
    })
}

/// The TLS error in `cause`. I/O errors wrap it, at times one in the other, and leave it out of their chain.
fn tls_error<'a>(cause: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    match cause.downcast_ref::<std::io::Error>() {
        Some(wrapper) => tls_error(wrapper.get_ref()?),
        None => cause.downcast_ref(),
    }
}
