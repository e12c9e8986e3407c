//! What is to be compared.

use super::manifests::Manifests;

/// A comparison to make.
#[derive(Debug, Clone, Default)]
pub struct Compare {
    /// The manifests of the control.
    pub control: Manifests,
    /// The manifests of the treatment.
    pub treatment: Manifests,
    /// The user's own service, in both directories, as the server. `None`: a probe.
    pub service: Option<OwnService>,
    /// The cluster. `None`: the first one.
    pub cluster: Option<String>,
    /// Image of the load driver. `None`: the testbed's own.
    pub driver: Option<String>,
}

/// A service of the user, which the client calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnService {
    /// Name.
    pub name: String,
    /// Port.
    pub port: u16,
    /// Path of the request. It answers with status 200.
    pub path: String,
}
