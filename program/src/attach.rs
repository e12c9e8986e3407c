//! `attach` and `plan`: read a mesh that somebody else made. `attach` writes its record.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::{ArgGroup, Args};
use meshproof::attach::rights::{self, Mode, Places, Subject};
use meshproof::attach::{self, Judgeable};
use meshproof::record::{self, Record};

use crate::Place;
use crate::reading::{How, Read};

/// What `attach` and `plan` are told.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("clusters").args(["contexts"]).required(true).multiple(true))]
#[command(group = ArgGroup::new("deployed").args(["probe_image", "read_only"]).required(true).multiple(true))]
pub struct Wanted {
    /// Permit suites no write: they judge only what can be read
    #[arg(long)]
    read_only: bool,
    /// Image of the load driver, for performance comparisons: suites make namespaces for them. `cargo xtask image push --of
    /// load REGISTRY/REPO` pushes one
    #[arg(long, value_name = "IMAGE", value_parser = crate::reading::image, requires = "probe_image")]
    load_image: Option<String>,
    /// Service account that the printed rights are for
    #[arg(long, value_name = "NAMESPACE/NAME", default_value = "default/meshproof", value_parser = account)]
    grant_to: Account,
    #[command(flatten)]
    how: How,
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

impl Wanted {
    /// Prints every object that would be created, every call and the rights that are needed. Touches nothing.
    ///
    /// # Errors
    /// Fails if a cluster cannot be read.
    pub async fn plan(self, place: &Place) -> Result<()> {
        let read = self.read().await?;
        // Standard output is the plan alone, to be saved or piped.
        eprint!("{}", found(&read, place));
        print!("{}{}", attach::plan(&read.record), self.rights(&read.record));
        eprintln!("\nrights of these credentials: {}", read.preflight(self.mode()).await);
        Ok(())
    }

    async fn attach(self, place: &Place) -> Result<()> {
        let directory = &place.testbed;
        may_write(place, &self.how.contexts)?;
        let read = self.read().await?;
        print!("{}", found(&read, place));
        if !self.read_only {
            read.preflight(self.mode()).await.check()?;
        }
        std::fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
        read.write(directory)?;
        read.progress.say(format!(
            "\nThe record is {}. Nothing was created in the clusters.\nJudge the mesh: {}\nRemove what tests leave: {}",
            directory.join(record::FILE_NAME).display(),
            place.words.test,
            place.words.detach
        ));
        Ok(())
    }

    async fn read(&self) -> Result<Read> {
        let image = self.how.probe_image.as_deref().filter(|_| !self.read_only);
        let load = self.load_image.as_deref().filter(|_| !self.read_only);
        self.how.source(image, load).read().await
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
}

/// What was found, and what the suites could judge, in words.
fn found(read: &Read, place: &Place) -> String {
    let mut parts = attach::judgeable(&read.record);
    parts.push(analyze(&place.testbed));
    format!("{}{}", read.mesh, suites(&parts))
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
            None => writeln!(text, "  {suite:<13} yes  {what}"),
            Some(missing) => writeln!(text, "  {suite:<13} no   {what}: lacks {missing}"),
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
