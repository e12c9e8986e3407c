//! Deploys the boutique on the mesh, in either layout.

use std::collections::BTreeMap;

use anyhow::Result;
use futures::future::try_join_all;
use kube::ResourceExt;

use super::global_namespace::{self, Declaration};
use super::install::{BOUND, Member};
use crate::kubernetes::{self, Kind};
use crate::template;

/// Namespace of the application.
pub(crate) const NAMESPACE: &str = "pinnacle";

/// Kinds of the objects that the layout `istio` writes and `global-namespace` removes: placeholder services and the
/// objects for ingress.
const KINDS: [Kind<'static>; 3] = [
    Kind { version: "v1", name: "Service" },
    Kind { version: "networking.istio.io/v1", name: "Gateway" },
    Kind { version: "networking.istio.io/v1", name: "VirtualService" },
];

/// Objects of the application that are not derived.
const OURS: &str = "app.kubernetes.io/part-of=boutique,!meshproof.dev/global-namespace";

/// A share of the application's workloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Share {
    /// What the frontend and the cart need at once.
    Front,
    /// The other services.
    Back,
}

impl Share {
    /// Prefix of the share's fixtures in `fixtures/boutique/`.
    fn name(self) -> &'static str {
        match self {
            Self::Front => "front",
            Self::Back => "back",
        }
    }
}

/// The member's share: the first declared cluster has the back, and the second has the front, as in the seed.
fn share(member: &Member<'_>) -> Option<Share> {
    let mut shares = member.declaration.clusters.iter().zip([Share::Back, Share::Front]);
    shares.find_map(|(cluster, share)| (cluster.name == member.target.name).then_some(share))
}

/// How the application is spread over the clusters.
pub(crate) enum Spread {
    /// By Kubernetes names. Every cluster has the services of all clusters. A service without local workloads is a
    /// placeholder.
    Services,
    /// By the names of a global namespace. A cluster has its own services only. All other objects are derived.
    GlobalNamespace(Declaration),
}

impl Spread {
    /// The layout's name in the record and on the command line.
    pub(crate) fn layout(&self) -> &'static str {
        match self {
            Self::Services => "istio",
            Self::GlobalNamespace(_) => "global-namespace",
        }
    }

    /// The suffix that workloads of `cluster` append to a service's name.
    fn suffix(&self, cluster: &str) -> String {
        match self {
            Self::GlobalNamespace(declaration) if declaration.has(cluster, NAMESPACE) => {
                format!(".{}", declaration.domain)
            }
            _ => String::new(),
        }
    }
}

/// Deploys the application. If the other layout was deployed before, replaces that layout.
///
/// # Errors
/// Fails if an object cannot be written or a workload does not become available. The error names the object or the
/// workload.
pub(crate) async fn deploy(members: &[Member<'_>], spread: &Spread) -> Result<()> {
    match spread {
        Spread::Services => {
            let deploying = members.iter().map(|member| {
                member.step("boutique", async {
                    services(member, members).await?;
                    if share(member) == Some(Share::Front) && member.declared.ingress.is_some() {
                        apply(member, "boutique/front-ingress.yaml", "").await?;
                    }
                    workloads(member, spread).await
                })
            });
            try_join_all(deploying).await?;
            global_namespace::withdraw(members).await
        }
        Spread::GlobalNamespace(declaration) => {
            // Remove the placeholders first: `converge` assumes that every service in a cluster has workloads there.
            let own = members.iter().map(|member| {
                member.step("services of the boutique", async {
                    let written = services(member, std::slice::from_ref(member)).await?;
                    kubernetes::prune(&member.target.client, &KINDS, OURS, &written).await
                })
            });
            try_join_all(own).await?;
            global_namespace::converge(declaration, members).await?;
            let deploying = members.iter().map(|member| member.step("boutique", workloads(member, spread)));
            try_join_all(deploying).await.map(drop)
        }
    }
}

/// Writes the services of all `homes` into the cluster of `member`.
async fn services(member: &Member<'_>, homes: &[Member<'_>]) -> Result<Vec<kubernetes::Id>> {
    let mut written = Vec::new();
    for share in homes.iter().filter_map(share) {
        written.extend(apply(member, &format!("boutique/{}-services.yaml", share.name()), "").await?);
    }
    Ok(written)
}

/// Writes the cluster's share of the workloads, and waits until they are available.
async fn workloads(member: &Member<'_>, spread: &Spread) -> Result<()> {
    let Some(share) = share(member) else { return Ok(()) };
    let suffix = spread.suffix(&member.target.name);
    apply(member, &format!("boutique/{}.yaml", share.name()), &suffix).await?;
    kubernetes::wait_for_deployments(&member.target.client, NAMESPACE, BOUND).await
}

/// Maps each workload to the cluster where the workload runs.
///
/// # Errors
/// Fails if a fixture cannot be read.
pub(crate) fn places(members: &[Member<'_>]) -> Result<BTreeMap<String, String>> {
    let mut places = BTreeMap::new();
    for member in members {
        let Some(share) = share(member) else { continue };
        let objects = kubernetes::parse(&filled(member, &format!("boutique/{}.yaml", share.name()), "")?)?;
        let workloads =
            objects.iter().filter(|object| object.types.as_ref().is_some_and(|types| types.kind == "Deployment"));
        places.extend(workloads.map(|workload| (workload.name_any(), member.target.name.clone())));
    }
    Ok(places)
}

async fn apply(member: &Member<'_>, fixture: &str, domain: &str) -> Result<Vec<kubernetes::Id>> {
    kubernetes::apply(&member.target.client, &filled(member, fixture, domain)?).await
}

fn filled(member: &Member<'_>, fixture: &str, domain: &str) -> Result<String> {
    let mut values = member.values.clone();
    values.insert("DOMAIN", domain.to_owned());
    template::fixture(fixture, &values)
}
