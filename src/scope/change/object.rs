//! An object in a namespace that the test does not own.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::LocalBoxFuture;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, DynamicObject, Preconditions};
use serde_json::Value;

use super::{Change, NamespaceRef, gone};
use crate::cluster::{Cluster, ObjectApi, Seen, eventually};
use crate::record::Write;
use crate::report;
use crate::scope::error::{Error, Result};
use crate::scope::label::RUN_LABEL;

/// Checks an object's effect.
type Look = Box<dyn Fn() -> LocalBoxFuture<'static, Result<Seen<()>>> + Send + Sync>;

/// An object, such as a policy, in a namespace that the test does not own.
pub struct Object {
    cluster: Arc<Cluster>,
    api: Api<DynamicObject>,
    name: String,
    what: String,
    value: Value,
    effect: Option<Effect>,
}

/// The check of an object's effect.
struct Effect {
    want: String,
    within: Duration,
    look: Look,
}

impl Object {
    /// The object that `value` describes, with the test's label. See [`Scope::object`](crate::Scope::object).
    pub(in crate::scope) async fn new(cluster: &Arc<Cluster>, value: Value) -> Result<Self> {
        let ObjectApi { api, name, what } = cluster.api_of(&value).await?;
        Ok(Self { cluster: Arc::clone(cluster), api, name, what, value, effect: None })
    }

    /// Sets the check of the object's effect on pods or proxies: `look` is called until it sees the effect, for at most
    /// `within`.
    #[must_use]
    pub fn effective_when<F>(
        mut self,
        want: impl Into<String>,
        within: Duration,
        look: impl Fn() -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<Seen<()>>> + 'static,
    {
        self.effect = Some(Effect { want: want.into(), within, look: Box::new(move || look().boxed_local()) });
        self
    }

    /// The object in the cluster, if it exists.
    async fn there(&self) -> Result<Option<DynamicObject>> {
        let there = self.api.get_opt(&self.name).await;
        Ok(there.map_err(self.cluster.failed(format!("look for {}", self.what)))?)
    }
}

fn is_ours(object: &DynamicObject) -> bool {
    object.labels().get(RUN_LABEL).is_some_and(|run| run == report::run())
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.what, self.cluster.name())
    }
}

impl Change for Object {
    fn write(&self) -> Write {
        Write::Objects
    }

    /// An existing object of another run is left alone.
    fn apply(&self) -> LocalBoxFuture<'_, Result<()>> {
        async {
            match self.there().await? {
                Some(object) if !is_ours(&object) => {
                    Err(Error::Taken { cluster: self.cluster.name().into(), object: self.what.clone() })
                }
                _ => Ok(self.cluster.apply(&self.value).await.map(drop)?),
            }
        }
        .boxed_local()
    }

    fn verify(&self) -> LocalBoxFuture<'_, Result<()>> {
        async {
            let Some(Effect { want, within, look }) = &self.effect else { return Ok(()) };
            Ok(eventually(want, *within, async || look().await).await?)
        }
        .boxed_local()
    }

    fn revert(&self) -> LocalBoxFuture<'_, Result<()>> {
        async {
            let Some(object) = self.there().await?.filter(is_ours) else { return Ok(()) };
            let preconditions = Some(Preconditions { uid: object.uid(), resource_version: None });
            let parameters = DeleteParams { preconditions, ..DeleteParams::background() };
            let removed = self.api.delete(&self.name, &parameters).await;
            Ok(gone(removed).map_err(self.cluster.failed(format!("remove {}", self.what)))?)
        }
        .boxed_local()
    }

    fn place(&self) -> Option<NamespaceRef> {
        let name = self.value["metadata"]["namespace"].as_str()?;
        Some(NamespaceRef::new(&self.cluster, name))
    }
}
