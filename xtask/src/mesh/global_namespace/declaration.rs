//! The declaration: a YAML file in the form of a Kubernetes object, checked before any change.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Result;
use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::{dns, paths};

const API_VERSION: &str = "meshproof.dev/v1";
const KIND: &str = "GlobalNamespace";

/// Reserved domains: those of the cluster, of the machine, and of reverse look-ups.
const TAKEN: [&str; 5] = ["cluster.local", "local", "localhost", "arpa", "svc"];

/// The declaration that a user writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Declaration {
    /// Name of the global namespace: a DNS label.
    pub(crate) name: String,
    /// Domain of the services: `<service>.<domain>`.
    pub(crate) domain: String,
    pub(crate) members: Vec<Member>,
    /// Labels that a service must have to be part of the global namespace.
    pub(crate) selector: BTreeMap<String, String>,
    pub(crate) public_services: Vec<PublicService>,
}

/// A namespace of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Member {
    pub(crate) cluster: String,
    pub(crate) namespace: String,
}

/// A service that the ingress gateways serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PublicService {
    pub(crate) service: String,
    /// Host names in addition to `<service>.<domain>`.
    pub(crate) hosts: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct File {
    api_version: Spanned<String>,
    kind: Spanned<String>,
    metadata: Metadata,
    spec: Spec,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    name: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Spec {
    domain: Spanned<String>,
    members: Spanned<Vec<MemberEntry>>,
    #[serde(default)]
    selector: SelectorEntry,
    #[serde(default)]
    public_services: Vec<PublicEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MemberEntry {
    cluster: Spanned<String>,
    namespace: Spanned<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct SelectorEntry {
    match_labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PublicEntry {
    service: Spanned<String>,
    #[serde(default)]
    hosts: Vec<Spanned<String>>,
}

impl Declaration {
    /// Reads and checks the declaration at `path` for a testbed with these clusters.
    ///
    /// # Errors
    /// Fails if the declaration is invalid. The error is one line with the file, the line, the fault and the remedy.
    pub(crate) fn read(path: &Path, clusters: &[&str]) -> Result<Self> {
        let text = paths::read(path)?;
        Self::parse(&text, clusters).map_err(|Fault { line, reason }| {
            anyhow::anyhow!("{}:{line}: {reason}; nothing was changed", path.display())
        })
    }

    fn parse(text: &str, clusters: &[&str]) -> Result<Self, Fault> {
        let file: File = serde_saphyr::from_str(text).map_err(|error| {
            let line = error.location().map_or(1, |location| location.line());
            // The lines after the first are an excerpt of the file.
            let reason = error.without_snippet().to_string();
            Fault { line, reason: reason.lines().next().unwrap_or_default().to_owned() }
        })?;
        let is = |what: &Spanned<String>, wanted: &str, field: &str| match what.value == wanted {
            true => Ok(()),
            false => Err(fault(what, format!("{field} is `{}`, this version reads `{wanted}`", what.value))),
        };
        is(&file.api_version, API_VERSION, "apiVersion")?;
        is(&file.kind, KIND, "kind")?;
        let name = label(&file.metadata.name, "the name")?;
        let domain = domain(&file.spec.domain)?;
        let members = members(&file.spec.members, clusters)?;
        let mut taken = BTreeSet::new();
        let mut public_services = Vec::new();
        for PublicEntry { service, hosts } in &file.spec.public_services {
            let own = format!("{}.{domain}", label(service, "a public service")?);
            if !taken.insert(own) {
                return Err(fault(service, format!("service `{}` is made public twice", service.value)));
            }
            for host in hosts {
                host_name(host, "a host name")?;
                if host.value == domain || host.value.ends_with(&format!(".{domain}")) {
                    return Err(fault(
                        host,
                        format!("host `{}` is of the domain itself, whose names are derived: leave it out", host.value),
                    ));
                }
                if !taken.insert(host.value.clone()) {
                    return Err(fault(host, format!("host `{}` is given twice", host.value)));
                }
            }
            let hosts = hosts.iter().map(|host| host.value.clone()).collect();
            public_services.push(PublicService { service: service.value.clone(), hosts });
        }
        Ok(Self { name, domain, members, selector: file.spec.selector.match_labels, public_services })
    }

    /// Whether this namespace of this cluster is a member.
    pub(crate) fn has(&self, cluster: &str, namespace: &str) -> bool {
        self.members.iter().any(|member| member.cluster == cluster && member.namespace == namespace)
    }

    /// The member namespaces of a cluster.
    pub(crate) fn namespaces<'a>(&'a self, cluster: &'a str) -> impl Iterator<Item = &'a str> {
        self.members.iter().filter(move |member| member.cluster == cluster).map(|member| member.namespace.as_str())
    }
}

/// A fault, and its line.
#[derive(Debug)]
struct Fault {
    line: u64,
    reason: String,
}

fn fault<T>(at: &Spanned<T>, reason: String) -> Fault {
    Fault { line: at.referenced.line(), reason }
}

fn members(entries: &Spanned<Vec<MemberEntry>>, clusters: &[&str]) -> Result<Vec<Member>, Fault> {
    let mut members: Vec<Member> = Vec::new();
    for MemberEntry { cluster, namespace } in &entries.value {
        if !clusters.contains(&cluster.value.as_str()) {
            let known = clusters.join(", ");
            return Err(fault(cluster, format!("there is no cluster `{}`; there are {known}", cluster.value)));
        }
        let member = Member { cluster: cluster.value.clone(), namespace: label(namespace, "a namespace")? };
        if members.contains(&member) {
            let Member { cluster: name, namespace } = member;
            return Err(fault(cluster, format!("namespace `{namespace}` of {name} is a member already")));
        }
        members.push(member);
    }
    if members.is_empty() {
        return Err(fault(entries, "a global namespace needs a member".into()));
    }
    Ok(members)
}

fn domain(domain: &Spanned<String>) -> Result<String, Fault> {
    host_name(domain, "the domain")?;
    let name = &domain.value;
    if let Some(taken) = TAKEN.iter().find(|taken| name == *taken || name.ends_with(&format!(".{taken}"))) {
        return Err(fault(domain, format!("domain `{name}` collides with `{taken}`, which has a meaning already")));
    }
    // A parent of a reserved domain would answer for the cluster's own names.
    if let Some(taken) = TAKEN.iter().find(|taken| taken.ends_with(&format!(".{name}"))) {
        return Err(fault(domain, format!("domain `{name}` collides with `{taken}`, which is below it")));
    }
    if !name.contains('.') {
        let reason = format!("domain `{name}` has one label: `<service>.{name}` would read as a namespace's service");
        return Err(fault(domain, reason));
    }
    Ok(name.clone())
}

/// A DNS label as Kubernetes requires for names (RFC 1123).
fn label(text: &Spanned<String>, what: &str) -> Result<String, Fault> {
    if !dns::is_label(&text.value) {
        return Err(fault(text, format!("{what} is `{}`, which is no DNS label ({})", text.value, dns::RULE)));
    }
    Ok(text.value.clone())
}

fn host_name(text: &Spanned<String>, what: &str) -> Result<(), Fault> {
    // Leave room for a service's label and a dot in front (RFC 1035: 253 in total).
    if text.value.len() > 189 || !text.value.split('.').all(dns::is_label) {
        return Err(fault(text, format!("{what} is `{}`, which is no DNS name in lower case", text.value)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTERS: [&str; 2] = ["cluster1", "cluster2"];

    fn fixture() -> String {
        paths::read(&paths::fixture("boutique/global-namespace.yaml")).unwrap()
    }

    /// Replaces `from` by `to` in the fixture. Returns the line and the reason of the refusal.
    fn refused(from: &str, to: &str) -> (String, String) {
        let text = fixture();
        assert!(text.contains(from), "no `{from}` in the fixture");
        let changed = text.replacen(from, to, 1);
        let Fault { line, reason } = Declaration::parse(&changed, &CLUSTERS).unwrap_err();
        let line = changed.lines().nth(usize::try_from(line).unwrap() - 1).unwrap_or_default();
        (line.trim().to_owned(), reason)
    }

    #[test]
    fn the_fixture_declares_the_seeds_global_namespace() {
        let declaration = Declaration::parse(&fixture(), &CLUSTERS).unwrap();
        assert_eq!((declaration.name.as_str(), declaration.domain.as_str()), ("boutique", "acme.demo"));
        assert!(declaration.has("cluster1", "pinnacle") && declaration.has("cluster2", "pinnacle"));
        assert_eq!(declaration.namespaces("cluster2").collect::<Vec<_>>(), ["pinnacle"]);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (from, to, line, reason) in [
            ("cluster: cluster2", "cluster: cluster3", "cluster3", "there are cluster1, cluster2"),
            ("cluster: cluster2", "cluster: cluster1", "- {cluster: cluster1", "is a member already"),
            ("acme.demo\n", "cluster.local\n", "domain: cluster.local", "collides with `cluster.local`"),
            ("acme.demo\n", "shop.svc.cluster.local\n", "domain:", "collides with `cluster.local`"),
            ("acme.demo\n", "acme\n", "domain: acme", "one label"),
            ("acme.demo\n", "Acme.demo\n", "domain: Acme.demo", "no DNS name"),
            ("name: boutique", "name: the boutique", "name: the boutique", "no DNS label"),
            ("meshproof.dev/v1", "meshproof.dev/v2", "apiVersion", "this version reads `meshproof.dev/v1`"),
            ("GlobalNamespace\n", "Namespace\n", "kind: Namespace", "reads `GlobalNamespace`"),
            ("frontend.pinnacle", "frontend.acme.demo", "hosts:", "of the domain itself"),
            ("boutique.localhost]", "frontend.pinnacle]", "hosts:", "given twice"),
            ("domain: acme.demo", "domane: acme.demo", "domane: acme.demo", "domane"),
        ] {
            let (found, why) = refused(from, to);
            assert!(found.contains(line) && why.contains(reason), "{to}: `{found}`: {why}");
        }
    }

    #[test]
    fn a_declaration_without_members_is_refused() {
        let text = "apiVersion: meshproof.dev/v1\nkind: GlobalNamespace\nmetadata: {name: a}\nspec:\n  domain: a.b\n  members: []\n";
        let fault = Declaration::parse(text, &CLUSTERS).unwrap_err();
        assert_eq!((fault.line, fault.reason.as_str()), (6, "a global namespace needs a member"));
    }
}
