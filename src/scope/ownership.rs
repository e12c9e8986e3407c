//! What a test creates and changes, and its restoration.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use futures::{StreamExt, TryStreamExt};
use serde_json::{Value, json};

use super::change::{Change, Injected, NamespaceRef, NodeLabel, Object, Owned, Replicas};
use super::{Error, KEEP_VARIABLE, Result, Scope, bench, label, naming, revert, wanted};
use crate::cluster::Cluster;
use crate::diagnosis;
use crate::record::{Label, Requirement, Write};
use crate::report;

impl Scope {
    /// Creates a namespace owned by this test, with Istio injection. `purpose` becomes part of the name.
    ///
    /// # Errors
    /// The errors of [`Self::namespace`].
    pub async fn injected_namespace(&self, cluster: &Arc<Cluster>, purpose: &str) -> Result<String> {
        self.namespace(cluster, purpose, &wanted::labels_of(&cluster.record().istio, true)).await
    }

    /// Creates a namespace owned by this test, with these labels. `purpose` becomes part of the name. The name is the
    /// same in every cluster. Istio makes one service of services with one name in such namespaces, and sends calls to
    /// all of their clusters. Give each cluster a `purpose` of its own if calls must stay in the cluster.
    ///
    /// # Errors
    /// [`Api`](crate::cluster::Error::Api). [`NotDeclared`](crate::record::Error::NotDeclared): the record does not
    /// permit it.
    pub async fn namespace(&self, cluster: &Arc<Cluster>, purpose: &str, labels: &[Label]) -> Result<String> {
        self.requires([Requirement::Write(Write::Namespaces)])?;
        let prefix = self.testbed.record.capabilities.namespace_prefix.as_deref().unwrap_or(naming::PREFIX);
        let of_test = naming::Use { suite: self.suite, test: &self.test, purpose };
        let name = naming::namespace(prefix, of_test, report::run());
        self.own(Owned::Namespace(NamespaceRef::new(cluster, &name)));
        let mut namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
        for Label { key, value } in labels {
            namespace["metadata"]["labels"][key] = value.as_str().into();
        }
        self.apply(cluster, &mut namespace).await?;
        Ok(name)
    }

    /// Applies an object, labelled as this test's, into a namespace owned by this test.
    ///
    /// # Errors
    /// [`Error::Cluster`]. [`Error::Shares`]: the test shares the mesh and does not own the namespace.
    pub async fn apply(&self, cluster: &Arc<Cluster>, object: &mut Value) -> Result<()> {
        if !self.is_own(cluster, object) {
            let (kind, name) = (&object["kind"], &object["metadata"]["name"]);
            self.lock.permits(format!("{kind} {name} is in no namespace of the test's own"))?;
        }
        label::sign(object, self.suite, &self.test);
        cluster.apply(object).await?;
        Ok(())
    }

    /// Applies objects like [`Self::apply`], all at once.
    ///
    /// # Errors
    /// The errors of [`Self::apply`].
    pub async fn apply_all(&self, cluster: &Arc<Cluster>, objects: Vec<Value>) -> Result<()> {
        let applying = objects.into_iter().map(async |mut object| self.apply(cluster, &mut object).await);
        // More at once would only wait for the API server, and for istiod, which validates.
        futures::stream::iter(applying).buffer_unordered(16).try_collect().await
    }

    /// An object, labelled as this test's, for a namespace that the test does not own. Apply the object with
    /// [`inject`](Self::inject).
    ///
    /// # Errors
    /// [`Error::Cluster`]: the cluster does not know the kind.
    pub async fn object(&self, cluster: &Arc<Cluster>, mut object: Value) -> Result<Object> {
        label::sign(&mut object, self.suite, &self.test);
        Object::new(cluster, object).await
    }

    /// Applies a change, and waits until the change has taken effect. The end of the test reverts the change.
    ///
    /// # Errors
    /// [`NotDeclared`](crate::record::Error::NotDeclared): the record does not permit the change. [`Error::Shares`]: the
    /// test shares the mesh. The change cannot be applied. The change takes no effect in time.
    #[tracing::instrument(level = "debug", skip_all, fields(%change))]
    pub async fn inject(&self, change: impl Change + 'static) -> Result<Injected> {
        let change: Arc<dyn Change> = Arc::new(change);
        let injected = self.begin(Arc::clone(&change)).await?;
        change.verify().await?;
        Ok(injected)
    }

    /// Applies a change without waiting for its effect.
    async fn begin(&self, change: Arc<dyn Change>) -> Result<Injected> {
        let place = change.place();
        // What suites have deployed themselves needs no permission to change what is another's.
        if !place.is_some_and(|place| bench::is_own(place.cluster.record(), &place.name)) {
            self.requires([Requirement::Write(change.write())])?;
        }
        self.lock.permits(change.to_string())?;
        let id = self.injected.fetch_add(1, Ordering::Relaxed);
        self.own(Owned::Change(id, Arc::clone(&change)));
        diagnosis::forget();
        change.apply().await?;
        Ok(Injected(id))
    }

    /// Reverts a change now, and waits until others can rely on the previous state. If the revert fails, the end of the
    /// test retries.
    ///
    /// # Errors
    /// The change cannot be reverted.
    pub async fn revert(&self, injected: Injected) -> Result<()> {
        let is = |owned: &mut Owned| matches!(owned, Owned::Change(id, _) if *id == injected.0);
        self.put_back(is).await
    }

    /// Applies an object into a namespace that the test does not own, and removes the object at the end. An existing
    /// object of another run is left alone.
    ///
    /// # Errors
    /// The errors of [`Self::inject`]. [`Error::Taken`]: another run has an object with this name.
    pub async fn place(&self, cluster: &Arc<Cluster>, object: Value) -> Result<()> {
        let object = self.object(cluster, object).await?;
        self.inject(object).await.map(drop)
    }

    /// Removes the [placed](Self::place) objects now, in reverse order, for a test that waits until the mesh has
    /// noticed. The end of the test retries failed removals.
    ///
    /// # Errors
    /// [`Error::NotReverted`], with every object that could not be removed.
    pub async fn remove_placed(&self) -> Result<()> {
        self.put_back(|owned| owned.is_object()).await
    }

    async fn put_back(&self, which: impl FnMut(&mut Owned) -> bool) -> Result<()> {
        let back: Vec<Owned> = {
            let mut owned = self.owned.lock().unwrap_or_else(PoisonError::into_inner);
            owned.extract_if(.., which).collect()
        };
        let mut failures = Vec::new();
        for revert::Failed { change, error } in revert::last_first(back, Owned::stands_alone, Owned::restore).await {
            self.own(change);
            failures.push(error);
        }
        diagnosis::forget();
        if failures.is_empty() { Ok(()) } else { Err(Error::NotReverted { failures }) }
    }

    /// Injects [`Replicas`], without waiting for the pods.
    ///
    /// # Errors
    /// [`Error::Cluster`], also if the deployment does not exist. [`NotDeclared`](crate::record::Error::NotDeclared).
    /// [`Error::Shares`].
    pub async fn scale(&self, cluster: &Arc<Cluster>, namespace: &str, deployment: &str, replicas: i32) -> Result<()> {
        let change = Replicas::new(cluster, namespace, deployment, replicas).await?;
        self.begin(Arc::new(change)).await.map(drop)
    }

    /// Sets a label on every node of a cluster, or removes the label. The end of the test restores the label on every
    /// node.
    ///
    /// # Errors
    /// The errors of [`Self::inject`].
    pub async fn label_nodes(&self, cluster: &Arc<Cluster>, label: &str, value: Option<&str>) -> Result<()> {
        self.inject(NodeLabel::new(cluster, label, value)).await.map(drop)
    }

    /// Whether the object is a namespace that the test owns, or is in one.
    fn is_own(&self, cluster: &Cluster, object: &Value) -> bool {
        let key = if object["kind"] == "Namespace" { "name" } else { "namespace" };
        let namespace = object["metadata"][key].as_str();
        let owned = self.owned.lock().unwrap_or_else(PoisonError::into_inner);
        owned.iter().any(|owned| match owned {
            Owned::Namespace(own) => own.cluster.name() == cluster.name() && Some(own.name.as_str()) == namespace,
            Owned::Change(..) => false,
        })
    }

    fn own(&self, owned: Owned) {
        self.owned.lock().unwrap_or_else(PoisonError::into_inner).push(owned);
    }

    /// Reverts all changes, in reverse order. Returns a complaint for each change that could not be reverted.
    pub(super) async fn clean_up(&self) -> Vec<String> {
        let owned = std::mem::take(&mut *self.owned.lock().unwrap_or_else(PoisonError::into_inner));
        if std::env::var_os(KEEP_VARIABLE).is_some_and(|keep| keep == "1") {
            for owned in &owned {
                tracing::warn!(%owned, "kept");
            }
            return Vec::new();
        }
        if owned.iter().any(|owned| matches!(owned, Owned::Change(..))) {
            diagnosis::forget();
        }
        let failed = revert::last_first(owned, Owned::stands_alone, Owned::restore).await;
        failed.into_iter().map(|failed| failed.error.to_string()).collect()
    }

    /// Namespaces whose state explains a failure of claims that name no pods: those of this test.
    pub(super) fn namespaces(&self) -> Vec<NamespaceRef> {
        let owned = self.owned.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<NamespaceRef> = Vec::new();
        for namespace in owned.iter().filter_map(Owned::namespace) {
            if !all.iter().any(|known| known.is(&namespace)) {
                all.push(namespace);
            }
        }
        all
    }
}
