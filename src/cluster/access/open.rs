//! Opens a client for a context.

use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use kube::{Client, Config};
use rustls::pki_types::ServerName;

use super::error::Error;
use super::explain;
use super::files::{Kubeconfigs, Selected};
use super::plugin::Plugin;
use super::proxy::{self, Proxy};
use super::recipe::{Recipe, Source};
use super::session::Session;
use super::trust;

/// Time limit for one connection: name, proxy and TLS. Suits a round trip of 300 ms and a packet that is lost.
const CONNECT_BOUND: Duration = Duration::from_secs(10);

/// Time limit for the first answer, including the time in which an API server is still starting.
const FIRST_ANSWER_BOUND: Duration = Duration::from_secs(45);

impl Kubeconfigs {
    /// Checks all that can be checked of a context without a plugin and without its cluster: names, fields, files,
    /// proxy, and whether the plugin is installed.
    ///
    /// # Errors
    /// [`Error::NoContext`], [`Error::Dangling`], [`Error::Field`], [`Error::NoPlugin`], [`Error::Proxy`].
    pub fn check(&self, context: &str) -> Result<(), Error> {
        self.recipe(context).map(drop)
    }

    /// A client for a context. Its credentials are renewed before they end. An API server that is starting or
    /// overloaded (429, 503) is asked again, within a bound. Asks the API server nothing yet. Requires a Tokio runtime.
    ///
    /// # Errors
    /// The errors of [`Self::check`], and [`Error::Plugin`].
    pub async fn client(&self, context: &str) -> Result<Client, Error> {
        Box::pin(open(self.recipe(context)?)).await
    }

    /// As [`Self::client`], for an API server that has answered with these credentials.
    ///
    /// # Errors
    /// The errors of [`Self::client`], and [`Error::Unreachable`], [`Error::Tls`], [`Error::Unauthorized`],
    /// [`Error::Busy`]. All within a minute after the plugin.
    pub async fn connect(&self, context: &str) -> Result<Client, Error> {
        let recipe = self.recipe(context)?;
        // On the heap: callers are deep in futures of their own.
        let client = Box::pin(open(recipe.clone())).await?;
        let failed = match tokio::time::timeout(FIRST_ANSWER_BOUND, Box::pin(client.apiserver_version())).await {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => explain::first_answer(&recipe, self.shadowed(), error),
            Err(_) => Some(explain::silence(&recipe, FIRST_ANSWER_BOUND)),
        };
        failed.map_or(Ok(client), Err)
    }

    fn recipe(&self, context: &str) -> Result<Recipe, Error> {
        let of = self.select(context)?;
        let server = server(&of)?;
        let proxy = proxy::choose(&of, &server, &self.environment)?;
        let authority = trust::authority(&of)?;
        let source = source(&of)?;
        let mut config = Config::new(server);
        config.default_namespace = of.namespace.clone();
        config.connect_timeout = Some(CONNECT_BOUND);
        config.accept_invalid_certs = of.cluster.insecure_skip_tls_verify.unwrap_or(false);
        // Without verification, a machine without root certificates is no reason to fail.
        let unverified = config.accept_invalid_certs.then(Vec::new);
        config.root_cert = unverified.or_else(|| authority.as_ref().map(|authority| authority.certificates.clone()));
        config.tls_server_name = server_name(&of)?;
        config.proxy_url = proxy.as_ref().map(|proxy: &Proxy| proxy.url.clone());
        // The session retries, within a bound. kube waits as long as `Retry-After` says.
        config.default_retry = false;
        config.auth_info = of.user.clone();
        config.auth_info.exec = None;
        config.auth_info.token_file = None;
        Ok(Recipe { of, config, source, authority, proxy })
    }
}

async fn open(recipe: Recipe) -> Result<Client, Error> {
    // Fails only if a provider is already installed. aws-lc-rs is the only provider in the dependency tree.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let namespace = recipe.of.namespace.clone();
    Ok(Client::new(Session::begin(recipe).await?, namespace))
}

/// The URL of the API server.
fn server(of: &Selected) -> Result<Uri, Error> {
    let wrong = |reason: String| of.wrong(of.of_cluster("server"), reason);
    let url = of.server();
    if url.is_empty() {
        return Err(wrong("it is missing".into()));
    }
    let parsed: Uri = url.parse().map_err(|error| wrong(format!("`{url}` is not a URL: {error}")))?;
    match parsed.scheme_str() {
        Some("https" | "http") => Ok(parsed),
        _ => Err(wrong(format!("`{url}` does not begin with https:// or http://"))),
    }
}

/// The name in the API server's certificate, if it is not the URL's.
fn server_name(of: &Selected) -> Result<Option<String>, Error> {
    let Some(name) = of.cluster.tls_server_name.clone().filter(|name| !name.is_empty()) else { return Ok(None) };
    match ServerName::try_from(name.as_str()) {
        Ok(_) => Ok(Some(name)),
        Err(error) => Err(of.wrong(of.of_cluster("tls-server-name"), format!("`{name}`: {error}"))),
    }
}

/// Where the credentials come from that end.
fn source(of: &Selected) -> Result<Source, Error> {
    if of.user.auth_provider.is_some() || of.user.username.is_some() || of.user.token.is_some() {
        return Ok(Source::Kubeconfig);
    }
    if let Some(file) = of.user.token_file.as_deref().filter(|file| !file.is_empty()) {
        return Ok(Source::File(PathBuf::from(file)));
    }
    Ok(Plugin::of(of)?.map_or(Source::Kubeconfig, |plugin| Source::Plugin(Box::new(plugin))))
}
