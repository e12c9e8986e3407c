//! The variables that choose a proxy.

use std::fmt;

/// The variables of the process that choose a proxy.
#[derive(Clone, Default)]
pub struct Environment {
    /// `HTTPS_PROXY`, for API servers with TLS.
    pub https_proxy: Option<String>,
    /// `HTTP_PROXY`, for API servers without TLS.
    pub http_proxy: Option<String>,
    /// `NO_PROXY`: hosts that are reached directly.
    pub no_proxy: Option<String>,
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A proxy's URL may hold a password.
        f.debug_struct("Environment").field("no_proxy", &self.no_proxy).finish_non_exhaustive()
    }
}

impl Environment {
    /// The variables of this process. The name in capitals wins.
    pub fn of_process() -> Self {
        let read = |name: &str| {
            let value = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
            value(name).or_else(|| value(&name.to_lowercase()))
        };
        Self { https_proxy: read("HTTPS_PROXY"), http_proxy: read("HTTP_PROXY"), no_proxy: read("NO_PROXY") }
    }
}
