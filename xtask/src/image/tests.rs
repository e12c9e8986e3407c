//! Pushes to Debian's `docker-registry`, a registry of the CNCF's reference implementation.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use meshproof::{Seen, eventually};
use oci_client::Client;
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::manifest::OciManifest;
use oci_client::secrets::RegistryAuth;

use super::push::{Connection, Registry, reference};
use crate::artifacts::layout::{self, tests::variants};

/// `pusher` and the bcrypt hash of `secret`.
const HTPASSWD: &str = "pusher:$2y$05$6AJgXEt7mEXA2h4hzslgfOaOOSOGbKdZQla8S/yxHlXasdtlfga1O\n";

/// A running registry. It ends with the test.
struct Running {
    child: Child,
    address: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    /// Starts a registry in `directory` that demands credentials. `tls` is a certificate and its key.
    async fn start(directory: &Path, tls: Option<(&Path, &Path)>) -> Self {
        std::fs::write(directory.join("htpasswd"), HTPASSWD).unwrap();
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let root = directory.display();
        let mut config = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {root}/blobs}}}}\n\
             auth: {{htpasswd: {{realm: test, path: {root}/htpasswd}}}}\nhttp:\n  addr: {address}\n"
        );
        if let Some((certificate, key)) = tls {
            let (certificate, key) = (certificate.display(), key.display());
            config.push_str(&format!("  tls: {{certificate: {certificate}, key: {key}}}\n"));
        }
        std::fs::write(directory.join("config.yml"), config).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(directory.join("config.yml")).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("the test needs a registry: apt-get install docker-registry");
        let listens = async || match tokio::net::TcpStream::connect(&address).await {
            Ok(_) => Ok::<_, anyhow::Error>(Seen::Yes(())),
            Err(error) => Ok(Seen::NotYet(error.to_string())),
        };
        eventually("the registry to listen", Duration::from_secs(10), listens).await.unwrap();
        Self { child, address }
    }
}

/// A directory like `~/.docker`, with the password for the registry.
fn docker_config(directory: &Path, registry: &str, password: &str) -> Connection {
    let login = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, format!("pusher:{password}"));
    let config = serde_json::json!({ "auths": { registry: { "auth": login } } });
    std::fs::create_dir_all(directory).unwrap();
    std::fs::write(directory.join("config.json"), config.to_string()).unwrap();
    Connection { docker_config: Some(directory.to_owned()), ..Connection::default() }
}

/// Pushes an image with one file per architecture. Returns the digest of its index.
async fn push(directory: &Path, image: &str, connection: &Connection) -> anyhow::Result<String> {
    let image = reference(image)?;
    let path = directory.join("layout");
    let layout = layout::write(&path, "1", &variants(directory))?;
    Registry::open(&image, connection)?.push(&image, &path, &layout).await?;
    Ok(layout.index.digest)
}

#[tokio::test]
async fn an_image_comes_back_from_the_registry_for_each_architecture() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let directory = tempfile::tempdir().unwrap();
    let registry = Running::start(directory.path(), None).await;
    let login = docker_config(&directory.path().join("docker"), &registry.address, "secret");
    let connection = Connection { plain_http: true, ..login };
    let name = format!("{}/team/probe:1.2", registry.address);
    let digest = push(directory.path(), &name, &connection).await.unwrap();
    assert_eq!(push(directory.path(), &name, &connection).await.unwrap(), digest, "a second push changes nothing");

    let client = Client::new(ClientConfig { protocol: ClientProtocol::Http, ..ClientConfig::default() });
    let image = name.parse().unwrap();
    let auth = RegistryAuth::Basic("pusher".into(), "secret".into());
    let (manifest, found) = client.pull_manifest(&image, &auth).await.unwrap();
    let OciManifest::ImageIndex(index) = manifest else { panic!("{manifest:?}") };
    assert_eq!(found, digest);
    let platforms: Vec<_> = index.manifests.iter().map(|entry| entry.platform.clone().unwrap().architecture).collect();
    assert_eq!(platforms.iter().map(ToString::to_string).collect::<Vec<_>>(), ["amd64", "arm64"]);
    // Checks the digest of each blob.
    let pulled = client.pull(&image, &auth, vec!["application/vnd.oci.image.layer.v1.tar+gzip"]).await.unwrap();
    assert_eq!(pulled.layers.len(), 1);
}

#[tokio::test]
async fn a_registry_that_refuses_or_does_not_answer_is_named_with_what_to_do() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let directory = tempfile::tempdir().unwrap();
    let registry = Running::start(directory.path(), None).await;
    let name = format!("{}/team/probe", registry.address);
    let refused =
        async |connection: Connection| format!("{:#}", push(directory.path(), &name, &connection).await.unwrap_err());
    let nothing =
        Connection { docker_config: Some(directory.path().into()), plain_http: true, ..Connection::default() };
    let anonymous = refused(nothing).await;
    assert!(anonymous.contains("docker login") && anonymous.contains(&registry.address), "{anonymous}");
    let wrong = docker_config(&directory.path().join("wrong"), &registry.address, "guess");
    let wrong = refused(Connection { plain_http: true, ..wrong }).await;
    assert!(wrong.contains("with the credentials"), "{wrong}");
    let tls = refused(docker_config(&directory.path().join("right"), &registry.address, "secret")).await;
    assert!(tls.contains("--plain-http"), "{tls}");
}

#[tokio::test]
async fn a_registrys_own_ca_is_trusted_if_its_file_is_given() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let directory = tempfile::tempdir().unwrap();
    let signed = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (directory.path().join("ca.pem"), directory.path().join("key.pem"));
    std::fs::write(&certificate, signed.cert.pem()).unwrap();
    std::fs::write(&key, signed.signing_key.serialize_pem()).unwrap();
    let registry = Running::start(directory.path(), Some((&certificate, &key))).await;
    let login = docker_config(&directory.path().join("docker"), &registry.address, "secret");
    let name = format!("{}/probe", registry.address);
    let unknown = format!("{:#}", push(directory.path(), &name, &login).await.unwrap_err());
    assert!(unknown.contains("--registry-ca"), "{unknown}");
    push(directory.path(), &name, &Connection { registry_ca: Some(certificate), ..login }).await.unwrap();
}

#[test]
fn an_image_must_name_its_registry_and_no_digest() {
    let text = |name| reference(name).map(|image| image.to_string()).map_err(|error| format!("{error:#}"));
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(text("registry.example/team/probe"), Ok(format!("registry.example/team/probe:{version}")));
    assert_eq!(text("localhost:5000/probe:2"), Ok("localhost:5000/probe:2".into()));
    assert_eq!(text("localhost/probe"), Ok(format!("localhost/probe:{version}")));
    assert!(text("team/probe").unwrap_err().contains("docker.io/team/probe"));
    let digest = format!("registry.example/probe@sha256:{}", "0".repeat(64));
    assert!(text(&digest).unwrap_err().contains("digest"));
    assert!(text("registry.example/Probe").unwrap_err().contains("not an image"));
}
