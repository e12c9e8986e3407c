//! `testbed up`: from whatever is there to a mesh that has answered across clusters.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use futures::future::try_join_all;
use meshproof::record::Record;

use super::{kubeconfig, profile};
use crate::artifacts::node::{self, Node as NodeImage};
use crate::artifacts::{self, Store};
use crate::ledger::Ledger;
use crate::local::engine::{Engine, LABEL};
use crate::local::node::Node;
use crate::local::{self, addresses};
use crate::lock::Lock;
use crate::mesh::application::{self, Spread};
use crate::mesh::authority::Authority;
use crate::mesh::first_call;
use crate::mesh::global_namespace::Declaration;
use crate::mesh::install::Member;
use crate::progress::Progress;
use crate::versions::Versions;
use crate::{paths, prerequisites};

/// Name of the container network.
const NETWORK: &str = "meshproof";

#[derive(Args)]
pub(crate) struct Arguments {
    /// Where the clusters come from
    #[arg(long, value_enum, default_value_t = Provider::Local)]
    provider: Provider,
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
enum Provider {
    /// Two clusters on this machine, one container each
    Local,
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
        let Provider::Local = self.provider;
        let spread = self.spread()?;
        let progress = Progress::new();
        let _lock = Lock::take("cargo xtask testbed up")?;
        prerequisites::ensure(&progress, !self.no_install).await?;
        let outcome = self.bring_up(&progress, &spread).await;
        if outcome.is_err() {
            progress.say(
                "For the state it is in: `cargo xtask testbed status`; for everything: `cargo xtask testbed dump`.",
            );
        }
        let ledger = outcome?;
        progress.say(format!("\n{}", ledger.comparison()));
        progress.say("The testbed is up. Judge it: cargo test");
        if self.json {
            println!("{}", serde_json::to_string_pretty(&ledger)?);
        }
        Ok(())
    }

    /// The layout asked for; a declaration is read and checked before anything is touched.
    fn spread(&self) -> Result<Spread> {
        match (self.layout, &self.declaration) {
            (Layout::Istio, None) => Ok(Spread::Services),
            (Layout::Istio, Some(_)) => {
                bail!("--declaration is for `--layout global-namespace`: the layout istio declares none")
            }
            (Layout::GlobalNamespace, file) => {
                let definition = local::Definition::read()?;
                let clusters: Vec<&str> = definition.cluster.iter().map(|cluster| cluster.name.as_str()).collect();
                let file = file.clone().unwrap_or_else(|| paths::fixture("boutique/global-namespace.yaml"));
                Ok(Spread::GlobalNamespace(Declaration::read(&file, &clusters)?))
            }
        }
    }

    async fn bring_up(&self, progress: &Progress, spread: &Spread) -> Result<Ledger> {
        let directory = paths::testbed();
        std::fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        let versions = Versions::read()?;
        let definition = local::Definition::read()?;
        let engine = Engine::connect().await?;
        refuse_foreign(&engine, &directory).await?;
        engine.resume_all().await?;
        let store = Store::open()?;
        // From here on suites find no testbed, until there is one that has answered.
        Record::remove(&directory)?;

        let names: Vec<&str> = definition.cluster.iter().map(|cluster| cluster.name.as_str()).collect();
        let authority = Authority::ensure(directory.join("secrets"), &names)?;
        let artifacts = artifacts::all(progress, &store, &engine, &versions).await?;

        let subnet = progress.step(None, "container network", network(&engine, &definition.networks)).await?;
        let subnet = addresses::Subnet::parse(&subnet)?;
        let nodes = definition.cluster.iter().enumerate().map(|(number, cluster)| {
            let image = &artifacts.image.reference;
            Node::new(&engine, cluster.clone(), subnet.node(number), image, NETWORK, &versions)
        });
        let nodes: Vec<Node> = nodes.collect::<Result<_>>()?;
        std::fs::write(directory.join(OWNER), paths::root().to_string_lossy().as_bytes())?;

        let members = try_join_all(nodes.iter().map(|node| async {
            let client = node.up(progress).await?;
            let member = Member::new(node, client, progress, &versions, &artifacts);
            member.prepare(&authority).await?;
            anyhow::Ok(member)
        }));
        let members = members.await?;
        let kubeconfig = kubeconfig::write(&directory, &nodes)?;
        link_tools(&directory, &[&artifacts.kubectl, &artifacts.istioctl])?;
        // From here on each goes its own way; all that one needs of another is its API server.
        let installing = members.iter().map(|member| async {
            member.control_plane().await?;
            member.sweep().await?;
            let peers = members.iter().filter(|peer| peer.node.name() != member.node.name());
            let joins = try_join_all(peers.map(|peer| member.join(peer)));
            tokio::try_join!(joins, member.gateways(), member.workloads())
        });
        try_join_all(installing).await?;

        let record = profile::record(spread, &members, &authority, &kubeconfig, &artifacts).await?;
        record.write(&directory)?;
        let called = progress.step(None, "first cross-cluster calls over mTLS", first_call::each_way(&directory)).await;
        if called.is_err() {
            // Suites take the record for a promise that the mesh answers.
            Record::remove(&directory)?;
        }
        let first = progress.elapsed() - called?.elapsed();
        let deployed = application::deploy(&members, spread).await;
        if deployed.is_err() {
            Record::remove(&directory)?;
        }
        deployed?;
        let NodeImage { reference, below, .. } = &artifacts.image;
        let keep: Vec<&str> = below.iter().chain([reference]).map(String::as_str).collect();
        engine.remove_other_images(node::REPOSITORY, &keep).await?;
        store.sweep()?;
        let total = progress.elapsed().as_secs_f64();
        let ledger = Ledger::new(spread.layout(), progress.steps(), !store.has_built(), total, first.as_secs_f64());
        ledger.write(&directory)?;
        Ok(ledger)
    }
}

/// File in the testbed directory that says whose it is.
const OWNER: &str = "owner";

/// Refuses to touch containers of a testbed that another checkout brought up.
async fn refuse_foreign(engine: &Engine, directory: &Path) -> Result<()> {
    if directory.join(OWNER).exists() {
        return Ok(());
    }
    let containers = engine.containers().await?;
    if containers.is_empty() {
        return Ok(());
    }
    bail!(
        "containers of another checkout's testbed exist (label {LABEL}): {}; run `cargo xtask testbed down` there, or \
         `cargo xtask testbed down --all` here",
        containers.join(", ")
    )
}

/// Puts the command-line tools of the clusters' own versions into `bin`, for people and for the commands that a failed
/// claim tells them to run.
fn link_tools(directory: &Path, tools: &[&Path]) -> Result<()> {
    let bin = directory.join("bin");
    std::fs::create_dir_all(&bin).with_context(|| format!("cannot create {}", bin.display()))?;
    for tool in tools {
        let link = bin.join(tool.file_name().unwrap_or_default());
        let _ = std::fs::remove_file(&link);
        std::os::unix::fs::symlink(tool, &link).with_context(|| format!("cannot link {}", link.display()))?;
    }
    Ok(())
}

/// The container network's subnet; the network is made where there is none.
async fn network(engine: &Engine, candidates: &[String]) -> Result<String> {
    if let Some(subnet) = engine.network_subnet(NETWORK).await? {
        crate::progress::mark_cached();
        return Ok(subnet);
    }
    let subnet = addresses::free(candidates)?;
    engine.create_network(NETWORK, &subnet, &addresses::Subnet::parse(&subnet)?.engine_range()).await?;
    Ok(subnet)
}
