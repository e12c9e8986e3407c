//! The declaration's file, as written. [`super::check`] checks what it means.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use super::fault::{Fault, Unsound};
use super::{Authority, Injection, Layout, Mode, PodSecurity};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) networks: Spanned<Vec<Spanned<String>>>,
    #[serde(default)]
    pub(super) mesh: Mesh,
    #[serde(default)]
    pub(super) istio: Istio,
    #[serde(default)]
    pub(super) suites: Suites,
    pub(super) application: Option<Spanned<Application>>,
    #[serde(default)]
    pub(super) cluster: Vec<Spanned<Cluster>>,
    #[serde(default)]
    pub(super) namespace: Vec<Namespace>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mesh {
    pub(super) id: Option<Spanned<String>>,
    pub(super) trust_domain: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) aliases: Vec<Spanned<String>>,
    pub(super) authority: Option<Authority>,
    pub(super) policy: Option<Mode>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Istio {
    pub(super) revision: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) tags: Vec<Spanned<String>>,
    pub(super) injection: Option<Spanned<Injection>>,
    pub(super) native_sidecars: Option<bool>,
    #[serde(default)]
    pub(super) cni: bool,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Suites {
    pub(super) prepare: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Application {
    pub(super) layout: Layout,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cluster {
    pub(super) name: Spanned<String>,
    pub(super) network: Spanned<String>,
    pub(super) nodes: Option<Spanned<usize>>,
    pub(super) pod_subnet: Spanned<String>,
    pub(super) service_subnet: Spanned<String>,
    pub(super) ingress: Option<Spanned<Gateway>>,
    pub(super) eastwest: Option<Spanned<Gateway>>,
    #[serde(default)]
    pub(super) network_policies: bool,
}

/// A gateway, as far as it differs from Istio's default.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Gateway {
    #[serde(default = "yes")]
    pub(super) enabled: bool,
    pub(super) name: Option<Spanned<String>>,
    pub(super) namespace: Option<Spanned<String>>,
    pub(super) labels: Option<Spanned<BTreeMap<String, Spanned<String>>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Namespace {
    pub(super) name: Spanned<String>,
    #[serde(default)]
    pub(super) injected: bool,
    pub(super) pod_security: Option<Spanned<PodSecurity>>,
    #[serde(default)]
    pub(super) quota: bool,
}

fn yes() -> bool {
    true
}

/// Parses the file.
///
/// # Errors
/// Fails if the text is not TOML, or has an unknown or a missing key. The fault has its line.
pub(super) fn parse(text: &str) -> Result<File, Fault> {
    toml::from_str(text).map_err(|error| {
        let at = error.span().unwrap_or_default();
        Unsound::new(at, error.message().replace('\n', " ")).in_text(text)
    })
}
