//! Runs a command in a pod's container.

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, AttachParams};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Maximum size that is read from either stream, in bytes.
const LIMIT: u64 = 64 << 20;

/// Runs `command` in a container and returns its standard output. There is no time limit. The caller must set one.
///
/// # Errors
/// Fails if the command cannot be started or fails. The error has the command's standard error.
pub(super) async fn exec(pods: &Api<Pod>, pod: &str, container: &str, command: &[&str]) -> Result<String> {
    let line = || format!("`{}` in {pod}/{container}", command.join(" "));
    let parameters = AttachParams::default().container(container).stderr(true);
    let mut attached = pods.exec(pod, command.iter().copied(), &parameters).await.with_context(line)?;
    let status = attached.take_status();
    let (out, err) = tokio::join!(read(attached.stdout()), read(attached.stderr()));
    let status = match status {
        Some(status) => status.await.and_then(|status| status.status),
        None => None,
    };
    match status.as_deref() {
        Some("Success") => out.with_context(line),
        Some(_) => bail!("{} failed: {}", line(), err.unwrap_or_default().trim()),
        None => bail!("{}: the connection ended before the command did", line()),
    }
}

async fn read(stream: Option<impl AsyncRead + Unpin>) -> Result<String> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        stream.take(LIMIT).read_to_end(&mut bytes).await?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
