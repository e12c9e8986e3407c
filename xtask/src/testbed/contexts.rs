//! The contexts of kubeconfigs.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

/// Several kubeconfigs as one.
pub(super) struct Contexts {
    merged: Kubeconfig,
}

impl Contexts {
    /// Reads these files. Without a file, those that `KUBECONFIG` names, or else `~/.kube/config`.
    pub(super) fn load(files: &[PathBuf]) -> Result<Self> {
        let merged = match files {
            [] => Kubeconfig::read().context("cannot read the kubeconfig: name one with --kubeconfig")?,
            files => {
                let mut merged = Kubeconfig::default();
                for file in files {
                    let read = Kubeconfig::read_from(file).with_context(|| format!("cannot use {}", file.display()))?;
                    merged = merged.merge(read)?;
                }
                merged
            }
        };
        Ok(Self { merged })
    }

    /// A client for a context.
    pub(super) async fn connect(&self, context: &str) -> Result<Client> {
        if !self.merged.contexts.iter().any(|one| one.name == context) {
            let known: Vec<&str> = self.merged.contexts.iter().map(|one| one.name.as_str()).collect();
            bail!("no kubeconfig has a context `{context}`; the contexts are {}", known.join(", "));
        }
        let options = KubeConfigOptions { context: Some(context.to_owned()), ..KubeConfigOptions::default() };
        let mut config = Config::from_custom_kubeconfig(self.merged.clone(), &options).await?;
        config.connect_timeout = Some(Duration::from_secs(5));
        Ok(Client::try_from(config)?)
    }

    /// A kubeconfig with these contexts only.
    pub(super) fn minified(&self, contexts: &[String]) -> Result<String> {
        let mut small = self.merged.clone();
        small.contexts.retain(|one| contexts.contains(&one.name));
        let used = |of: fn(&kube::config::Context) -> &str| -> Vec<String> {
            small.contexts.iter().filter_map(|one| one.context.as_ref()).map(|one| of(one).to_owned()).collect()
        };
        let (clusters, users) = (used(|one| &one.cluster), used(|one| one.user.as_deref().unwrap_or_default()));
        small.clusters.retain(|one| clusters.contains(&one.name));
        small.auth_infos.retain(|one| users.contains(&one.name));
        small.current_context = contexts.first().cloned();
        Ok(serde_saphyr::to_string(&small)?)
    }
}
