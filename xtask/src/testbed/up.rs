//! `testbed up`: brings the testbed from any state to a mesh that answers across clusters.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use futures::future::try_join_all;
use meshproof::record::Record;

use super::{kubeconfig, profile};
use crate::artifacts::{self, Store};
use crate::ledger::Ledger;
use crate::lock::Lock;
use crate::mesh::application::{self, Spread};
use crate::mesh::authority::Authority;
use crate::mesh::first_call;
use crate::mesh::global_namespace::Declaration;
use crate::mesh::install::Member;
use crate::paths;
use crate::progress::Progress;
use crate::provider::Provider;
use crate::provider::local::{self, Local};
use crate::versions::Versions;

#[derive(Args)]
pub(crate) struct Arguments {
    /// How the application is spread over the clusters
    #[arg(long, value_enum, default_value_t = Layout::Istio)]
    layout: Layout,
    /// Declaration of the global namespace [default: fixtures/boutique/global-namespace.yaml]
    #[arg(long, value_name = "FILE")]
    declaration: Option<PathBuf>,
    /// Install nothing on this machine: list what is missing, and stop
    #[arg(long)]
    no_install: bool,
    /// Print the ledger as JSON on standard output
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Layout {
    /// By Kubernetes names, with placeholder services for what runs in the other cluster
    Istio,
    /// By the names of one declared global namespace, from which all else is derived
    GlobalNamespace,
}

impl Arguments {
    pub(crate) async fn run(self) -> Result<()> {
        let spread = self.spread()?;
        let progress = Progress::new();
        let _lock = Lock::take("cargo xtask testbed up")?;
        local::ensure_prerequisites(&progress, !self.no_install).await?;
        let outcome = self.bring_up(&progress, &spread).await;
        if outcome.is_err() {
            progress.say("`cargo xtask testbed status` shows its state; `cargo xtask testbed dump` collects its logs.");
        }
        let ledger = outcome?;
        progress.say(format!("\n{}", ledger.comparison()));
        progress.say("The testbed is up. Judge it: cargo test");
        if self.json {
            println!("{}", serde_json::to_string_pretty(&ledger)?);
        }
        Ok(())
    }

    /// The requested layout. A declaration is read and checked before any change.
    fn spread(&self) -> Result<Spread> {
        match (self.layout, &self.declaration) {
            (Layout::Istio, None) => Ok(Spread::Services),
            (Layout::Istio, Some(_)) => {
                bail!("--declaration needs `--layout global-namespace`: the layout `istio` has no declaration")
            }
            (Layout::GlobalNamespace, file) => {
                let definition = local::Definition::read()?;
                let file = file.clone().unwrap_or_else(|| paths::fixture("boutique/global-namespace.yaml"));
                Ok(Spread::GlobalNamespace(Declaration::read(&file, &definition.names())?))
            }
        }
    }

    async fn bring_up(&self, progress: &Progress, spread: &Spread) -> Result<Ledger> {
        let directory = paths::testbed();
        std::fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        let versions = Versions::read()?;
        let provider = Local::connect().await?;
        provider.take_over(&directory).await?;
        let store = Store::open()?;
        // From here on, suites find no testbed until a new mesh has answered.
        Record::remove(&directory)?;

        let authority = Authority::ensure(directory.join("secrets"), &provider.clusters())?;
        let artifacts = artifacts::all(progress, &store, &versions).await?;
        let image = provider.image(progress, &store, &artifacts, &versions).await?;
        let nodes = provider.nodes(progress, &image, &versions, &directory).await?;

        let members = try_join_all(nodes.iter().map(|node| async {
            let target = node.up(progress).await?;
            let member = Member::new(target, progress, &versions, &artifacts);
            member.prepare(&authority).await?;
            anyhow::Ok(member)
        }));
        let members = members.await?;
        let kubeconfig = kubeconfig::write(&directory, &members)?;
        link_tools(&directory, &[artifacts.kubectl(), artifacts.istioctl()])?;
        // From here on, no cluster waits for another: a cluster needs only the API server of the other.
        let installing = members.iter().map(|member| async {
            member.control_plane().await?;
            member.sweep().await?;
            let peers = members.iter().filter(|peer| peer.target.name != member.target.name);
            let joins = try_join_all(peers.map(|peer| member.join(peer)));
            tokio::try_join!(joins, member.gateways(), member.workloads())
        });
        try_join_all(installing).await?;

        let record = profile::record(Provider::Local, spread, &members, &authority, &kubeconfig, &artifacts).await?;
        record.write(&directory)?;
        let called = progress.step(None, "first cross-cluster calls over mTLS", first_call::each_way(&directory)).await;
        if called.is_err() {
            // A record promises that the mesh answers, and this mesh does not.
            Record::remove(&directory)?;
        }
        let first = progress.elapsed() - called?.elapsed();
        let deployed = application::deploy(&members, spread).await;
        if deployed.is_err() {
            Record::remove(&directory)?;
        }
        deployed?;
        provider.remove_other_images(&image).await?;
        store.sweep()?;
        let total = progress.elapsed().as_secs_f64();
        let ledger = Ledger::new(spread.layout(), progress.steps(), !store.has_built(), total, first.as_secs_f64());
        ledger.write(&directory)?;
        Ok(ledger)
    }
}

/// Links the command-line tools of the clusters' versions into `bin`, for users and for the commands that a failed
/// claim names.
fn link_tools(directory: &Path, tools: &[PathBuf]) -> Result<()> {
    let bin = directory.join("bin");
    std::fs::create_dir_all(&bin).with_context(|| format!("cannot create {}", bin.display()))?;
    for tool in tools {
        let link = bin.join(tool.file_name().unwrap_or_default());
        let _ = std::fs::remove_file(&link);
        std::os::unix::fs::symlink(tool, &link).with_context(|| format!("cannot link {}", link.display()))?;
    }
    Ok(())
}
