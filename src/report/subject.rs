//! What a claim is about, as far as a diagnosis needs it.

use serde::{Deserialize, Serialize};

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// The cluster's name in the mesh.
    pub cluster: String,
    /// Namespace.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
}

/// Where a diagnosis of a claim begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// A call.
    Call(Call),
    /// Pods that must be ready.
    Pods {
        /// The cluster.
        cluster: String,
        /// The namespace.
        namespace: String,
        /// The label selector.
        selector: String,
    },
    /// A pod that must have a proxy.
    Proxy(Place),
}

/// A call between two ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// The calling pod. `None`: the machine that ran the suite.
    pub source: Option<Place>,
    /// Whether the caller must have a sidecar.
    pub is_meshed: bool,
    /// The pod that must answer, or that must refuse.
    pub destination: Option<Place>,
    /// The dialled host: a name or an IP address.
    pub host: String,
    /// The dialled port.
    pub port: u16,
    /// The server name in the TLS handshake, if the caller chose one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// The protocol that the caller speaks.
    pub speaks: Speaks,
    /// What must become of the call.
    pub must: Must,
    /// What became of the call.
    pub ended: Ended,
}

/// A protocol, as far as a Service's port can contradict it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Speaks {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 or gRPC.
    Http2,
    /// TCP.
    Tcp,
    /// TLS of the application.
    Tls,
    /// Bytes that no port must understand, such as a bare handshake.
    Anything,
}

/// What must become of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Must {
    /// An answer.
    Answer,
    /// A refusal.
    Refuse,
}

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// It was answered.
    Answered,
    /// Its name did not resolve.
    NoName,
    /// An authorization policy refused it: HTTP 403 or gRPC 7.
    Denied,
    /// Anything else.
    Otherwise,
}
