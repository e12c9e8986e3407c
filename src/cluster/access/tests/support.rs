//! Small real servers, proxies and plugins.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::super::environment::Environment;
use super::super::files::Kubeconfigs;

const VERSION: &str = r#"{"major":"1","minor":"34","gitVersion":"v1.34.3","gitCommit":"","gitTreeState":"","buildDate":"","goVersion":"","compiler":"","platform":""}"#;

/// The way to a distant API server and back.
pub(super) const ROUND_TRIP: Duration = Duration::from_millis(300);

/// A certificate with its key.
pub(super) struct Signed {
    pub(super) pem: String,
    pub(super) key: String,
    der: CertificateDer<'static>,
    key_der: PrivateKeyDer<'static>,
}

/// A certificate authority.
pub(super) struct Authority {
    pub(super) pem: String,
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "the cluster's CA");
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { pem: certificate.pem(), der: certificate.der().clone(), issuer: Issuer::new(params, key) }
    }

    /// A certificate for these names and addresses.
    pub(super) fn sign(&self, names: &[&str]) -> Signed {
        let mut params =
            CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, "kube-apiserver");
        params.is_ca = IsCa::ExplicitNoCa;
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let (pem, der) = (certificate.pem(), certificate.der().clone());
        Signed { pem, der, key: key.serialize_pem(), key_der: key.serialize_der().try_into().unwrap() }
    }
}

/// What a server answers to each request.
#[derive(Clone)]
pub(super) enum Answer {
    Status(u16, &'static str, &'static str),
    /// The version, if the request has this `Authorization`; else 401.
    If(Arc<Mutex<String>>),
    /// The version, if the client sent a certificate; else 401.
    IfCertificate,
    Version,
    /// The version, after a round trip to a distant server.
    Distant,
    Never,
}

/// An API server that knows its version only.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    /// The request heads, in order.
    pub(super) seen: Arc<Mutex<Vec<String>>>,
    /// Number of connections.
    pub(super) connections: Arc<AtomicUsize>,
}

impl Server {
    pub(super) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    pub(super) fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

/// A server with TLS. Gives these answers in turn, and the last one for ever.
pub(super) async fn serve(authority: &Authority, certificate: &Signed, answers: Vec<Answer>) -> Server {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut roots = RootCertStore::empty();
    roots.add(authority.der.clone()).unwrap();
    let clients = WebPkiClientVerifier::builder(roots.into()).allow_unauthenticated().build().unwrap();
    let config = ServerConfig::builder().with_client_cert_verifier(clients);
    let config = config.with_single_cert(vec![certificate.der.clone()], certificate.key_der.clone_key()).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = Server { address: listener.local_addr().unwrap(), seen: Arc::default(), connections: Arc::default() };
    let answers = Arc::new(Mutex::new(VecDeque::from(answers)));
    let (seen, connections) = (Arc::clone(&server.seen), Arc::clone(&server.connections));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            connections.fetch_add(1, Ordering::Relaxed);
            let (acceptor, answers, seen) = (acceptor.clone(), Arc::clone(&answers), Arc::clone(&seen));
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let certified = stream.get_ref().1.peer_certificates().is_some();
                answer(stream, certified, &answers, &seen).await;
            });
        }
    });
    server
}

async fn answer<S>(mut stream: S, certified: bool, answers: &Mutex<VecDeque<Answer>>, seen: &Mutex<Vec<String>>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(head) = head(&mut stream).await {
        let next = {
            let mut answers = answers.lock().unwrap();
            if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() }
        };
        let unknown = (401, "", r#"{"kind":"Status","status":"Failure","message":"Unauthorized","code":401}"#);
        let (status, header, body) = match next.clone().unwrap() {
            Answer::Version | Answer::Distant => (200, "", VERSION),
            Answer::Status(status, header, body) => (status, header, body),
            Answer::If(wanted) if head.to_lowercase().contains(&wanted.lock().unwrap().to_lowercase()) => {
                (200, "", VERSION)
            }
            Answer::IfCertificate if certified => (200, "", VERSION),
            Answer::If(_) | Answer::IfCertificate => unknown,
            Answer::Never => std::future::pending().await,
        };
        if matches!(next, Some(Answer::Distant)) {
            #[allow(clippy::disallowed_methods, reason = "the way to the server is long")]
            tokio::time::sleep(ROUND_TRIP).await;
        }
        seen.lock().unwrap().push(head);
        let length = body.len();
        let text = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{header}content-length: {length}\r\n\r\n{body}"
        );
        if stream.write_all(text.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// A request up to its empty line. None of them has a body.
async fn head<S: AsyncRead + Unpin>(stream: &mut S) -> Option<String> {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        text.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(text).ok()
}

/// How a proxy is spoken to.
#[derive(Clone, Copy)]
pub(super) enum Speaks {
    Http,
    Https,
    Socks5,
    /// HTTP, and demands a password.
    HttpWithPassword,
}

/// A proxy that reaches one server under any name.
pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    /// The asked-for destinations.
    pub(super) asked: Arc<Mutex<Vec<String>>>,
}

pub(super) async fn proxy(speaks: Speaks, certificate: Option<&Signed>, to: SocketAddr) -> Proxy {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy { address: listener.local_addr().unwrap(), asked: Arc::default() };
    let asked = Arc::clone(&proxy.asked);
    let acceptor = certificate.map(|certificate| {
        let config = ServerConfig::builder().with_no_client_auth();
        let config = config.with_single_cert(vec![certificate.der.clone()], certificate.key_der.clone_key());
        TlsAcceptor::from(Arc::new(config.unwrap()))
    });
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (asked, acceptor) = (Arc::clone(&asked), acceptor.clone());
            tokio::spawn(async move {
                match (speaks, acceptor) {
                    (Speaks::Https, Some(acceptor)) => match acceptor.accept(stream).await {
                        Ok(stream) => through_http(stream, to, &asked, false).await,
                        Err(_) => None,
                    },
                    (Speaks::Socks5, _) => through_socks(stream, to, &asked).await,
                    (Speaks::HttpWithPassword, _) => through_http(stream, to, &asked, true).await,
                    _ => through_http(stream, to, &asked, false).await,
                }
            });
        }
    });
    proxy
}

async fn through_http<S>(mut stream: S, to: SocketAddr, asked: &Mutex<Vec<String>>, password: bool) -> Option<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let head = head(&mut stream).await?;
    asked.lock().unwrap().push(head.split(' ').nth(1)?.to_owned());
    // user:pass
    if password && !head.contains("Basic dXNlcjpwYXNz") {
        stream.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await.ok()?;
        return None;
    }
    let mut server = TcpStream::connect(to).await.ok()?;
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.ok()?;
    tokio::io::copy_bidirectional(&mut stream, &mut server).await.ok().map(drop)
}

async fn through_socks(mut stream: TcpStream, to: SocketAddr, asked: &Mutex<Vec<String>>) -> Option<()> {
    let mut greeting = [0; 2];
    stream.read_exact(&mut greeting).await.ok()?;
    let mut methods = vec![0; greeting[1].into()];
    stream.read_exact(&mut methods).await.ok()?;
    stream.write_all(&[5, 0]).await.ok()?;
    let mut request = [0; 4];
    stream.read_exact(&mut request).await.ok()?;
    let host = match request[3] {
        3 => {
            let mut name = vec![0; stream.read_u8().await.ok()?.into()];
            stream.read_exact(&mut name).await.ok()?;
            String::from_utf8(name).ok()?
        }
        _ => std::net::Ipv4Addr::from(stream.read_u32().await.ok()?).to_string(),
    };
    let port = stream.read_u16().await.ok()?;
    asked.lock().unwrap().push(format!("{host}:{port}"));
    let mut server = TcpStream::connect(to).await.ok()?;
    stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await.ok()?;
    tokio::io::copy_bidirectional(&mut stream, &mut server).await.ok().map(drop)
}

/// Writes a file below `directory`, and its directories.
pub(super) fn write(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    path
}

/// Writes a shell script.
pub(super) fn script(directory: &Path, name: &str, body: &str) -> PathBuf {
    let path = write(directory, name, &format!("#!/bin/sh\n{body}\n"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// A kubeconfig whose only context is `test`, with these fields in YAML's flow style.
pub(super) fn kubeconfig(cluster: &str, user: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
         clusters:\n- {{name: c, cluster: {{{cluster}}}}}\n\
         users:\n- {{name: u, user: {{{user}}}}}\n\
         contexts:\n- {{name: test, context: {{cluster: c, user: u}}}}\n"
    )
}

/// The fields of a cluster with this CA.
pub(super) fn cluster(server: &str, authority: &str) -> String {
    format!("server: '{server}', certificate-authority-data: {}", STANDARD.encode(authority))
}

/// Loads files in an environment without proxies.
pub(super) fn load(files: &[&Path]) -> Kubeconfigs {
    load_in(Environment::default(), files)
}

pub(super) fn load_in(environment: Environment, files: &[&Path]) -> Kubeconfigs {
    let mut all = Kubeconfigs::none(environment);
    files.iter().for_each(|file| all.add(file).unwrap());
    all
}

/// The message for the user if `context` cannot be connected to.
pub(super) async fn refusal(of: &Kubeconfigs, context: &str) -> String {
    let message = of.connect(context).await.err().expect("no connection").to_string();
    println!("{message}");
    assert!(!message.contains('\n'), "one line: {message}");
    message
}
