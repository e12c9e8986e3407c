//! Requests to a pod over a connection through the API server.

use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

/// Time limit of one request, with its connection.
pub(crate) const BOUND: Duration = Duration::from_secs(10);

/// Most bytes of an answer.
const LIMIT: usize = 16 * 1024 * 1024;

/// The body of the answer to a GET of `path`, if its status is 200.
pub(crate) async fn get(stream: impl Stream, path: &str) -> Result<String, String> {
    let request = Request::builder().method(Method::GET).uri(path).header("host", "localhost");
    bounded(send(stream, request.body(Full::default()).map_err(|error| error.to_string())?)).await
}

/// The body of the answer to a POST of JSON to `path`, if its status is 200.
pub(crate) async fn post(stream: impl Stream, host: &str, path: &str, json: Vec<u8>) -> Result<String, String> {
    let request = Request::builder().method(Method::POST).uri(path).header("host", host);
    let request = request.header("content-type", "application/json").body(Full::new(Bytes::from(json)));
    bounded(send(stream, request.map_err(|error| error.to_string())?)).await
}

/// A connection to a pod.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for T {}

/// Runs `work` for at most [`BOUND`].
pub(crate) async fn bounded<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    tokio::time::timeout(BOUND, work).await.unwrap_or_else(|_| Err(format!("no answer within {} s", BOUND.as_secs())))
}

async fn send(stream: impl Stream, request: Request<Full<Bytes>>) -> Result<String, String> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let answering = async {
        let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), LIMIT).collect().await.map_err(|error| error.to_string())?;
        if !status.is_success() {
            return Err(format!("it answers {status}"));
        }
        String::from_utf8(body.to_bytes().into()).map_err(|_| "its answer is not text".into())
    };
    tokio::pin!(answering);
    tokio::select! {
        answer = &mut answering => answer,
        ended = connection => match ended {
            Ok(()) => answering.await,
            Err(error) => Err(error.to_string()),
        },
    }
}
