//! Valid paths, and paths with a single fault.

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa,
    KeyUsagePurpose, NameConstraints, SanType, date_time_ymd,
};

use super::super::Verified;
use super::super::tests::{id, mesh_of, now};
use super::*;
use crate::identity::{Minter, Validity};

type Change = fn(&mut CertificateParams);

/// A root, two levels of CAs, and a leaf, each changed as a test requires.
struct Plan {
    root: Change,
    /// From the root down.
    authorities: Vec<Change>,
    leaf: Change,
    usage: Usage,
}

/// The path of `up`: an unrestricted root, an intermediate that only signs workloads, a leaf for both TLS roles.
fn plan() -> Plan {
    Plan { root: |_| (), authorities: vec![path_length::<0>], leaf: |_| (), usage: Usage::Server }
}

impl Plan {
    /// The judgement on the leaf. Checks that both cases agree: a single leaf whose issuer the record names, and a
    /// complete chain whose issuer the record does not name.
    fn judged(self) -> Result<Verified, Distrust> {
        let mut minters = vec![Minter::authority_with("root", self.root).unwrap()];
        for change in &self.authorities {
            let name = format!("authority {}", minters.len());
            let next = minters[minters.len() - 1].intermediate_with(&name, change).unwrap();
            minters.push(next);
        }
        let (root, signer) = (&minters[0], &minters[minters.len() - 1]);
        let minted = signer.mint_with(&id(), Validity::Now, self.leaf).unwrap();
        let sent = Certificate::all_from_pem("test", &minted.chain_pem).unwrap();
        let (leaf, above) = sent.split_first().unwrap();
        let recorded = &above[..self.authorities.len()];
        let alone = mesh_of(&[root], &[recorded]).verify(leaf, self.usage, now());
        let by_chain = mesh_of(&[root], &[]).verify_sent(&sent, self.usage, now());
        let named = by_chain.map(|verified| Verified { issued_by: vec!["cluster1".into()], ..verified });
        assert_eq!(alone, named);
        alone
    }

    fn fault(self) -> String {
        self.judged().unwrap_err().to_string()
    }
}

fn path_length<const ALLOWED: u8>(params: &mut CertificateParams) {
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(ALLOWED));
}

fn no_authority(params: &mut CertificateParams) {
    params.is_ca = IsCa::NoCa;
}

fn signs_no_certificates(params: &mut CertificateParams) {
    params.key_usages = vec![KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
}

fn expired(params: &mut CertificateParams) {
    params.not_after = date_time_ymd(2001, 2, 3);
}

fn not_yet_valid(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(3001, 2, 3);
}

fn not_for_clients(params: &mut CertificateParams) {
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
}

fn strange(params: &mut CertificateParams) {
    let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], vec![5, 0]);
    extension.set_criticality(true);
    params.custom_extensions.push(extension);
}

fn only_dns_of_the_cluster(params: &mut CertificateParams) {
    let permitted_subtrees = vec![GeneralSubtree::DnsName("cluster.local".into())];
    params.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: vec![] });
}

fn only_uris_of_the_cluster(params: &mut CertificateParams) {
    let host = b"cluster.local";
    // NameConstraints: permittedSubtrees [0] with one GeneralSubtree, whose base is uniformResourceIdentifier [6].
    let mut content = vec![0x30, 19, 0xa0, 17, 0x30, 15, 0x86, 13];
    content.extend(host);
    let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, 30], content);
    extension.set_criticality(true);
    params.custom_extensions.push(extension);
}

fn dns_name(params: &mut CertificateParams, name: &str) {
    params.subject_alt_names.push(SanType::DnsName(name.try_into().unwrap()));
}

#[test]
fn only_an_authority_that_may_sign_certificates_is_one() {
    let refused = |distrust: Distrust, plan: Plan| assert_eq!(plan.judged(), Err(distrust));
    let (one, root) = (|| "CN=authority 1".to_owned(), || "CN=root".to_owned());
    refused(Distrust::NotAnAuthority { owner: one() }, Plan { authorities: vec![no_authority], ..plan() });
    refused(Distrust::NotAnAuthority { owner: root() }, Plan { root: no_authority, ..plan() });
    refused(Distrust::MayNotSign { owner: one() }, Plan { authorities: vec![signs_no_certificates], ..plan() });
    refused(Distrust::MayNotSign { owner: root() }, Plan { root: signs_no_certificates, ..plan() });
    // Without a key usage, everything is permitted.
    let unbounded: Change = |params| params.key_usages = vec![];
    Plan { root: unbounded, authorities: vec![unbounded], ..plan() }.judged().unwrap();
}

#[test]
fn no_more_authorities_stand_on_a_path_than_each_allows() {
    let two =
        |root: Change, upper: Change| Plan { root, authorities: vec![upper, path_length::<0>], ..plan() }.judged();
    two(path_length::<2>, path_length::<1>).unwrap();
    let (one, root) = ("CN=authority 1".to_owned(), "CN=root".to_owned());
    assert_eq!(two(|_| (), path_length::<0>), Err(Distrust::TooLong { owner: one, allowed: 0, found: 1 }));
    let of_root = Distrust::TooLong { owner: root.clone(), allowed: 1, found: 2 };
    assert_eq!(two(path_length::<1>, path_length::<1>), Err(of_root));
    let of_root = Distrust::TooLong { owner: root, allowed: 0, found: 1 };
    assert_eq!(Plan { root: path_length::<0>, ..plan() }.judged(), Err(of_root));
}

#[test]
fn a_path_may_be_of_any_depth_up_to_six_authorities() {
    let unbounded: Change = |_| ();
    let deep = |depth| Plan { authorities: vec![unbounded; depth], ..plan() }.judged();
    for depth in [0, 1, 2, 6] {
        deep(depth).unwrap();
    }
    let too_deep = deep(7).unwrap_err();
    assert!(matches!(too_deep, Distrust::Refused { .. }), "{too_deep}");
}

#[test]
fn every_certificate_of_the_path_is_valid_now() {
    let owners = [id().to_string(), "CN=authority 1".into(), "CN=root".into()];
    let plans = |change: Change| {
        [Plan { leaf: change, ..plan() }, Plan { authorities: vec![change], ..plan() }, Plan { root: change, ..plan() }]
    };
    for (plan, owner) in plans(expired).into_iter().zip(&owners) {
        assert_eq!(plan.fault(), format!("the certificate of `{owner}` expired on Feb  3 00:00:00 2001 +00:00"));
    }
    for (plan, owner) in plans(not_yet_valid).into_iter().zip(&owners) {
        let fault = format!("the certificate of `{owner}` is not valid before Feb  3 00:00:00 3001 +00:00");
        assert_eq!(plan.fault(), fault);
    }
}

#[test]
fn trust_ends_with_the_first_certificate_of_the_path_that_expires() {
    let until = |year| -> SystemTime { date_time_ymd(year, 1, 1).into() };
    let expires = |plan: Plan| plan.judged().unwrap().expires;
    let to_2040: Change = |params| params.not_after = date_time_ymd(2040, 1, 1);
    let to_2050: Change = |params| params.not_after = date_time_ymd(2050, 1, 1);
    let to_2060: Change = |params| params.not_after = date_time_ymd(2060, 1, 1);
    let of = |root, authority, leaf| expires(Plan { root, authorities: vec![authority], leaf, ..plan() });
    assert_eq!(of(to_2060, to_2050, to_2040), until(2040));
    assert_eq!(of(to_2060, to_2040, to_2050), until(2040), "a leaf may outlive its issuer");
    assert_eq!(of(to_2040, to_2050, to_2060), until(2040), "and an issuer its root");
}

#[test]
fn a_certificate_is_good_for_the_usages_that_it_names() {
    let server: Change = not_for_clients;
    let client: Change = |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let neither: [Change; 3] = [
        |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::EmailProtection],
        |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any],
        |params| params.extended_key_usages = vec![],
    ];
    Plan { leaf: server, usage: Usage::Server, ..plan() }.judged().unwrap();
    Plan { leaf: client, usage: Usage::Client, ..plan() }.judged().unwrap();
    let wrong = [(server, Usage::Client), (client, Usage::Server)].into_iter();
    for (leaf, usage) in
        wrong.chain(neither.into_iter().flat_map(|leaf| [(leaf, Usage::Server), (leaf, Usage::Client)]))
    {
        let distrust = Plan { leaf, usage, ..plan() }.judged();
        assert_eq!(distrust, Err(Distrust::WrongUsage { owner: id().to_string(), usage }));
    }
    let fault = Plan { leaf: server, usage: Usage::Client, ..plan() }.fault();
    assert!(fault.ends_with("is not one for a client: its extended key usage lacks clientAuth"), "{fault}");
}

#[test]
fn an_authority_that_names_usages_issues_for_no_other() {
    let bounded = |root: Change, authority: Change, usage| Plan { root, authorities: vec![authority], usage, ..plan() };
    bounded(not_for_clients, not_for_clients, Usage::Server).judged().unwrap();
    let usage = Usage::Client;
    let of = |owner: &str| Err(Distrust::WrongUsage { owner: owner.into(), usage });
    assert_eq!(bounded(|_| (), not_for_clients, usage).judged(), of("CN=authority 1"));
    assert_eq!(bounded(not_for_clients, |_| (), usage).judged(), of("CN=root"));
}

#[test]
fn a_workloads_key_shakes_hands_and_signs_no_certificates() {
    let leaf = |leaf: Change| Plan { leaf, ..plan() }.judged();
    let owner = || id().to_string();
    let authority = Err(Distrust::AuthorityAsWorkload { owner: owner() });
    assert_eq!(leaf(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)), authority);
    assert_eq!(leaf(|params| params.key_usages.push(KeyUsagePurpose::KeyCertSign)), authority);
    assert_eq!(leaf(|params| params.key_usages.push(KeyUsagePurpose::CrlSign)), authority);
    let no_handshake = leaf(|params| params.key_usages = vec![KeyUsagePurpose::KeyEncipherment]);
    assert_eq!(no_handshake, Err(Distrust::MayNotShakeHands { owner: owner() }));
    leaf(|params| params.key_usages = vec![]).unwrap();
    leaf(|params| params.is_ca = IsCa::ExplicitNoCa).unwrap();
}

#[test]
fn a_critical_extension_that_nobody_understands_is_refused() {
    for plan in [
        Plan { leaf: strange, ..plan() },
        Plan { authorities: vec![strange], ..plan() },
        Plan { root: strange, ..plan() },
    ] {
        let fault = plan.fault();
        assert!(fault.contains("UnsupportedCriticalExtension"), "{fault}");
        assert!(fault.contains(&id().to_string()), "{fault}");
    }
}

#[test]
fn a_name_outside_what_an_authority_permits_is_refused() {
    let inside: Change = |params| dns_name(params, "probe.cluster.local");
    let outside: Change = |params| dns_name(params, "probe.example.com");
    let bounded = |root: Change, authority: Change, leaf| Plan { root, authorities: vec![authority], leaf, ..plan() };
    bounded(only_dns_of_the_cluster, only_dns_of_the_cluster, inside).judged().unwrap();
    for plan in [
        bounded(|_| (), only_dns_of_the_cluster, outside),
        bounded(only_dns_of_the_cluster, |_| (), outside),
        // webpki cannot compare URIs, and refuses even a permitted SPIFFE ID.
        bounded(|_| (), only_uris_of_the_cluster, |_| ()),
        bounded(only_uris_of_the_cluster, |_| (), |_| ()),
    ] {
        let fault = plan.fault();
        assert!(fault.contains("NameConstraintViolation"), "{fault}");
    }
}
