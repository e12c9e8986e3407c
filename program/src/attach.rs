//! `attach` and `plan`: read a mesh that somebody else made. `attach` writes its record.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use futures::future::try_join_all;
use kube::Client;
use meshproof::attach::rights::{self, Mode, Places, Subject};
use meshproof::attach::{self, Access, FoundMesh, Judgeable, Names, Options};
use meshproof::cluster::access::Kubeconfigs;
use meshproof::record::{self, HostPort, Label, ProbeDeployment, Record};

use crate::Place;
use crate::files::{self, write_secret};
use crate::progress::Progress;

/// File name of the kubeconfig inside the testbed directory.
const KUBECONFIG: &str = "kubeconfig";

/// What `attach` and `plan` are told.
#[derive(Debug, Args)]
pub struct Wanted {
    /// Context of a cluster with Istio; once for each cluster
    #[arg(long = "context", required = true, value_name = "CONTEXT")]
    contexts: Vec<String>,
    /// Kubeconfig with the contexts; may be given several times [default: those of $KUBECONFIG, otherwise
    /// ~/.kube/config]
    #[arg(long = "kubeconfig", value_name = "FILE")]
    kubeconfigs: Vec<PathBuf>,
    /// Permit suites no write: they judge only what can be read
    #[arg(long)]
    read_only: bool,
    /// Beginning of the names of the namespaces that suites create
    #[arg(long, value_name = "PREFIX", default_value = "meshproof")]
    namespace_prefix: String,
    /// Image of the probe. In a checkout, `cargo xtask testbed kubeconfig --probe-image` prints the one in the nodes of
    /// `up`, which have it already: use it with `--probe-pull-policy Never`
    #[arg(long, value_name = "IMAGE", required_unless_present = "read_only")]
    probe_image: Option<String>,
    /// Kubernetes' imagePullPolicy of the probe's image
    #[arg(long, value_name = "POLICY", value_parser = ["Always", "IfNotPresent", "Never"])]
    probe_pull_policy: Option<String>,
    /// Secret with the credentials for the registry of the probe's image
    #[arg(long, value_name = "NAMESPACE/NAME")]
    image_pull_secret: Option<String>,
    /// Service account that the printed rights are for
    #[arg(long, value_name = "NAMESPACE/NAME", default_value = "default/meshproof", value_parser = account)]
    grant_to: Account,
    #[command(flatten)]
    told: Told,
}

/// Arguments of `attach`.
#[derive(Debug, Args)]
pub struct Attach {
    /// Touch nothing: print what would be created, what would be called, and the rights that are needed
    #[arg(long, conflicts_with = "read_only")]
    plan: bool,
    #[command(flatten)]
    wanted: Wanted,
}

impl Attach {
    /// Writes the record, or prints the plan.
    ///
    /// # Errors
    /// Fails if a cluster cannot be read, or the record cannot be written.
    pub async fn run(self, place: &Place) -> Result<()> {
        if self.plan { self.wanted.plan(place).await } else { self.wanted.attach(place).await }
    }
}

/// A service account.
#[derive(Debug, Clone)]
struct Account {
    namespace: String,
    name: String,
}

fn account(text: &str) -> Result<Account, String> {
    let (namespace, name) = text.split_once('/').ok_or("it is not NAMESPACE/NAME")?;
    Ok(Account { namespace: namespace.into(), name: name.into() })
}

/// What a reader tells in place of what cannot be found out.
#[derive(Debug, Args)]
struct Told {
    /// Revision or tag of the control plane to judge [default: the one with the tag `default`, or the only one]
    #[arg(long)]
    revision: Option<String>,
    /// Istio's mesh id, if it cannot be read
    #[arg(long, value_name = "ID")]
    mesh_id: Option<String>,
    /// Trust domain, if it cannot be read
    #[arg(long, value_name = "DOMAIN")]
    trust_domain: Option<String>,
    /// Label that enables injection for a namespace, if the webhooks cannot be read
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    injection: Option<Label>,
    /// File with root certificates of the mesh, if they cannot be read; may be given several times
    #[arg(long = "root", value_name = "FILE")]
    roots: Vec<PathBuf>,
    /// Address of a cluster's east-west gateway for the other networks, if its Service has none
    #[arg(long, value_name = "CLUSTER=HOST:PORT", value_parser = address)]
    eastwest: Vec<Address>,
}

/// The address of a cluster's gateway.
#[derive(Debug, Clone)]
struct Address {
    cluster: String,
    address: HostPort,
}

fn label(text: &str) -> Result<Label, String> {
    let (key, value) = text.split_once('=').ok_or("it is not KEY=VALUE")?;
    Ok(Label { key: key.into(), value: value.into() })
}

fn address(text: &str) -> Result<Address, String> {
    let (cluster, address) = text.rsplit_once('=').ok_or("it is not CLUSTER=HOST:PORT")?;
    Ok(Address { cluster: cluster.into(), address: address.parse()? })
}

/// A mesh that was read.
struct Read {
    progress: Progress,
    contexts: Kubeconfigs,
    clients: Vec<Client>,
    record: Record,
    /// What was found, in words.
    found: String,
}

impl Wanted {
    /// Prints every object that would be created, every call and the rights that are needed. Touches nothing.
    ///
    /// # Errors
    /// Fails if a cluster cannot be read.
    pub async fn plan(self, place: &Place) -> Result<()> {
        let Read { clients, record, found, .. } = self.read(place).await?;
        // Standard output is the plan alone, to be saved or piped.
        eprint!("{found}");
        print!("{}{}", attach::plan(&record), self.rights(&record));
        eprintln!("\nrights of these credentials: {}", preflight(self.mode(), &record, &clients).await);
        Ok(())
    }

    async fn attach(self, place: &Place) -> Result<()> {
        let directory = &place.testbed;
        may_write(place, &self.contexts)?;
        let Read { progress, contexts, clients, record, found } = self.read(place).await?;
        print!("{found}");
        if !self.read_only {
            preflight(self.mode(), &record, &clients).await.check()?;
        }
        std::fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
        write_secret(&directory.join(KUBECONFIG), &contexts.minified(&self.contexts)?)?;
        record.write(directory)?;
        progress.say(format!(
            "\nThe record is {}. Nothing was created in the clusters.\nJudge the mesh: {}\nRemove what tests leave: {}",
            directory.join(record::FILE_NAME).display(),
            place.words.test,
            place.words.detach
        ));
        Ok(())
    }

    async fn read(&self, place: &Place) -> Result<Read> {
        let (progress, names) = (Progress::new(), Names::with_prefix(&self.namespace_prefix));
        let contexts = Kubeconfigs::load(&self.kubeconfigs)?;
        contexts.shadowed().iter().for_each(|shadowed| progress.say(shadowed.to_string()));
        // A fault in one kubeconfig leaves all clusters alone.
        self.contexts.iter().try_for_each(|context| contexts.check(context))?;
        let clients = try_join_all(self.contexts.iter().map(|context| contexts.connect(context))).await?;
        let mesh = self.discover(&progress, &clients, &names).await?;
        let record = mesh.record(Path::new(KUBECONFIG), &names, &self.access());
        let mut parts = attach::judgeable(&record);
        parts.push(analyze(&place.testbed));
        let found = format!("{mesh}{}", suites(&parts));
        Ok(Read { progress, contexts, clients, record, found })
    }

    async fn discover(&self, progress: &Progress, clients: &[Client], names: &Names) -> Result<FoundMesh> {
        let options = &self.told.options(names)?;
        let discovering = self.contexts.iter().zip(clients).map(async |(context, client)| {
            let reading = async { anyhow::Ok(attach::discover(client, context, options).await?) };
            progress.step(Some(context), "what is there", reading).await
        });
        Ok(FoundMesh::new(try_join_all(discovering).await?)?)
    }

    /// The rights that are needed, as objects to apply.
    fn rights(&self, record: &Record) -> String {
        let Account { namespace, name } = self.grant_to.clone();
        let subject = Subject::ServiceAccount { namespace, name };
        let of_cluster = |cluster: &record::Cluster| {
            let places = Places::of(cluster, &record.capabilities.writes);
            let rules = rights::needed(self.mode().tasks(), &places);
            let yaml = rights::to_yaml(&rules, &places, "meshproof", &subject);
            format!("# CLUSTER {}: the rights that are needed\n{yaml}", cluster.name)
        };
        record.clusters.iter().map(of_cluster).collect()
    }

    fn mode(&self) -> Mode {
        if self.read_only { Mode::ReadOnly } else { Mode::Suites }
    }

    fn access(&self) -> Access {
        let deployment = |image: &String| ProbeDeployment {
            image: image.clone(),
            pull_policy: self.probe_pull_policy.clone(),
            pull_secret: self.image_pull_secret.clone(),
        };
        match &self.probe_image {
            Some(image) if !self.read_only => Access::Probes(deployment(image)),
            _ => Access::ReadOnly,
        }
    }
}

impl Told {
    fn options(&self, names: &Names) -> Result<Options> {
        let roots = self.roots.iter().map(|path| files::read(path)).collect::<Result<_>>()?;
        let eastwest: BTreeMap<String, HostPort> =
            self.eastwest.iter().map(|one| (one.cluster.clone(), one.address.clone())).collect();
        Ok(Options {
            revision: self.revision.clone(),
            mesh_id: self.mesh_id.clone(),
            trust_domain: self.trust_domain.clone(),
            injection: self.injection.clone(),
            roots,
            eastwest,
            names: names.clone(),
        })
    }
}

/// Fails if the directory holds the testbed of `up`, or the record of other clusters.
fn may_write(place: &Place, contexts: &[String]) -> Result<()> {
    let directory = &place.testbed;
    let existing = Record::read(directory);
    let is_local = match &existing {
        Ok(record) => record.provider != attach::PROVIDER,
        // What an unfinished `up` leaves.
        Err(_) => directory.join("secrets").is_dir(),
    };
    let shown = directory.display();
    if is_local {
        bail!(
            "{shown} holds the testbed of `up`: remove it with `cargo xtask testbed down`, or name another directory \
             with MESHPROOF_TESTBED=DIR"
        );
    }
    let clusters = existing.iter().flat_map(|record| &record.clusters);
    let others: Vec<&str> = clusters
        .map(|cluster| cluster.context.as_str())
        .filter(|name| !contexts.iter().any(|one| one == name))
        .collect();
    if !others.is_empty() {
        bail!(
            "{shown} holds the record of a mesh with the contexts {}: leave that mesh with `{}`, or name another \
             directory with MESHPROOF_TESTBED=DIR",
            others.join(", "),
            place.words.detach
        );
    }
    Ok(())
}

/// Asks all clusters which of the needed rights there are.
async fn preflight(mode: Mode, record: &Record, clients: &[Client]) -> rights::Preflight {
    let asked = record.clusters.iter().zip(clients).map(|(cluster, client)| rights::Asked {
        cluster: cluster.name.clone(),
        client: client.clone(),
        rules: rights::needed(mode.tasks(), &Places::of(cluster, &record.capabilities.writes)),
    });
    rights::preflight(&asked.collect::<Vec<_>>()).await
}

/// The suite that needs a program of Istio's.
pub(crate) fn analyze(directory: &Path) -> Judgeable {
    let istioctl = directory.join("bin/istioctl");
    let missing = (!istioctl.is_file()).then(|| format!("istioctl: link yours to {}", istioctl.display()));
    Judgeable { suite: "analyze", what: "`istioctl analyze` reports nothing", missing }
}

/// What each suite can judge, and why not the rest.
pub(crate) fn suites(parts: &[Judgeable]) -> String {
    let mut text = String::from("\nwhat the suites can judge:\n");
    for Judgeable { suite, what, missing } in parts {
        let _ = match missing {
            None => writeln!(text, "  {suite:<10} yes  {what}"),
            Some(missing) => writeln!(text, "  {suite:<10} no   {what}: lacks {missing}"),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use meshproof::record::{Capabilities, Mesh, TrustDomain};

    use super::*;

    fn east() -> record::Cluster {
        let cluster = serde_json::json!({
            "name": "east", "network": "n", "kubeconfig": "kubeconfig", "context": "east", "domain": "cluster.local",
            "address_families": ["IPv4"],
            "istio": {
                "namespace": "istio-system", "injection": { "key": "istio.io/rev", "value": "canary" },
                "control_plane": { "selector": "app=istiod", "port": 15012, "server_name": "istiod.istio-system.svc" },
                "proxy": { "container": "istio-proxy", "agent": "pilot-agent", "native_sidecar": true },
            },
            "gateways": {},
        });
        serde_json::from_value(cluster).unwrap()
    }

    #[test]
    fn labels_and_addresses_are_read_and_nothing_else() {
        assert_eq!(label("istio.io/rev=1-31").unwrap(), Label { key: "istio.io/rev".into(), value: "1-31".into() });
        assert!(label("istio.io/rev").is_err());
        let named = address("arn:aws:eks:eu=1:cluster/mesh=192.0.2.1:15443").unwrap();
        assert_eq!(named.cluster, "arn:aws:eks:eu=1:cluster/mesh");
        assert_eq!(named.address, HostPort::new("192.0.2.1", 15443));
        assert!(address("east=192.0.2.1").unwrap_err().contains("192.0.2.1"));
    }

    #[test]
    fn the_testbed_of_up_is_not_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        may_write(&Place::in_checkout(directory.path()), &[]).unwrap();
        std::fs::create_dir(directory.path().join("secrets")).unwrap();
        let error = may_write(&Place::in_checkout(directory.path()), &[]).unwrap_err().to_string();
        assert!(error.contains("testbed down") && error.contains("MESHPROOF_TESTBED=DIR"), "{error}");
    }

    #[test]
    fn the_record_of_other_clusters_is_not_overwritten_and_that_of_the_same_is() {
        let directory = tempfile::tempdir().unwrap();
        let trust = TrustDomain { name: "example".into(), aliases: vec![], roots: vec!["pem".into()] };
        let record = Record {
            schema: record::SCHEMA.into(),
            provider: attach::PROVIDER.into(),
            mesh: Mesh { id: "mesh".into(), version: "1".into(), trust },
            clusters: vec![east()],
            application: None,
            capabilities: Capabilities::default(),
        };
        record.write(directory.path()).unwrap();
        may_write(&Place::in_checkout(directory.path()), &["west".into(), "east".into()]).unwrap();
        let error = may_write(&Place::in_checkout(directory.path()), &["west".into()]).unwrap_err().to_string();
        assert!(error.contains("the contexts east") && error.contains("testbed detach"), "{error}");
    }
}
