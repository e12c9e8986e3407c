//! The other clusters of the mesh, as a cluster's istiod sees them.

use std::time::Duration;

use anyhow::{Context, Result};
use kube::Client;
use meshproof::istio::{self, Registered};
use meshproof::{Seen, eventually};
use serde::Serialize;

use super::installed::{ISTIOD, Installed};

/// Time limit for istiod to read the other clusters' services.
const BOUND: Duration = Duration::from_secs(90);

/// Another cluster in an istiod's registry.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Peer {
    pub(super) name: String,
    /// Istio's sync status. `synced` is the healthy one.
    pub(super) status: String,
}

impl Peer {
    pub(super) fn is_synced(&self) -> bool {
        self.status == Registered::SYNCED
    }
}

/// Waits until a cluster's istiod has read the services of each of `peers`.
///
/// # Errors
/// Fails if istiod does not see a peer in time. The error has istiod's status of the peer.
pub(super) async fn synced(client: &Client, cluster: &str, installed: &Installed, peers: &[&str]) -> Result<()> {
    let want = format!("istiod of {cluster} to see {}", peers.join(", "));
    let seen = eventually(want, BOUND, async || -> Result<Seen<()>> {
        let seen = of(client, cluster, installed, peers).await?;
        let missing: Vec<String> = seen
            .iter()
            .filter(|peer| !peer.is_synced())
            .map(|Peer { name, status }| format!("{name} is {status}"))
            .collect();
        match (seen.len() == peers.len(), missing.is_empty()) {
            (true, true) => Ok(Seen::Yes(())),
            (false, _) => Ok(Seen::NotYet("no istiod is ready".into())),
            (true, false) => Ok(Seen::NotYet(missing.join(", "))),
        }
    });
    Ok(seen.await?)
}

/// How a cluster's istiod sees each of `peers`. If there are several istiods, the first ready one is queried.
///
/// # Errors
/// Fails if istiod does not answer.
pub(super) async fn of(client: &Client, cluster: &str, installed: &Installed, peers: &[&str]) -> Result<Vec<Peer>> {
    if peers.is_empty() {
        return Ok(Vec::new());
    }
    let istiods = installed.istiods(client).await?;
    let Some(istiod) = istiods.iter().find(|pod| meshproof::cluster::is_ready(pod)) else {
        // The istiod deployment is already reported as a problem.
        return Ok(Vec::new());
    };
    seen_peers(&ISTIOD.get(client, cluster, istiod, "/debug/clusterz").await?, peers)
}

fn seen_peers(answer: &str, peers: &[&str]) -> Result<Vec<Peer>> {
    let registered =
        istio::registered(answer).with_context(|| format!("istiod's list of clusters is unreadable: {answer}"))?;
    let peer = |name: &&str| {
        let found = registered.iter().find(|registered| registered.id == **name);
        let status = found.map_or_else(|| "no remote secret".to_owned(), |found| found.sync_status.clone());
        Peer { name: (*name).to_owned(), status }
    };
    Ok(peers.iter().map(peer).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_istiod_does_not_list_has_no_remote_secret() {
        let answer = r#"[{"id":"cluster1","secretName":"","syncStatus":"synced"},
                         {"id":"cluster2","secretName":"s","syncStatus":"timeout"}]"#;
        let peers = seen_peers(answer, &["cluster2", "cluster3"]).unwrap();
        assert_eq!(peers[0].status, "timeout");
        assert_eq!(peers[1].status, "no remote secret");
        assert!(seen_peers("oops", &[]).unwrap_err().to_string().contains("oops"));
    }
}
