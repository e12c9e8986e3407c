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
use kube::api::{ListParams, PostParams};
use serde_json::Value;

use crate::cluster::{Cluster, Pair, Seen, eventually};
use crate::istio::{MULTI_CLUSTER, Registered, seen_by_istiod};
use crate::record::{self, Write};
use crate::scope::change::{Change, SecretData};
use crate::scope::{Error, Result, istiod, prior};

/// Longest wait for istiod to notice. istiod tries a token for 30 s (`PILOT_REMOTE_CLUSTER_TIMEOUT`).
const NOTICED: Duration = Duration::from_secs(60);

/// What becomes of the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretFault {
    /// istiod does not find it any more.
    Missing,
    /// istiod forgets the cluster, and then finds the secret again, with a token that the other cluster refuses. To revert
    /// this, istiod is started again: it does not always let go of such a cluster.
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
        let listed = from.api::<Secret>(namespace).list_metadata(&ListParams::default().labels(MULTI_CLUSTER)).await;
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

    async fn change(&self, doing: &str, patch: impl Fn(&Secret) -> Result<Option<Value>>) -> Result<()> {
        let secrets = self.cluster().api::<Secret>(&self.cluster().record().istio.namespace);
        let failed = |error| self.cluster().failed(format!("{doing} {}", self.object()))(error).into();
        prior::change(&secrets, &self.name, failed, patch).await.map(drop)
    }

    async fn read(&self) -> Result<Secret> {
        SecretData::read(self.cluster(), &self.cluster().record().istio.namespace, &self.name).await
    }

    /// Gives the secret another token, and shows it to istiod.
    async fn show(&self, token: &str) -> Result<()> {
        let with_token = |secret: &Secret| {
            let kubeconfigs = secret.data.iter().flatten();
            let changed = kubeconfigs
                .map(|(name, kubeconfig)| (name.clone(), with_token(&String::from_utf8_lossy(&kubeconfig.0), token)));
            prior::showing(secret, &changed.collect())
        };
        self.change("replace the token of", with_token).await
    }

    /// Hides the secret until istiod has forgotten the cluster.
    async fn hide(&self) -> Result<()> {
        self.change("hide", prior::hiding).await?;
        self.noticed("to forget", |status| status.is_none()).await
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
            if self.fault == SecretFault::Renewed {
                return self.show(&self.renewed(&self.read().await?).await?).await;
            }
            self.hide().await?;
            if self.fault == SecretFault::Refused { self.show("refused").await } else { Ok(()) }
        }
        .boxed_local()
    }

    fn verify(&self) -> LocalBoxFuture<'_, Result<()>> {
        match self.fault {
            SecretFault::Missing => async { Ok(()) }.boxed_local(),
            // `syncing` at first, and `timeout` after 30 s: it has no endpoint of the cluster in either case.
            SecretFault::Refused => {
                self.noticed("to try to read", |status| status.is_some() && !is_read(status)).boxed_local()
            }
            SecretFault::Renewed => self.noticed("to read", is_read).boxed_local(),
        }
    }

    fn revert(&self) -> LocalBoxFuture<'_, Result<()>> {
        async {
            self.change("put back", prior::unhiding).await?;
            if self.fault == SecretFault::Refused {
                let cluster = self.cluster();
                istiod::restart(&cluster.client(), cluster.name(), &cluster.record().istio.namespace).await?;
            }
            self.noticed("to read", is_read).await
        }
        .boxed_local()
    }
}

/// Whether istiod reads a cluster, by its word about it.
fn is_read(status: Option<&String>) -> bool {
    status.is_some_and(|status| status == Registered::SYNCED)
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
