//! Lists that may be long.

use std::fmt::Debug;

use kube::api::{Api, ListParams};
use serde::de::DeserializeOwned;

use super::error::code;

/// Objects in one answer. A large cluster's lists take tens of MiB.
const PAGE: u32 = 500;

/// What `reduce` keeps of the objects that match `which`, read page by page. With pages and a `reduce` that keeps
/// little, a long list is never in memory as a whole.
///
/// # Errors
/// The API server refuses or fails a request.
pub(crate) async fn pages<K, T>(
    api: &Api<K>,
    which: &ListParams,
    reduce: impl Fn(K) -> Option<T>,
) -> kube::Result<Vec<T>>
where
    K: Clone + Debug + DeserializeOwned,
{
    let mut parameters = which.clone().limit(PAGE);
    let mut kept = Vec::new();
    loop {
        let page = match api.list(&parameters).await {
            // The snapshot behind the pages is gone: the whole list at once has none.
            Err(error) if code(&error) == Some(410) => {
                return Ok(api.list(which).await?.items.into_iter().filter_map(reduce).collect());
            }
            page => page?,
        };
        kept.extend(page.items.into_iter().filter_map(&reduce));
        match page.metadata.continue_.filter(|next| !next.is_empty()) {
            None => return Ok(kept),
            Some(next) => parameters = parameters.continue_token(&next),
        }
    }
}
