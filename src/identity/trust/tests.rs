//! Trust by the issuers in the record, and by chains that peers send.

use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, KeyUsagePurpose, SanType, date_time_ymd};

use super::*;
use crate::identity::{Minter, Validity};
use crate::record::Issuer;

pub(super) fn id() -> SpiffeId {
    SpiffeId::workload("cluster.local", "pinnacle", "probe")
}

pub(super) fn now() -> SystemTime {
    SystemTime::now()
}

/// The certificates of a minter's chain, the minter's own first.
fn chain_of(minter: &Minter) -> Vec<Certificate> {
    Certificate::all_from_pem("test", minter.chain_pem()).unwrap()
}

/// A mesh with these roots. The chains are the issuers of cluster1, cluster2 and so on.
pub(super) fn mesh_of(roots: &[&Minter], chains: &[&[Certificate]]) -> Trust {
    let roots = roots.iter().map(|root| chain_of(root).swap_remove(0)).collect();
    let issuers = chains
        .iter()
        .zip(1..)
        .map(|(chain, number)| ClusterIssuers { cluster: format!("cluster{number}"), chains: vec![chain.to_vec()] });
    Trust::new("cluster.local".into(), vec!["old.local".into()], roots, issuers.collect()).unwrap()
}

/// A mesh of two clusters, and minters for their intermediates.
pub(crate) fn mesh() -> (Trust, [Minter; 2]) {
    let root = Minter::authority("root").unwrap();
    let clusters = ["cluster1", "cluster2"].map(|name| root.intermediate(name).unwrap());
    let chains = clusters.each_ref().map(|minter| vec![chain_of(minter).swap_remove(0)]);
    (mesh_of(&[&root], &chains.each_ref().map(Vec::as_slice)), clusters)
}

/// A leaf and the CAs above it, including the root, as sent by a peer.
fn chain(minter: &Minter, validity: Validity) -> Vec<Certificate> {
    Certificate::all_from_pem("test", &minter.mint(&id(), validity).unwrap().chain_pem).unwrap()
}

#[test]
fn a_certificate_is_traced_to_the_cluster_that_issued_it() {
    let (trust, clusters) = mesh();
    for (name, minter) in ["cluster1", "cluster2"].iter().zip(&clusters) {
        let chain = chain(minter, Validity::Now);
        for usage in [Usage::Server, Usage::Client] {
            let verified = trust.verify_sent(&chain, usage, now()).unwrap();
            let expires = chain[0].validity().unwrap().until;
            assert_eq!(verified, Verified { id: id(), issued_by: vec![(*name).into()], expires });
            assert_eq!(trust.verify(&chain[0], usage, now()).unwrap(), verified, "the leaf alone is enough");
        }
    }
}

#[test]
fn a_foreign_and_a_forged_issuer_are_unknown() {
    let (trust, [one, _]) = mesh();
    let foreign = Minter::authority("root").unwrap().intermediate("cluster1").unwrap();
    for minter in [foreign, one.forged().unwrap()] {
        let distrust = trust.verify(&chain(&minter, Validity::Now)[0], Usage::Server, now()).unwrap_err();
        assert!(matches!(distrust, Distrust::UnknownIssuer { .. }), "{distrust}");
        assert!(distrust.to_string().contains("spiffe://cluster.local/ns/pinnacle/sa/probe"), "{distrust}");
    }
}

#[test]
fn a_chain_that_was_sent_must_end_in_a_root_of_the_mesh() {
    let (trust, [one, _]) = mesh();
    let foreign = Minter::authority("root").unwrap().intermediate("cluster1").unwrap();
    let distrust = trust.verify_sent(&chain(&foreign, Validity::Now), Usage::Server, now()).unwrap_err();
    let last = "CN=root".into();
    assert_eq!(distrust, Distrust::UnknownRoot { owner: id().to_string(), last });
    // A peer must send its intermediate, even if the record names the intermediate.
    let alone = trust.verify_sent(&chain(&one, Validity::Now)[..1], Usage::Server, now()).unwrap_err();
    assert!(matches!(alone, Distrust::UnknownIssuer { .. }), "{alone}");
}

#[test]
fn time_is_judged_at_the_time_given() {
    let (trust, [one, _]) = mesh();
    let expired = trust.verify(&chain(&one, Validity::Expired)[0], Usage::Server, now()).unwrap_err();
    assert!(matches!(expired, Distrust::Expired { .. }), "{expired}");
    let valid = &chain(&one, Validity::Now)[0];
    let century = Duration::from_secs(100 * 365 * 86_400);
    let later = trust.verify(valid, Usage::Server, now() + century);
    assert!(matches!(later, Err(Distrust::Expired { .. })));
    let earlier = trust.verify(valid, Usage::Server, SystemTime::UNIX_EPOCH);
    assert!(matches!(earlier, Err(Distrust::NotYetValid { .. })));
}

#[test]
fn a_chain_in_the_wrong_order_or_of_two_clusters_is_broken() {
    let (trust, [one, two]) = mesh();
    let mixed = [chain(&one, Validity::Now)[0].clone(), chain(&two, Validity::Now)[1].clone()];
    let distrust = trust.verify_sent(&mixed, Usage::Server, now()).unwrap_err();
    assert!(matches!(distrust, Distrust::BrokenChain { .. }), "{distrust}");
    let mut reversed = chain(&one, Validity::Now);
    reversed.reverse();
    trust.verify_sent(&reversed, Usage::Server, now()).unwrap_err();
    trust.verify_sent(&[], Usage::Server, now()).unwrap_err();
}

#[test]
fn a_workload_cannot_vouch_for_another() {
    let (trust, [one, _]) = mesh();
    let like_a_leaf = |params: &mut CertificateParams| {
        params.is_ca = IsCa::NoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.subject_alt_names = vec![SanType::URI("spiffe://cluster.local/ns/a/sa/b".try_into().unwrap())];
    };
    let workload = one.intermediate_with("workload", like_a_leaf).unwrap();
    let sent = chain(&workload, Validity::Now);
    let distrust = trust.verify_sent(&sent, Usage::Client, now()).unwrap_err();
    assert_eq!(distrust, Distrust::NotAnAuthority { owner: "spiffe://cluster.local/ns/a/sa/b".into() });
}

#[test]
fn a_root_may_be_sent_along_once_or_twice() {
    // The root must not count as a CA below itself: it would exceed the path length.
    let bounded = |params: &mut CertificateParams| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    let root = Minter::authority_with("root", bounded).unwrap();
    let sent = chain(&root.intermediate("cluster1").unwrap(), Validity::Now);
    let root = sent[2].clone();
    let trust = Trust::new("cluster.local".into(), vec![], vec![root.clone()], vec![]).unwrap();
    for chain in [sent[..2].to_vec(), sent.clone(), [sent.clone(), vec![root.clone()]].concat()] {
        let verified = trust.verify_sent(&chain, Usage::Client, now()).unwrap();
        assert_eq!(verified.issued_by, Vec::<String>::new());
        assert_eq!(verified.to_string(), format!("{} (the record does not name its issuer)", id()));
    }
    // A certificate after the root must have signed the root.
    let foreign = chain_of(&Minter::authority("root").unwrap());
    trust.verify_sent(&[sent, foreign].concat(), Usage::Client, now()).unwrap_err();
    trust.verify_sent(&[root.clone(), root], Usage::Client, now()).unwrap_err();
}

#[test]
fn a_chain_in_the_record_holds_together() {
    let root = Minter::authority("root").unwrap();
    let upper = root.intermediate("upper").unwrap();
    let lower = chain_of(&upper.intermediate("lower").unwrap()).swap_remove(0);
    let issuer = root.intermediate("issuer").unwrap();
    let leaf = &chain(&issuer, Validity::Now)[0];
    let issuer = chain_of(&issuer).swap_remove(0);
    let fault = |chain: &[Certificate]| mesh_of(&[&root], &[chain]).verify(leaf, Usage::Server, now()).unwrap_err();
    let upper = chain_of(&upper).swap_remove(0);
    let broken = Distrust::BrokenChain { owner: "CN=issuer".into(), authority: "CN=upper".into() };
    assert_eq!(fault(&[issuer.clone(), upper]), broken);
    assert_eq!(fault(&[issuer, lower]), Distrust::UnknownRoot { owner: id().to_string(), last: "CN=lower".into() });
}

#[test]
fn every_root_of_the_mesh_is_trusted() {
    let roots = ["first", "second"].map(|name| Minter::authority(name).unwrap());
    let issuers = roots.each_ref().map(|root| root.intermediate("issuer").unwrap());
    let chains = issuers.each_ref().map(|issuer| vec![chain_of(issuer).swap_remove(0)]);
    let trust = mesh_of(&[&roots[0], &roots[1]], &[&chains[0], &chains[1]]);
    for (issuer, cluster) in issuers.iter().zip(["cluster1", "cluster2"]) {
        let sent = chain(issuer, Validity::Now);
        assert_eq!(trust.verify(&sent[0], Usage::Server, now()).unwrap().issued_by, [cluster]);
        assert_eq!(trust.verify_sent(&sent, Usage::Server, now()).unwrap().issued_by, [cluster]);
    }
}

#[test]
fn a_renewed_root_takes_over_from_the_one_that_expired() {
    let key = KeyPair::generate().unwrap();
    let mut old = None;
    Minter::authority_with("root", |params| old = Some(params.clone())).unwrap();
    let new = old.clone().unwrap();
    let mut old = old.unwrap();
    old.not_after = date_time_ymd(2001, 2, 3);
    let [old, new] = [old, new].map(|params| params.self_signed(&key).unwrap().pem());
    let signer = Minter::from_pem("root", old.clone(), &key.serialize_pem(), old.clone()).unwrap();
    let sent = chain(&signer.intermediate("cluster1").unwrap(), Validity::Now);
    let trust = |roots: &[&String]| {
        let roots = roots.iter().map(|root| Certificate::from_pem("root", root).unwrap()).collect();
        Trust::new("cluster.local".into(), vec![], roots, vec![]).unwrap()
    };
    trust(&[&old, &new]).verify_sent(&sent, Usage::Server, now()).unwrap();
    trust(&[&new]).verify_sent(&sent[..2], Usage::Server, now()).unwrap();
    let distrust = trust(&[&old]).verify_sent(&sent, Usage::Server, now()).unwrap_err();
    assert!(matches!(distrust, Distrust::Expired { .. }), "{distrust}");
}

#[test]
fn a_root_that_issues_to_workloads_is_the_issuer_of_the_clusters_that_say_so() {
    let roots = ["first", "second"].map(|name| Minter::authority(name).unwrap());
    let [first, second] = roots.each_ref().map(chain_of);
    let leaf = &chain(&roots[1], Validity::Now)[0];
    let issued_by = |chains: &[&[Certificate]]| {
        mesh_of(&[&roots[0], &roots[1]], chains).verify(leaf, Usage::Server, now()).unwrap().issued_by
    };
    assert_eq!(issued_by(&[&first, &second]), ["cluster2"], "each cluster has a root of its own");
    assert_eq!(issued_by(&[&[], &[]]), ["cluster1", "cluster2"], "any root issues in both");
    assert!(issued_by(&[]).is_empty());
}

#[test]
fn clusters_may_share_an_issuer() {
    let root = Minter::authority("root").unwrap();
    let issuer = root.intermediate("issuer").unwrap();
    let shared = &chain_of(&issuer)[..1];
    let trust = mesh_of(&[&root], &[shared, shared]);
    let verified = trust.verify(&chain(&issuer, Validity::Now)[0], Usage::Server, now()).unwrap();
    assert_eq!(verified.to_string(), format!("{} (issued by cluster1 and cluster2)", id()));
    assert!(trust.names_issuer_of("cluster2") && !trust.names_issuer_of("cluster3"));
}

#[test]
fn an_alias_of_the_trust_domain_is_taken_exactly() {
    let (trust, _) = mesh();
    for (domain, is_own) in
        [("cluster.local", true), ("old.local", true), ("OLD.local", false), ("x.old.local", false), ("", false)]
    {
        assert_eq!(trust.is_own_domain(domain), is_own, "{domain}");
    }
}

#[test]
fn a_record_gives_all_roots_aliases_and_issuers() {
    let roots = ["first", "second"].map(|name| Minter::authority(name).unwrap());
    let issuer = roots[1].intermediate("upper").unwrap().intermediate("issuer").unwrap();
    let above: Vec<String> =
        issuer.chain_pem().split_inclusive("-----END CERTIFICATE-----\n").map(Into::into).collect();
    let clusters = ["cluster1", "cluster2"].map(crate::record::tests::cluster);
    let mut record = crate::record::tests::record(clusters.into());
    let roots = roots.iter().map(|root| root.chain_pem().to_owned()).collect();
    record.mesh.trust = TrustDomain { name: "cluster.local".into(), aliases: vec!["old.local".into()], roots };
    record.clusters[0].issuers = vec![Issuer { certificates: above[..2].to_vec(), key: None, parent_key: None }];
    record.clusters[1].issuers = vec![];
    let trust = Trust::of(&record).unwrap();
    let verified = trust.verify(&chain(&issuer, Validity::Now)[0], Usage::Server, now()).unwrap();
    assert_eq!(verified.issued_by, ["cluster1"]);
    assert!(trust.names_issuer_of("cluster1") && !trust.names_issuer_of("cluster2"));
    assert!(trust.is_own_domain("cluster.local") && trust.is_own_domain("old.local"));
    assert_eq!(trust.roots().len(), 2);

    record.clusters[0].issuers[0].certificates[1] = "pem".into();
    let error = Trust::of(&record).unwrap_err().to_string();
    assert!(error.starts_with("the record's issuers of cluster1: "), "{error}");
}

#[test]
fn a_mesh_without_a_root_is_refused() {
    let error = Trust::new("cluster.local".into(), vec![], vec![], vec![]).unwrap_err();
    assert!(error.to_string().contains("it has no root certificate"), "{error}");
}

#[test]
fn after_a_root_only_other_roots_of_the_mesh_may_follow() {
    let roots = ["root-east", "root-west", "stranger"].map(|name| Minter::authority(name).unwrap());
    let [east, west, stranger] = &roots;
    let issuer = east.intermediate("cluster1").unwrap();
    let trust = mesh_of(&[east, west], &[&[chain_of(&issuer).swap_remove(0)]]);
    let root_of = |minter: &Minter| chain_of(minter).swap_remove(0);
    let with = |roots: &[&Minter]| {
        let mut sent = chain(&issuer, Validity::Now);
        sent.retain(|certificate| *certificate != root_of(east));
        sent.extend(roots.iter().map(|root| root_of(root)));
        trust.verify_sent(&sent, Usage::Server, now())
    };
    assert_eq!(with(&[east, west]).unwrap().issued_by, ["cluster1"]);
    assert!(matches!(with(&[east, stranger]), Err(Distrust::BrokenChain { .. })));
    assert!(matches!(with(&[west, east]), Err(Distrust::BrokenChain { .. })), "another root is no issuer");
}
