//! The requests of one client: credentials that are renewed, bounded patience, bounded concurrency.

use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::future::BoxFuture;
use http::header::{AUTHORIZATION, RETRY_AFTER};
use http::{HeaderValue, Request, Response, StatusCode};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::Client;
use kube::client::Body;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::Instant;
use tower::Service;

use super::error::Error;
use super::explain;
use super::plugin::{Credentials, Identity};
use super::recipe::{BUSY_BOUND, Recipe, Source, is_busy};

/// Credentials are renewed when they have less than this left.
const MARGIN: SignedDuration = SignedDuration::from_secs(10);

/// A token file is read again after this. The kubelet and other writers replace such files.
const TOKEN_FILE_FOR: SignedDuration = SignedDuration::from_secs(60);

/// Requests of one client that wait for their answer at once. Each has a connection of its own: HTTP/1.1.
const AT_ONCE: usize = 32;

/// Longest wait for an answer to begin. Beyond the API server's own limit of 60 s.
const ANSWER_BOUND: Duration = Duration::from_secs(75);

/// First and longest pause before asking a busy API server again.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(5)];

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Sends the requests of one client.
#[derive(Clone)]
pub(super) struct Session {
    recipe: Arc<Recipe>,
    live: Arc<Mutex<Live>>,
    permits: Arc<Semaphore>,
}

/// The credentials in use.
#[derive(Clone)]
struct Live {
    client: Client,
    header: Option<HeaderValue>,
    identity: Option<Identity>,
    until: Option<Timestamp>,
    /// Counts the renewals.
    generation: u64,
}

impl Session {
    /// Gets the first credentials.
    ///
    /// # Errors
    /// [`Error::Plugin`], [`Error::Field`].
    pub(super) async fn begin(recipe: Recipe) -> Result<Self, Error> {
        let live = Box::pin(renewed(&recipe, None)).await?;
        let permits = Arc::new(Semaphore::new(AT_ONCE));
        Ok(Self { recipe: Arc::new(recipe), live: Arc::new(Mutex::new(live)), permits })
    }

    /// Sends a request, again if the API server is busy.
    async fn send(&self, mut request: Request<Body>) -> Result<Response<Body>, BoxError> {
        let [mut pause, longest] = PAUSES;
        let deadline = Instant::now() + BUSY_BOUND;
        loop {
            let again = copy(&request);
            let response = Box::pin(self.send_renewing(request)).await?;
            let Some(next) = again.filter(|_| is_busy(response.status())) else { return Ok(response) };
            let wait = asked_to_wait(&response).unwrap_or(pause).min(longest);
            if Instant::now() + wait > deadline {
                return Ok(response);
            }
            tracing::debug!(status = %response.status(), ?wait, "the API server is busy");
            drop(response);
            #[allow(clippy::disallowed_methods, reason = "the API server says how long to wait")]
            tokio::time::sleep(wait).await;
            pause = (pause * 2).min(longest);
            request = next;
        }
    }

    /// Sends a request, again with new credentials if the API server does not know these.
    async fn send_renewing(&self, request: Request<Body>) -> Result<Response<Body>, BoxError> {
        let again = copy(&request);
        let live = self.current(None).await?;
        let response = self.send_as(&live, request).await?;
        let renewable = !matches!(self.recipe.source, Source::Kubeconfig);
        match again {
            Some(request) if renewable && response.status() == StatusCode::UNAUTHORIZED => {
                drop(response);
                let live = self.current(Some(live.generation)).await?;
                self.send_as(&live, request).await
            }
            _ => Ok(response),
        }
    }

    async fn send_as(&self, live: &Live, mut request: Request<Body>) -> Result<Response<Body>, BoxError> {
        if let Some(header) = &live.header {
            request.headers_mut().insert(AUTHORIZATION, header.clone());
        }
        // Given back when the answer begins: a watch or an exec does not hold it.
        let _permit = self.permits.acquire().await?;
        match tokio::time::timeout(ANSWER_BOUND, live.client.send(request)).await {
            Ok(answer) => Ok(answer?),
            Err(_) => {
                let reason = format!("{} did not answer within {ANSWER_BOUND:?}", self.recipe.of.server());
                Err(std::io::Error::new(std::io::ErrorKind::TimedOut, reason).into())
            }
        }
    }

    /// The credentials in use, renewed if they end soon, or if they are of the generation that was `refused`.
    async fn current(&self, refused: Option<u64>) -> Result<Live, Error> {
        let mut live = self.live.lock().await;
        let left = live.until.map(|until| until.duration_since(Timestamp::now()));
        let was_refused = refused == Some(live.generation);
        if was_refused || left.is_some_and(|left| left < MARGIN) {
            match Box::pin(renewed(&self.recipe, Some(&live))).await {
                Ok(new) => *live = new,
                // They are good for a moment yet.
                Err(_) if !was_refused && left.is_some_and(|left| left.is_positive()) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(live.clone())
    }
}

impl Service<Request<Body>> for Session {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<Body>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let session = self.clone();
        Box::pin(async move { session.send(request).await })
    }
}

/// Credentials from the source. Keeps the connections if only the token is new.
async fn renewed(recipe: &Recipe, old: Option<&Live>) -> Result<Live, Error> {
    let generation = old.map_or(0, |old| old.generation + 1);
    let kept = |old: &Live| Client::clone(&old.client);
    match &recipe.source {
        Source::Kubeconfig => {
            let client = old.map_or_else(|| client(recipe, None), |old| Ok(kept(old)))?;
            Ok(Live { client, header: None, identity: None, until: None, generation })
        }
        Source::File(file) => {
            let token = match (read_token(file), old) {
                (Ok(token), _) => Some(bearer(recipe, "tokenFile", &token)?),
                // A program that may read its token only once goes on with it.
                (Err(_), Some(old)) => old.header.clone(),
                (Err(reason), None) => return Err(recipe.of.wrong(recipe.of.of_user("tokenFile"), reason)),
            };
            let client = old.map_or_else(|| client(recipe, None), |old| Ok(kept(old)))?;
            let until = Some(Timestamp::now() + TOKEN_FILE_FOR + MARGIN);
            Ok(Live { client, header: token, identity: None, until, generation })
        }
        Source::Plugin(plugin) => {
            let Credentials { token, identity, until } = plugin.run().await?;
            let header = token.map(|token| bearer(recipe, "exec", &token)).transpose()?;
            let client = match old {
                Some(old) if old.identity == identity => kept(old),
                _ => client(recipe, identity.as_ref())?,
            };
            Ok(Live { client, header, identity, until, generation })
        }
    }
}

fn client(recipe: &Recipe, identity: Option<&Identity>) -> Result<Client, Error> {
    let mut config = recipe.config.clone();
    if let Some(Identity { certificate, key }) = identity {
        config.auth_info.client_certificate_data = Some(STANDARD.encode(certificate));
        config.auth_info.client_key_data = Some(STANDARD.encode(key).into());
    }
    Client::try_from(config).map_err(|error| explain::making(recipe, identity.is_some(), error))
}

fn read_token(file: &Path) -> Result<String, String> {
    let token = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let token = token.trim();
    if token.is_empty() { Err(format!("{} is empty", file.display())) } else { Ok(token.to_owned()) }
}

fn bearer(recipe: &Recipe, field: &'static str, token: &str) -> Result<HeaderValue, Error> {
    let header = HeaderValue::try_from(format!("Bearer {token}"));
    let mut header =
        header.map_err(|_| recipe.of.wrong(recipe.of.of_user(field), "the token has characters that no token has"))?;
    header.set_sensitive(true);
    Ok(header)
}

/// The same request once more. `None` if its body can be sent only once.
fn copy(request: &Request<Body>) -> Option<Request<Body>> {
    let mut copy = Request::new(request.body().try_clone()?);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    *copy.extensions_mut() = request.extensions().clone();
    Some(copy)
}

fn asked_to_wait(response: &Response<Body>) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}
