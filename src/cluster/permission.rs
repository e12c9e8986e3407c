//! Asks an API server what these credentials may do.

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::Client;
use kube::api::{Api, PostParams};

use super::error::brief;

/// An API server's answer. Only [`Self::Allowed`] permits anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Permission {
    /// The request is allowed.
    Allowed,
    /// The request is not allowed.
    Denied,
    /// The API server does not say, with the reason.
    Unknown(String),
}

/// What to ask about `verb` of a kind, in the whole cluster.
pub(crate) fn request(verb: &str, group: &str, resource: &str) -> ResourceAttributes {
    ResourceAttributes {
        group: Some(group.to_owned()),
        resource: Some(resource.to_owned()),
        verb: Some(verb.to_owned()),
        ..ResourceAttributes::default()
    }
}

/// Asks whether a request is allowed (`SelfSubjectAccessReview`).
pub async fn permission(client: &Client, request: ResourceAttributes) -> Permission {
    let spec =
        SelfSubjectAccessReviewSpec { resource_attributes: Some(request), ..SelfSubjectAccessReviewSpec::default() };
    let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let answered = match reviews.create(&PostParams::default(), &review).await {
        Ok(answered) => answered,
        Err(error) => return Permission::Unknown(brief(&error)),
    };
    match answered.status {
        Some(status) if status.allowed => Permission::Allowed,
        Some(status) => match status.evaluation_error.filter(|error| !error.is_empty()) {
            Some(error) if status.denied != Some(true) => {
                Permission::Unknown(format!("the authorizer failed: {error}"))
            }
            _ => Permission::Denied,
        },
        None => Permission::Unknown("the answer has no status".into()),
    }
}
