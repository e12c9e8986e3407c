//! The remote secret by which one cluster's istiod reads another cluster: taken away, refused, or renewed.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::FutureExt;
use futures::future::LocalBoxFuture;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde_json::{Map, Value, json};

use crate::cluster::{Cluster, Pair, Seen, eventually};
use crate::istio::{Registered, seen_by_istiod};
use crate::record::{self, Write};
use crate::scope::change::Change;
use crate::scope::{Error, Result};

/// Label by which istiod finds remote secrets.
const LABEL: &str = "istio/multiCluster";

/// Label that keeps a remote secret whose [`LABEL`] is taken away, and the annotation with the data of one whose token is
/// replaced: what a person needs to put the secret right after a killed test.
const TAKEN: &str = "meshproof.dev/prior-multi-cluster";
const PRIOR: &str = "meshproof.dev/prior-data";

/// Longest wait for istiod to notice. istiod reads on by the old token until it has tried the new one for 30 s
/// (`PILOT_REMOTE_CLUSTER_TIMEOUT`).
const NOTICED: Duration = Duration::from_secs(60);

/// The status of a cluster that istiod still tries to read.
const SYNCING: &str = "syncing";

/// What becomes of the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretFault {
    /// istiod does not find it any more.
    Missing,
    /// Its token is one that the other cluster refuses.
    Refused,
    /// Its token is a new one that the other cluster accepts.
    Renewed,
}

/// The remote secret by which one cluster's istiod reads another cluster, as a change.
#[derive(Debug, Clone)]
pub struct RemoteSecret {
    pair: Pair,
    name: String,
    fault: SecretFault,
}

impl RemoteSecret {
    /// The secret of `pair.to` in `pair.from`.
    ///
    /// # Errors
    /// [`NotDeclared`](record::Error::NotDeclared): there is none of the name that `istioctl` gives.
    pub async fn find(pair: &Pair, fault: SecretFault) -> Result<Self> {
        let Pair { from, to } = pair;
        let namespace = &from.record().istio.namespace;
        let listed = from.api::<Secret>(namespace).list_metadata(&ListParams::default().labels(LABEL)).await;
        let listed = listed.map_err(from.failed(format!("list the remote secrets in {namespace}")))?;
        let name = format!("istio-remote-secret-{}", to.name());
        if !listed.items.iter().any(|secret| secret.name_any() == name) {
            return Err(record::Error::not_declared(format!("a remote secret {name} in {}", from.name())).into());
        }
        Ok(Self { pair: pair.clone(), name, fault })
    }

    /// The object, as a diagnosis names it.
    pub fn object(&self) -> String {
        format!("Secret {}/{}", self.cluster().record().istio.namespace, self.name)
    }

    /// The cluster that has the secret.
    fn cluster(&self) -> &Arc<Cluster> {
        &self.pair.from
    }

    async fn patch(&self, patch: Value) -> Result<()> {
        let secrets = self.cluster().api::<Secret>(&self.cluster().record().istio.namespace);
        let patched = secrets.patch(&self.name, &PatchParams::default(), &Patch::Merge(patch)).await;
        Ok(patched.map(drop).map_err(self.cluster().failed(format!("change {}", self.object())))?)
    }

    async fn read(&self) -> Result<Secret> {
        let secrets = self.cluster().api::<Secret>(&self.cluster().record().istio.namespace);
        let found = secrets.get(&self.name).await;
        Ok(found.map_err(self.cluster().failed(format!("read {}", self.object())))?)
    }

    /// Writes the secret with another token, and keeps what was there.
    async fn with_token(&self, found: &Secret, token: &str) -> Result<()> {
        let kubeconfigs = found.data.iter().flatten();
        let changed: Map<String, Value> = kubeconfigs
            .map(|(name, kubeconfig)| (name.clone(), with_token(&String::from_utf8_lossy(&kubeconfig.0), token).into()))
            .collect();
        let prior = serde_json::to_value(&found.data).map_err(Error::suite)?;
        let annotations = json!({ PRIOR: prior.to_string() });
        self.patch(json!({ "metadata": { "annotations": annotations }, "stringData": changed })).await
    }

    /// A new token for the account that the secret's token is for.
    async fn renewed(&self, found: &Secret) -> Result<String> {
        let unusable = || Error::suite(format!("{} holds no token of a service account", self.object()));
        let kubeconfig =
            found.data.iter().flatten().next().map(|(_, one)| String::from_utf8_lossy(&one.0).into_owned());
        let account = kubeconfig.as_deref().and_then(token_of).and_then(account_of).ok_or_else(unusable)?;
        let request = TokenRequest { spec: TokenRequestSpec::default(), ..TokenRequest::default() };
        let to = &self.pair.to;
        let accounts = to.api::<ServiceAccount>(&account.namespace);
        let issued = accounts.create_token_request(&account.name, &PostParams::default(), &request).await;
        let issued = issued.map_err(to.failed(format!("make a token for {}/{}", account.namespace, account.name)))?;
        issued.status.map(|status| status.token).ok_or_else(unusable)
    }

    /// Waits until istiod's word about the peer is as `is` accepts.
    async fn noticed(&self, want: &str, is: impl Fn(Option<&String>) -> bool) -> Result<()> {
        let peer = self.pair.to.name();
        let want = format!("istiod of {} {want} {peer}", self.cluster().name());
        let noticed = eventually(want, NOTICED, async || {
            let seen = seen_by_istiod(self.cluster()).await.map_err(Error::suite)?;
            let status = seen.get(peer);
            Ok::<_, Error>(if is(status) { Seen::Yes(()) } else { Seen::NotYet(format!("{status:?}")) })
        });
        Ok(noticed.await?)
    }
}

impl fmt::Display for RemoteSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.object(), self.cluster().name())
    }
}

impl Change for RemoteSecret {
    fn write(&self) -> Write {
        Write::Objects
    }

    fn apply(&self) -> LocalBoxFuture<'_, Result<()>> {
        async {
            if self.fault == SecretFault::Missing {
                return self.patch(json!({ "metadata": { "labels": { LABEL: null, TAKEN: "true" } } })).await;
            }
            let found = self.read().await?;
            let token = match self.fault {
                SecretFault::Renewed => self.renewed(&found).await?,
                _ => "refused".into(),
            };
            self.with_token(&found, &token).await
        }
        .boxed_local()
    }

    fn verify(&self) -> LocalBoxFuture<'_, Result<()>> {
        let (want, lost) = match self.fault {
            SecretFault::Renewed => ("to read", false),
            _ => ("to lose", true),
        };
        let is = move |status: Option<&String>| match status.map(String::as_str) {
            Some(Registered::SYNCED) => !lost,
            Some(SYNCING) => false,
            _ => lost,
        };
        self.noticed(want, is).boxed_local()
    }

    fn revert(&self) -> LocalBoxFuture<'_, Result<()>> {
        async {
            let found = self.read().await?;
            if found.labels().contains_key(TAKEN) {
                self.patch(json!({ "metadata": { "labels": { LABEL: "true", TAKEN: null } } })).await?;
            }
            if let Some(prior) = found.annotations().get(PRIOR) {
                let data: Value = serde_json::from_str(prior).map_err(Error::suite)?;
                self.patch(json!({ "metadata": { "annotations": { PRIOR: null } }, "data": data })).await?;
            }
            let is_read = |status: Option<&String>| status.is_some_and(|status| status == Registered::SYNCED);
            self.noticed("to read", is_read).await
        }
        .boxed_local()
    }
}

/// A kubeconfig with another token.
fn with_token(kubeconfig: &str, token: &str) -> String {
    let line = |line: &str| match line.split_once("token:") {
        Some((before, _)) => format!("{before}token: {token}"),
        None => line.to_owned(),
    };
    kubeconfig.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// The token in a kubeconfig.
fn token_of(kubeconfig: &str) -> Option<&str> {
    let token = kubeconfig.lines().find_map(|line| Some(line.split_once("token:")?.1))?;
    Some(token.trim().trim_matches('"'))
}

/// A service account.
#[derive(Debug, PartialEq, Eq)]
struct Account {
    namespace: String,
    name: String,
}

/// The account in a token's subject, `system:serviceaccount:NAMESPACE:NAME`.
fn account_of(token: &str) -> Option<Account> {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let payload: Value = serde_json::from_slice(&payload).ok()?;
    let (namespace, name) = payload["sub"].as_str()?.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    Some(Account { namespace: namespace.into(), name: name.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubeconfigs_token_is_found_with_its_account_and_replaced() {
        let payload = URL_SAFE_NO_PAD.encode(r#"{"sub":"system:serviceaccount:istio-system:reader"}"#);
        let kubeconfig = format!("users:\n- name: east\n  user:\n    token: h.{payload}.s\nkind: Config");
        let account = Account { namespace: "istio-system".into(), name: "reader".into() };
        assert_eq!(token_of(&kubeconfig).and_then(account_of), Some(account));
        let other = with_token(&kubeconfig, "new");
        assert_eq!((token_of(&other), other.lines().count()), (Some("new"), 5));
        assert_eq!(account_of("no-token"), None);
    }
}
