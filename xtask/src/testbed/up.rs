//! `testbed up`: brings the testbed from any state to a mesh that answers across clusters.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use futures::future::try_join_all;
use meshproof::record::Record;

use super::{kubeconfig, peers, profile};
use crate::artifacts::{self, Store};
use crate::declaration::{self, Declaration, Layout};
use crate::ledger::Ledger;
use crate::lock::Lock;
use crate::mesh::application::{self, Spread};
use crate::mesh::authority::Authority;
use crate::mesh::install::{Common, Member};
use crate::mesh::{first_call, global_namespace};
use crate::paths;
use crate::progress::Progress;
use crate::provider::Provider;
use crate::provider::local::{self, Local};
use crate::versions::Versions;

#[derive(Args)]
pub(crate) struct Arguments {
    /// Declaration of the clusters and the mesh [default: that of the existing testbed, otherwise
    /// fixtures/clusters/default.toml]
    #[arg(long, value_name = "FILE")]
    declaration: Option<PathBuf>,
    /// How the application is spread over the clusters, in place of what the declaration says
    #[arg(long, value_enum)]
    layout: Option<Layout>,
    /// Declaration of the global namespace [default: fixtures/boutique/global-namespace.yaml]
    #[arg(long, value_name = "FILE")]
    global_namespace: Option<PathBuf>,
    /// Install nothing on this machine: list what is missing, and stop
    #[arg(long)]
    no_install: bool,
    /// Print the ledger as JSON on standard output
    #[arg(long)]
    json: bool,
}

/// A checked plan for one `up`.
struct Plan {
    /// File of the declaration.
    path: PathBuf,
    declaration: Declaration,
    /// How the application is spread. `None`: there is none.
    spread: Option<Spread>,
}

impl Arguments {
    pub(crate) async fn run(self) -> Result<()> {
        let plan = self.plan(&paths::testbed())?;
        let progress = Progress::new();
        let _lock = Lock::take("cargo xtask testbed up")?;
        local::ensure_prerequisites(&progress, &plan.declaration, !self.no_install).await?;
        let outcome = bring_up(&progress, &plan).await;
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

    /// Reads and checks the declarations. Changes nothing.
    fn plan(&self, directory: &Path) -> Result<Plan> {
        if let Ok(Provider::Attach) = Record::read(directory).map_err(Into::into).and_then(|it| Provider::of(&it)) {
            bail!(
                "{} is the record of a mesh that `up` did not make: leave the mesh with `cargo xtask testbed detach`, \
                 or name another directory with MESHPROOF_TESTBED=DIR",
                directory.display()
            );
        }
        let existing = Declaration::of_testbed(directory)?;
        let path = match (&self.declaration, &existing) {
            (Some(path), _) => path.clone(),
            (None, Some(_)) => Declaration::copy_in(directory),
            (None, None) => Declaration::default_path(),
        };
        let declaration = Declaration::read(&path)?;
        let differences = existing.map(|existing| declaration::not_in_place(&existing, &declaration));
        if let Some(differences) = differences.filter(|differences| !differences.is_empty()) {
            bail!(
                "{} cannot be made from the existing testbed: run `cargo xtask testbed down` first; nothing was \
                 changed. What cannot change in place:\n  {}",
                path.display(),
                differences.join("\n  ")
            );
        }
        let spread = self.spread(&declaration)?;
        Ok(Plan { path, declaration, spread })
    }

    fn spread(&self, declaration: &Declaration) -> Result<Option<Spread>> {
        let declared = declaration.application.map(|application| application.layout);
        if declared.is_none() && self.layout.is_some() {
            bail!("--layout: the declaration has no application");
        }
        match (self.layout.or(declared), &self.global_namespace) {
            (Some(Layout::GlobalNamespace), file) => {
                let file = file.clone().unwrap_or_else(|| paths::fixture("boutique/global-namespace.yaml"));
                let read = global_namespace::Declaration::read(&file, &declaration.names())?;
                Ok(Some(Spread::GlobalNamespace(read)))
            }
            (_, Some(_)) => bail!("--global-namespace needs `--layout global-namespace`"),
            (layout, None) => Ok(layout.map(|_| Spread::Services)),
        }
    }
}

async fn bring_up(progress: &Progress, plan: &Plan) -> Result<Ledger> {
    let Plan { path, declaration, spread } = plan;
    let directory = paths::testbed();
    std::fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
    let versions = Versions::read()?;
    let provider = Local::connect(declaration).await?;
    provider.take_over(progress, &directory).await?;
    let store = Store::open()?;
    // From here on, suites find no testbed until a new mesh has answered.
    Record::remove(&directory)?;
    Declaration::keep(path, &directory)?;

    let authority = Authority::ensure(directory.join("secrets"), declaration.mesh.authority, &declaration.names())?;
    let artifacts = artifacts::all(progress, &store, &versions, declaration.node_agents()).await?;
    let image = provider.image(progress, &store, &artifacts, &versions).await?;
    let clusters = provider.clusters(progress, &image, &versions, &directory).await?;

    let common = Common { declaration, progress, versions: &versions, artifacts: &artifacts, store: &store };
    let members = clusters.iter().zip(&declaration.clusters).map(|(cluster, declared)| {
        let (common, authority) = (&common, &authority);
        async move {
            let target = cluster.up(progress).await?;
            let member = Member::new(target, common, declared);
            member.prepare(authority).await?;
            anyhow::Ok(member)
        }
    });
    let members = try_join_all(members).await?;
    let kubeconfig = kubeconfig::write(&directory, &members, &artifacts.programs.probe.image())?;
    link_tools(&directory, &[artifacts.kubectl(), artifacts.istioctl()])?;
    // From here on, no cluster waits for another: a cluster needs only the API server of the other.
    let installing = members.iter().zip(&clusters).map(|(member, cluster)| async {
        let mesh = async {
            member.control_plane().await?;
            member.sweep().await?;
            let peers = members.iter().filter(|peer| peer.target.name != member.target.name);
            let peers: Vec<_> = peers.collect();
            tokio::try_join!(member.join(&peers), member.gateways(), member.workloads()).map(drop)
        };
        tokio::try_join!(cluster.join(progress, &member.target), mesh, member.gateway_api())?;
        member.node_agents().await
    });
    try_join_all(installing).await?;

    let described = profile::record(Provider::Local, spread.as_ref(), &members, &authority, &kubeconfig, &artifacts);
    described.await?.write(&directory)?;
    let called = answer(progress, &directory, &members, spread.as_ref()).await;
    if called.is_err() {
        // A record promises that the mesh answers, and this mesh does not.
        Record::remove(&directory)?;
    }
    let first = called?;
    provider.remove_other_images(&image).await?;
    store.sweep(paths::root())?;
    let total = progress.elapsed().as_secs_f64();
    let layout = spread.as_ref().map_or("none", Spread::layout);
    let ledger = Ledger::new(layout, progress.steps(), !store.has_built(), total, first.as_secs_f64());
    ledger.write(&directory)?;
    Ok(ledger)
}

/// Waits until the mesh answers, and deploys the application. Returns the time of the first answer, from the start of
/// the command.
async fn answer(
    progress: &Progress,
    directory: &Path,
    members: &[Member<'_>],
    spread: Option<&Spread>,
) -> Result<Duration> {
    let prepared = members.iter().all(|member| member.declaration.prepared);
    if !prepared {
        progress.step(None, "clusters see each other", see_each_other(members)).await?;
        return Ok(progress.elapsed());
    }
    let called = progress.step(None, "first cross-cluster calls over mTLS", first_call::each_way(directory)).await?;
    let first = progress.elapsed() - called.elapsed();
    if let Some(spread) = spread {
        application::deploy(members, spread).await?;
    }
    Ok(first)
}

/// Waits until every istiod sees all other clusters. Without probes, there is nobody to call.
async fn see_each_other(members: &[Member<'_>]) -> Result<()> {
    let waits = members.iter().map(async |member| {
        let names = member.declaration.names().into_iter().filter(|name| *name != member.target.name);
        let installed = profile::installed(member.declaration, member.declared);
        let peers: Vec<&str> = names.collect();
        peers::synced(&member.target.client, &member.target.name, &installed, &peers).await
    });
    try_join_all(waits).await.map(drop)
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
