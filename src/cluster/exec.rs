//! Runs commands in containers.

use std::fmt;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::AttachParams;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

use super::error::{Error, Result};

/// Longest duration of a command in a container. A long command gets its own duration in addition.
pub(crate) const EXEC_BOUND: Duration = Duration::from_secs(90);

/// Most bytes read of a command's output. In a large mesh, the configuration of one proxy takes tens of MiB.
const OUTPUT_LIMIT: u64 = 64 * 1024 * 1024;

/// A container of a pod, within a cluster: where a command runs, or a log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Container<'a> {
    /// Namespace of the pod.
    pub namespace: &'a str,
    /// Name of the pod.
    pub pod: &'a str,
    /// Name of the container.
    pub container: &'a str,
}

impl fmt::Display for Container<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.namespace, self.pod, self.container)
    }
}

/// Standard input of a command in a container.
#[derive(Debug)]
pub(crate) enum Input<'a> {
    /// No standard input.
    None,
    /// These bytes.
    Bytes(&'a [u8]),
    /// Empty standard input that stays open until the sender of `over` is dropped. `begun` is notified at the first
    /// text on standard error.
    Until { over: oneshot::Receiver<()>, begun: oneshot::Sender<()> },
}

/// Like [`Cluster::exec`](super::Cluster::exec), for a cluster that may have no record. `cluster` is its name in errors.
///
/// # Errors
/// The errors of [`Cluster::exec`](super::Cluster::exec).
pub async fn exec(client: &kube::Client, cluster: &str, at: Container<'_>, command: &[&str]) -> Result<String> {
    within(EXEC_BOUND, client, cluster, at, command, Input::None).await
}

/// Runs a command for at most `bound`.
///
/// # Errors
/// The errors of [`Cluster::exec`](super::Cluster::exec).
#[tracing::instrument(level = "debug", skip_all, fields(cluster, pod = at.pod, command = command.join(" ")))]
pub(super) async fn within(
    bound: Duration,
    client: &kube::Client,
    cluster: &str,
    at: Container<'_>,
    command: &[&str],
    input: Input<'_>,
) -> Result<String> {
    let ran = tokio::time::timeout(bound, run(client, at, command, input)).await;
    ran.unwrap_or_else(|_| Err(format!("not done after {bound:?}"))).map_err(|reason| Error::Exec {
        cluster: cluster.into(),
        namespace: at.namespace.into(),
        pod: at.pod.into(),
        command: command.join(" ").into(),
        reason: reason.into(),
    })
}

/// Runs a command and returns its standard output, or the reason of the failure.
async fn run(
    client: &kube::Client,
    at: Container<'_>,
    command: &[&str],
    input: Input<'_>,
) -> std::result::Result<String, String> {
    let (bytes, over, begun) = match input {
        Input::None => (None, None, None),
        Input::Bytes(bytes) => (Some(bytes), None, None),
        Input::Until { over, begun } => (None, Some(over), Some(begun)),
    };
    let has_input = bytes.is_some() || over.is_some();
    let parameters = AttachParams::default().container(at.container).stdin(has_input).stderr(true);
    let pods: Api<Pod> = Api::namespaced(client.clone(), at.namespace);
    let attached = pods.exec(at.pod, command.iter().copied(), &parameters).await;
    let mut attached = attached.map_err(|error| error.to_string())?;
    let status = attached.take_status();
    let (out, err) = (attached.stdout(), attached.stderr());
    let writer = attached.stdin();
    let input = async {
        let Some(mut writer) = writer else { return Ok(()) };
        if let Some(bytes) = bytes {
            writer.write_all(bytes).await?;
        }
        if let Some(over) = over {
            // The sender signals by being dropped.
            drop(over.await);
        }
        writer.shutdown().await
    };
    let (input, out, err) = tokio::join!(input, read_all(out, None), read_all(err, begun));
    let status = match status {
        Some(status) => status.await,
        None => None,
    };
    match status {
        Some(status) if status.status.as_deref() == Some("Success") => {}
        // The message tells a failed command from a command that could not be started.
        Some(status) => return Err(format!("{}: {}", status.message.unwrap_or_default(), err?.trim())),
        None => return Err("the connection ended before the command did".into()),
    }
    input.map_err(|error| format!("writing its input: {error}"))?;
    out
}

/// Reads a stream to its end. Notifies `begun` at the first data.
async fn read_all(
    stream: Option<impl AsyncRead + Unpin>,
    mut begun: Option<oneshot::Sender<()>>,
) -> std::result::Result<String, String> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        let mut stream = stream.take(OUTPUT_LIMIT);
        while stream.read_buf(&mut bytes).await.map_err(|error| format!("reading its output: {error}"))? > 0 {
            // The receiver may be gone.
            let _ = begun.take().map(|begun| begun.send(()));
        }
    }
    String::from_utf8(bytes).map_err(|_| "its output is not text".into())
}
