//! Reading a mesh that somebody else made, from the contexts of kubeconfigs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use futures::future::try_join_all;
use kube::Client;
use meshproof::attach::rights::{self, Mode, Places};
use meshproof::attach::{self, Access, FoundMesh, Names, Options};
use meshproof::cluster::access::Kubeconfigs;
use meshproof::identity::Certificate;
use meshproof::record::{Bench, BenchDeployment, HostPort, Label, ProbeDeployment, Record};

use crate::files;
use crate::progress::Progress;

/// File name of the kubeconfig beside the record.
pub(crate) const KUBECONFIG: &str = "kubeconfig";

// The clusters to read, how, and what suites deploy there. No doc comment: clap would take it for that of the command.
#[derive(Debug, Args)]
pub(crate) struct How {
    /// Context of a cluster with Istio; once for each cluster
    #[arg(long = "context", value_name = "CONTEXT")]
    pub(crate) contexts: Vec<String>,
    /// Image of the probe. In a checkout, `cargo xtask testbed kubeconfig --probe-image` prints the one in the nodes of
    /// `up`, which have it already: use it with `--probe-pull-policy Never`
    #[arg(long, value_name = "IMAGE", value_parser = image, requires = "contexts")]
    pub(crate) probe_image: Option<String>,
    /// Beginning of the names of the namespaces that suites create
    #[arg(long, value_name = "PREFIX", default_value = "meshproof", value_parser = prefix)]
    namespace_prefix: String,
    /// Kubeconfig with the contexts; may be given several times [default: those of $KUBECONFIG, otherwise
    /// ~/.kube/config]
    #[arg(long = "kubeconfig", value_name = "FILE", requires = "contexts")]
    pub(crate) kubeconfigs: Vec<PathBuf>,
    /// Kubernetes' imagePullPolicy of the images
    #[arg(long, value_name = "POLICY", value_parser = ["Always", "IfNotPresent", "Never"], requires = "contexts")]
    probe_pull_policy: Option<String>,
    /// Secret with the credentials for the registry of the images
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = named, requires = "contexts")]
    image_pull_secret: Option<String>,
    #[command(flatten)]
    told: Told,
}

// What a reader tells in place of what cannot be found out.
#[derive(Debug, Args)]
struct Told {
    /// Revision or tag of the control plane to judge [default: the one with the tag `default`, or the only one]
    #[arg(long, requires = "contexts")]
    revision: Option<String>,
    /// Istio's mesh id, if it cannot be read
    #[arg(long, value_name = "ID", requires = "contexts")]
    mesh_id: Option<String>,
    /// Trust domain, if it cannot be read
    #[arg(long, value_name = "DOMAIN", requires = "contexts")]
    trust_domain: Option<String>,
    /// Label that enables injection for a namespace, if the webhooks cannot be read
    #[arg(long, value_name = "KEY=VALUE", value_parser = label, requires = "contexts")]
    injection: Option<Label>,
    /// File with root certificates of the mesh, if they cannot be read; may be given several times
    #[arg(long = "root", value_name = "FILE", requires = "contexts")]
    roots: Vec<PathBuf>,
    /// Address of a cluster's east-west gateway for the other networks, if its Service has none
    #[arg(long, value_name = "CLUSTER=HOST:PORT", value_parser = address, requires = "contexts")]
    eastwest: Vec<Address>,
}

/// The address of a cluster's gateway.
#[derive(Debug, Clone)]
struct Address {
    cluster: String,
    address: HostPort,
}

/// Longest prefix of namespaces, in characters: a name has 63, with a purpose and a hash behind the prefix.
const LONGEST_PREFIX: usize = 30;

fn prefix(text: &str) -> Result<String, String> {
    let legal = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit() || character == '-';
    let ends = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit();
    let is_label = text.starts_with(ends) && text.ends_with(ends) && text.chars().all(legal);
    if !is_label || text.len() > LONGEST_PREFIX {
        return Err(format!(
            "namespaces begin with it: give at most {LONGEST_PREFIX} lower-case letters, digits and `-`, with a letter \
             or a digit at each end"
        ));
    }
    Ok(text.into())
}

/// The name of an image. Only what no registry can have is refused here; the kubelet tells the rest.
pub(crate) fn image(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains(char::is_whitespace) || text.starts_with(['/', '-']) {
        return Err("it is no name of an image: give REGISTRY/REPO:TAG or REGISTRY/REPO@DIGEST".into());
    }
    if text.contains("://") {
        return Err("it is an address: give REGISTRY/REPO:TAG or REGISTRY/REPO@DIGEST, without a scheme".into());
    }
    Ok(text.into())
}

/// The PEM text of a file with root certificates.
fn root(path: &Path) -> Result<String> {
    let pem = files::read(path)?;
    let found = Certificate::all_from_pem("--root", &pem);
    found.with_context(|| format!("{} has no usable root certificate", path.display()))?;
    Ok(pem)
}

/// A name in a namespace.
fn named(text: &str) -> Result<String, String> {
    let is_named = text.split_once('/').is_some_and(|(namespace, name)| !namespace.is_empty() && !name.is_empty());
    if is_named { Ok(text.into()) } else { Err("it is not NAMESPACE/NAME".into()) }
}

fn label(text: &str) -> Result<Label, String> {
    let (key, value) = text.split_once('=').ok_or("it is not KEY=VALUE")?;
    Ok(Label { key: key.into(), value: value.into() })
}

fn address(text: &str) -> Result<Address, String> {
    let (cluster, address) = text.rsplit_once('=').ok_or("it is not CLUSTER=HOST:PORT")?;
    Ok(Address { cluster: cluster.into(), address: address.parse()? })
}

/// The clusters to read.
pub(crate) struct Source<'a> {
    pub(crate) how: &'a How,
    /// The probe's image. Without one, nothing may be written.
    pub(crate) image: Option<&'a str>,
    /// The load driver's image. Without one, there are no performance comparisons.
    pub(crate) load: Option<&'a str>,
    pub(crate) names: Names,
}

/// A mesh that was read.
pub(crate) struct Read {
    pub(crate) progress: Progress,
    pub(crate) contexts: Kubeconfigs,
    pub(crate) clients: Vec<Client>,
    pub(crate) mesh: FoundMesh,
    pub(crate) record: Record,
}

impl How {
    /// The clusters to read, and what suites may deploy there.
    pub(crate) fn source<'a>(&'a self, image: Option<&'a str>, load: Option<&'a str>) -> Source<'a> {
        Source { how: self, image, load, names: Names::with_prefix(&self.namespace_prefix) }
    }
}

impl Source<'_> {
    /// Reads the mesh. Creates nothing.
    ///
    /// # Errors
    /// Fails if a kubeconfig is unusable, or a cluster cannot be read.
    pub(crate) async fn read(&self) -> Result<Read> {
        let progress = Progress::new();
        let contexts = Kubeconfigs::load(&self.how.kubeconfigs)?;
        contexts.shadowed().iter().for_each(|shadowed| progress.say(shadowed.to_string()));
        // A fault in one kubeconfig leaves all clusters alone.
        self.how.contexts.iter().try_for_each(|context| contexts.check(context))?;
        let clients = try_join_all(self.how.contexts.iter().map(|context| contexts.connect(context))).await?;
        let mesh = self.discover(&progress, &clients).await?;
        let mut record = mesh.record(Path::new(KUBECONFIG), &self.names, &self.access());
        record.clusters.iter_mut().for_each(|cluster| cluster.bench = self.bench());
        Ok(Read { progress, contexts, clients, mesh, record })
    }

    async fn discover(&self, progress: &Progress, clients: &[Client]) -> Result<FoundMesh> {
        let options = &self.how.told.options(&self.names)?;
        let discovering = self.how.contexts.iter().zip(clients).map(async |(context, client)| {
            let reading = async { anyhow::Ok(attach::discover(client, context, options).await?) };
            progress.step(Some(context), "what is there", reading).await
        });
        Ok(FoundMesh::new(try_join_all(discovering).await?)?)
    }

    fn access(&self) -> Access {
        let deployment = |image: &str| ProbeDeployment {
            image: image.into(),
            pull_policy: self.how.probe_pull_policy.clone(),
            pull_secret: self.how.image_pull_secret.clone(),
        };
        self.image.map_or(Access::ReadOnly, |image| Access::Probes(deployment(image)))
    }
}

impl Source<'_> {
    fn bench(&self) -> Option<Bench> {
        let image = self.load?.to_owned();
        let pull_policy = self.how.probe_pull_policy.clone();
        Some(self.names.bench(Some(BenchDeployment { image, pull_policy })))
    }
}

impl Read {
    /// Asks all clusters which of the rights that a mode needs there are.
    pub(crate) async fn preflight(&self, mode: Mode) -> rights::Preflight {
        let Self { record, clients, .. } = self;
        let asked = record.clusters.iter().zip(clients).map(|(cluster, client)| rights::Asked {
            cluster: cluster.name.clone(),
            client: client.clone(),
            rules: rights::needed(mode.tasks(), &Places::of(cluster, &record.capabilities.writes)),
        });
        rights::preflight(&asked.collect::<Vec<_>>()).await
    }

    /// Writes the record into `directory`, with a kubeconfig that has these contexts only.
    ///
    /// # Errors
    /// Fails if a file cannot be written.
    pub(crate) fn write(&self, directory: &Path) -> Result<()> {
        let contexts: Vec<String> = self.record.clusters.iter().map(|cluster| cluster.context.clone()).collect();
        files::write_secret(&directory.join(KUBECONFIG), &self.contexts.minified(&contexts)?)?;
        Ok(self.record.write(directory)?)
    }
}

impl Told {
    fn options(&self, names: &Names) -> Result<Options> {
        let roots = self.roots.iter().map(|path| root(path)).collect::<Result<_>>()?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_the_beginning_of_a_namespaces_name() {
        for right in ["meshproof", "team-a", "7"] {
            assert_eq!(prefix(right).as_deref(), Ok(right));
        }
        let long = "a".repeat(LONGEST_PREFIX + 1);
        for wrong in ["", "Team", "team_a", "-team", "team-", "team.a", &long] {
            assert!(prefix(wrong).unwrap_err().contains("lower-case"), "{wrong}");
        }
    }

    #[test]
    fn a_pull_secret_is_refused_before_it_is_in_a_record_that_nothing_can_read() {
        assert_eq!(named("vault/registry").as_deref(), Ok("vault/registry"));
        for wrong in ["registry", "/registry", "vault/", ""] {
            assert!(named(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_image_is_refused_that_no_registry_can_have() {
        for right in ["probe", "meshproof-probe:0.1", "registry.example:5000/team/probe@sha256:0a"] {
            assert_eq!(image(right).as_deref(), Ok(right));
        }
        for wrong in ["", "a probe", "/probe", "-probe", "https://registry.example/probe"] {
            assert!(image(wrong).unwrap_err().contains("give REGISTRY/REPO"), "{wrong}");
        }
    }

    #[test]
    fn a_file_without_a_root_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("root.pem");
        std::fs::write(&path, "no certificate").unwrap();
        let error = format!("{:#}", root(&path).unwrap_err());
        assert!(error.starts_with(&format!("{} has no usable root certificate: --root", path.display())), "{error}");
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
}
