//! Writes typed objects.

use std::fmt::Debug;

use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::discovery::ApiResource;
use kube::{Resource, ResourceExt};
use serde::Serialize;

use super::{Cluster, FIELD_MANAGER, Result};

impl Cluster {
    /// Applies an object by server-side apply. An object that is as it should be stays untouched.
    ///
    /// # Errors
    /// [`Error::Api`](super::Error::Api).
    pub(crate) async fn put<K>(&self, object: &K) -> Result<()>
    where
        K: Resource<DynamicType = ()> + Serialize + Debug,
    {
        let resource = ApiResource::erase::<K>(&());
        let (name, namespace) = (object.name_any(), object.namespace());
        let api: Api<DynamicObject> = match &namespace {
            None => Api::all_with(self.client(), &resource),
            Some(namespace) => Api::namespaced_with(self.client(), namespace, &resource),
        };
        let what = format!("{} {}/{name}", resource.kind, namespace.unwrap_or_default());
        let applied = api.patch(&name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(object)).await;
        applied.map(drop).map_err(self.failed(format!("apply {what}")))
    }

    /// As [`Self::put`], for several objects of one kind at once.
    ///
    /// # Errors
    /// The errors of [`Self::put`].
    pub(crate) async fn put_all<K>(&self, objects: &[K]) -> Result<()>
    where
        K: Resource<DynamicType = ()> + Serialize + Debug,
    {
        futures::future::try_join_all(objects.iter().map(|object| self.put(object))).await.map(drop)
    }
}
