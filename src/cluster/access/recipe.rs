//! All that is known of a context before the first request.

use std::path::PathBuf;
use std::time::Duration;

use http::StatusCode;
use kube::Config;

use super::files::Selected;
use super::plugin::Plugin;
use super::proxy::Proxy;
use super::trust::Authority;

/// How long an API server may answer that it is starting or overloaded.
pub(super) const BUSY_BOUND: Duration = Duration::from_secs(30);

/// All that is needed to make a client for a context.
#[derive(Clone)]
pub(super) struct Recipe {
    pub(super) of: Selected,
    /// Without the credentials of `source`.
    pub(super) config: Config,
    pub(super) source: Source,
    pub(super) authority: Option<Authority>,
    pub(super) proxy: Option<Proxy>,
}

/// Where credentials come from.
#[derive(Clone)]
pub(super) enum Source {
    /// The kubeconfig itself. They cannot be renewed.
    Kubeconfig,
    /// A file with a token.
    File(PathBuf),
    /// A credential plugin.
    Plugin(Box<Plugin>),
}

/// Whether a status says that the API server is starting, overloaded, or behind something that is.
pub(super) fn is_busy(status: StatusCode) -> bool {
    let busy = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT];
    busy.contains(&status)
}
