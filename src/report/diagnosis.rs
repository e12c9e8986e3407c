//! Why claims do not hold: one cause, and the claims that it explains.

use std::fmt::{self, Write};

use serde::{Deserialize, Serialize};

use super::Claim;

/// A layer of a call, in the order in which a diagnosis walks them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Layer {
    /// The name resolves at the caller.
    Dns,
    /// The Service is there, with the port and its protocol.
    Service,
    /// The Service has ready endpoints.
    Endpoints,
    /// The caller's istiod tells the caller's proxy of the Service.
    Visibility,
    /// The caller's istiod reads the other cluster.
    RemoteSecret,
    /// The caller's proxy speaks mutual TLS to the Service.
    ClientTls,
    /// The caller's proxy knows the way into the other network.
    Network,
    /// A gateway of the other network runs.
    Gateway,
    /// The gateway listens.
    GatewayListener,
    /// The gateway routes the server name.
    Sni,
    /// Both ends have a proxy, and the proxy captures the port.
    Sidecar,
    /// Each end has a valid certificate, and trusts the mesh's roots.
    Certificate,
    /// The destination takes mutual TLS, and nothing else.
    PeerAuthentication,
    /// The destination authorizes the caller.
    Authorization,
    /// The application runs and listens.
    Application,
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dns => "DNS",
            Self::Service => "service",
            Self::Endpoints => "endpoints",
            Self::Visibility => "visibility",
            Self::RemoteSecret => "remote secret",
            Self::ClientTls => "client TLS",
            Self::Network => "network",
            Self::Gateway => "gateway",
            Self::GatewayListener => "gateway listener",
            Self::Sni => "SNI",
            Self::Sidecar => "sidecar",
            Self::Certificate => "certificate",
            Self::PeerAuthentication => "peer authentication",
            Self::Authorization => "authorization",
            Self::Application => "application",
        })
    }
}

/// The first thing that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cause {
    /// The layer.
    pub layer: Layer,
    /// The cluster of the object.
    pub cluster: String,
    /// The object to blame: kind, namespace and name.
    pub object: String,
    /// What is wrong with it, as a sentence.
    pub finding: String,
    /// A command that shows it, for the current testbed.
    pub command: String,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({} in {})", self.layer, self.finding, self.object, self.cluster)
    }
}

/// A cause, and the claims that it explains.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// The cause.
    #[serde(flatten)]
    pub cause: Cause,
    /// The ids of the claims.
    pub claims: Vec<String>,
}

impl Diagnosis {
    /// Whether this cause explains the claim.
    pub fn explains(&self, claim: &Claim) -> bool {
        self.claims.iter().any(|id| id == claim.id())
    }

    /// Whether both have the same cause. A finding may tell of a moment, so it does not count.
    pub fn is_same_as(&self, other: &Self) -> bool {
        let key = |one: &Self| (one.cause.layer, one.cause.cluster.clone(), one.cause.object.clone());
        key(self) == key(other)
    }
}

/// Adds `new` diagnoses to those that are `known`: each cause once.
pub(super) fn merge(known: &mut Vec<Diagnosis>, new: Vec<Diagnosis>) {
    for diagnosis in new {
        match known.iter_mut().find(|one| one.is_same_as(&diagnosis)) {
            Some(same) => same.claims.extend(diagnosis.claims),
            None => known.push(diagnosis),
        }
    }
    for diagnosis in &mut *known {
        diagnosis.claims.sort();
        diagnosis.claims.dedup();
    }
    known.sort_by(|one, other| one.cause.cmp(&other.cause));
}

/// Claims that do not hold, as text for people: by cause, each cause once, then the claims that no cause explains. A cause
/// that `told_by` knows stands in one line, with the test that has told it in full.
pub fn grouped(
    claims: &[&Claim],
    diagnoses: &[Diagnosis],
    told_by: impl Fn(&Diagnosis) -> Option<String>,
) -> Vec<String> {
    let group = |diagnosis: &Diagnosis| group(claims, diagnosis, told_by(diagnosis));
    let mut texts: Vec<String> = diagnoses.iter().filter_map(group).collect();
    let mut rest: Vec<&Claim> = claims.iter().copied().filter(|claim| !explained(claim, diagnoses)).collect();
    while let Some(first) = rest.first().copied() {
        let same = |claim: &&Claim| claim.verdict() == first.verdict() && claim.observed() == first.observed();
        // Claims that could not be judged for one reason: the reason stands once.
        let is_group =
            first.verdict() == super::Judgement::Error && rest.iter().filter(|claim| same(claim)).count() > 1;
        let mut text = first.to_string();
        let others: Vec<&Claim> =
            if is_group { rest.extract_if(1.., |claim| same(claim)).collect() } else { Vec::new() };
        for other in others {
            let _ = writeln!(text, "  as well  {}", other.id());
        }
        rest.remove(0);
        texts.push(text);
    }
    texts
}

fn explained(claim: &Claim, diagnoses: &[Diagnosis]) -> bool {
    diagnoses.iter().any(|diagnosis| diagnosis.explains(claim))
}

fn group(claims: &[&Claim], diagnosis: &Diagnosis, told_by: Option<String>) -> Option<String> {
    let of_cause: Vec<&&Claim> = claims.iter().filter(|claim| diagnosis.explains(claim)).collect();
    let (first, others) = of_cause.split_first()?;
    let Cause { layer, cluster, object, finding, command } = &diagnosis.cause;
    if let Some(test) = told_by {
        let mut text =
            format!("cause     {object} in {cluster}: as told by {test}\n  explains  {}:\n", counted(of_cause.len()));
        for claim in of_cause {
            let _ = writeln!(text, "    {}: {}", claim.id(), claim.observed());
        }
        return Some(text);
    }
    let mut text = format!("cause     {finding}\n  layer     {layer}\n  object    {object} in {cluster}\n");
    let _ = writeln!(text, "  shown by  {command}");
    let _ = writeln!(text, "  explains  {}, for example:", counted(of_cause.len()));
    for line in first.to_string().lines() {
        let _ = writeln!(text, "    {line}");
    }
    for claim in others {
        let _ = writeln!(text, "    {}: {}", claim.id(), claim.observed());
    }
    Some(text)
}

fn counted(number: usize) -> String {
    if number == 1 { "1 claim".into() } else { format!("{number} claims") }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::report::Judgement;

    pub(crate) fn cause(layer: Layer, object: &str) -> Cause {
        Cause {
            layer,
            cluster: "cluster1".into(),
            object: object.into(),
            finding: "cluster1 has no remote secret of cluster2".into(),
            command: "kubectl -n istio-system get secrets".into(),
        }
    }

    fn claim(id: &str) -> Claim {
        Claim::about(id, "calls are answered").equals(&Judgement::Pass, &Judgement::Fail)
    }

    #[test]
    fn a_cause_stands_once_over_all_claims_that_it_explains() {
        let claims = ["a", "b", "c"].map(claim);
        let claims: Vec<&Claim> = claims.iter().collect();
        let cause = cause(Layer::RemoteSecret, "Secret istio-system/istio-remote-secret-cluster2");
        let diagnoses = [Diagnosis { cause, claims: vec!["a".into(), "c".into()] }];
        let again = grouped(&claims, &diagnoses, |_| Some("another test".into()));
        assert!(
            again[0].contains("as told by another test") && !again[0].contains("has no remote secret"),
            "{again:#?}"
        );
        let texts = grouped(&claims, &diagnoses, |_| None);
        assert_eq!(texts.len(), 2, "{texts:#?}");
        assert_eq!(texts.concat().matches("has no remote secret").count(), 1);
        assert!(texts[0].contains("explains  2 claims") && texts[0].contains("c: Fail"), "{}", texts[0]);
        assert!(texts[1].starts_with("claim b does not hold"), "{}", texts[1]);
    }

    #[test]
    fn a_reason_for_which_nothing_was_judged_stands_once() {
        let claims = ["a", "b"].map(|id| Claim::error(id, "istiod does not answer"));
        let texts = grouped(&claims.iter().collect::<Vec<_>>(), &[], |_| None);
        assert_eq!(texts.len(), 1);
        assert_eq!(texts[0].matches("istiod does not answer").count(), 1);
        assert!(texts[0].contains("as well  b"), "{}", texts[0]);
    }

    #[test]
    fn causes_of_one_run_are_merged_by_layer_and_object() {
        let diagnosis = |object: &str, claims: &[&str]| Diagnosis {
            cause: cause(Layer::Gateway, object),
            claims: claims.iter().map(ToString::to_string).collect(),
        };
        let mut known = vec![diagnosis("Deployment a/b", &["y"])];
        let mut later = diagnosis("Deployment a/b", &["x", "y"]);
        later.cause.finding = "worded later".into();
        merge(&mut known, vec![later, diagnosis("Deployment a/a", &["z"])]);
        assert_eq!(known, [diagnosis("Deployment a/a", &["z"]), diagnosis("Deployment a/b", &["x", "y"])]);
    }

    #[test]
    fn a_diagnosis_is_one_flat_object_in_the_record() {
        let diagnosis = Diagnosis { cause: cause(Layer::PeerAuthentication, "o"), claims: vec!["a".into()] };
        let json = serde_json::to_value(&diagnosis).unwrap();
        assert_eq!((&json["layer"], &json["claims"][0]), (&"peer-authentication".into(), &"a".into()));
        assert_eq!(serde_json::from_value::<Diagnosis>(json).unwrap(), diagnosis);
    }
}
