//! A kubeconfig for a few contexts.

use std::collections::BTreeSet;

use kube::config::Kubeconfig;

use super::error::Error;
use super::files::Kubeconfigs;

impl Kubeconfigs {
    /// A kubeconfig with these contexts and what they name. All paths are absolute; the contents of files stay in the
    /// files. What was written inline stays inline, so the text is a secret: write it with mode 0600.
    ///
    /// # Errors
    /// [`Error::NoContext`], [`Error::Dangling`]. [`Error::Unreadable`]: an entry cannot be written as YAML.
    pub fn minified<S: AsRef<str>>(&self, contexts: &[S]) -> Result<String, Error> {
        let selected = contexts.iter().map(|context| self.select(context.as_ref())).collect::<Result<Vec<_>, _>>()?;
        let contexts: BTreeSet<&str> = selected.iter().map(|one| one.context.as_str()).collect();
        let clusters: BTreeSet<&str> = selected.iter().map(|one| one.cluster_name.as_str()).collect();
        let users: BTreeSet<&str> = selected.iter().filter_map(|one| one.user_name.as_deref()).collect();
        let mut small = Kubeconfig {
            api_version: Some("v1".into()),
            kind: Some("Config".into()),
            current_context: selected.first().map(|one| one.context.clone()),
            ..Kubeconfig::default()
        };
        let all = self.merged.clone();
        small.contexts = all.contexts.into_iter().filter(|one| contexts.contains(one.name.as_str())).collect();
        small.clusters = all.clusters.into_iter().filter(|one| clusters.contains(one.name.as_str())).collect();
        small.auth_infos = all.auth_infos.into_iter().filter(|one| users.contains(one.name.as_str())).collect();
        serde_saphyr::to_string(&small).map_err(|error| Error::Unreadable {
            file: self.files().first().cloned().unwrap_or_default(),
            reason: format!("its entries cannot be written as YAML: {error}"),
        })
    }
}
