//! On a live testbed. By name: `cargo test --lib rights::tests::live -- --ignored`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::config::Kubeconfig;
use serde_json::{Value, json};

use super::super::preflight::Missing;
use super::super::*;
use crate::cluster::access::Kubeconfigs;
use crate::cluster::{Cluster, Seen, eventually};
use crate::record::Write;
use crate::report::Claim;
use crate::scope::{Error, Result};
use crate::{Scope, Verdict};

const NAME: &str = "meshproof-rights-test";

/// Time for an API server to notice a changed role.
const NOTICED: Duration = Duration::from_secs(10);

/// A service account that has only what is granted to it, with a client.
struct Account<'a> {
    cluster: &'a Arc<Cluster>,
    places: Places,
    subject: Subject,
    client: kube::Client,
}

impl<'a> Account<'a> {
    async fn new(scope: &Scope, cluster: &'a Arc<Cluster>) -> Result<Self> {
        let namespace = scope.namespace(cluster, "rights", &[]).await?;
        let mut account = json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": NAME, "namespace": namespace },
        });
        scope.apply(cluster, &mut account).await?;
        let accounts = cluster.api::<ServiceAccount>(&namespace);
        let request = TokenRequest { spec: TokenRequestSpec::default(), ..TokenRequest::default() };
        let token = accounts.create_token_request(NAME, &PostParams::default(), &request).await;
        let token = token.map_err(cluster.failed("ask for a token"))?.status.unwrap().token;
        let admin = scope.testbed.directory.join(&cluster.record().kubeconfig);
        let home = tempfile::tempdir().unwrap();
        let file = kubeconfig(&admin, home.path(), token);
        let client = Kubeconfigs::load(&[file]).unwrap().connect(&cluster.record().context).await;
        let client = client.map_err(Error::suite)?;
        let places = Places::of(cluster.record(), &[Write::Namespaces, Write::Objects]);
        let subject = Subject::ServiceAccount { namespace, name: NAME.into() };
        Ok(Self { cluster, places, subject, client })
    }

    fn objects(&self, rules: &[Rule]) -> Vec<Value> {
        serde_saphyr::from_multiple(&to_yaml(rules, &self.places, NAME, &self.subject)).unwrap()
    }

    /// What is missing of `rules`, once the API server has noticed that it is `expected`.
    async fn missing(&self, rules: &[Rule], expected: &[(String, &'static str)]) -> Result<()> {
        let asked = [Asked { cluster: self.cluster.name().into(), client: self.client.clone(), rules: rules.to_vec() }];
        let noticed = eventually(format!("{expected:?} to be missing and nothing else"), NOTICED, async || {
            let found = preflight(&asked).await;
            let of = |missing: &Missing| {
                let name = missing.rule.resource_name();
                missing.verbs.iter().map(|verb| (name.clone(), *verb)).collect::<Vec<_>>()
            };
            let missing: Vec<(String, &str)> = found.missing.iter().flat_map(of).collect();
            let is_it = missing == expected && found.unasked.is_empty();
            Ok::<_, Error>(if is_it { Seen::Yes(()) } else { Seen::NotYet(found.to_string()) })
        });
        Ok(Box::pin(noticed).await?)
    }
}

/// A kubeconfig like the administrator's, with a token in place of the certificate.
fn kubeconfig(admin: &Path, home: &Path, token: String) -> std::path::PathBuf {
    let mut kubeconfig = Kubeconfig::read_from(admin).unwrap();
    for user in kubeconfig.auth_infos.iter_mut().filter_map(|user| user.auth_info.as_mut()) {
        *user = kube::config::AuthInfo { token: Some(token.clone().into()), ..Default::default() };
    }
    let file = home.join("config");
    std::fs::write(&file, serde_saphyr::to_string(&kubeconfig).unwrap()).unwrap();
    file
}

#[tokio::test]
#[ignore = "needs a live testbed"]
async fn the_printed_rights_suffice_and_each_verb_that_is_taken_away_is_named() -> Verdict {
    Scope::alone("rights", "the_printed_rights_suffice", async |scope| {
        let cluster = &scope.testbed.clusters[0];
        let account = Box::pin(Account::new(scope, cluster)).await?;
        let rules = needed(Mode::Suites.tasks(), &account.places);
        let all: Vec<(String, &str)> =
            rules.iter().flat_map(|rule| rule.verbs.iter().map(|verb| (rule.resource_name(), *verb))).collect();
        account.missing(&rules, &all).await?;

        for object in account.objects(&rules) {
            scope.place(cluster, object).await?;
        }
        account.missing(&rules, &[]).await?;
        scope.claim(Claim::about("rights/granted", "the printed rights are all that is asked for").equals(&"", &""));

        for (at, rule) in rules.iter().enumerate() {
            for verb in &rule.verbs {
                let mut fewer = rules.clone();
                fewer[at].verbs.retain(|one| one != verb);
                let roles = |object: &Value| matches!(object["kind"].as_str(), Some("Role" | "ClusterRole"));
                let namespace = |object: &Value| object["metadata"]["namespace"].as_str().map(str::to_owned);
                let place = match &rule.extent {
                    Extent::Cluster => None,
                    Extent::Namespace(name) => Some(name.clone()),
                };
                // A role may be without rules, and a rule may not be without verbs.
                fewer.retain(|rule| !rule.verbs.is_empty());
                let is_it = |object: &&Value| roles(object) && namespace(object) == place;
                let whole = account.objects(&rules).iter().find(is_it).cloned().unwrap();
                let mut less = account.objects(&fewer).iter().find(is_it).cloned().unwrap_or_else(|| {
                    let mut empty = whole.clone();
                    empty["rules"] = json!([]);
                    empty
                });
                scope.apply(cluster, &mut less).await?;
                account.missing(&rules, &[(rule.resource_name(), verb)]).await?;
                scope.apply(cluster, &mut whole.clone()).await?;
            }
        }
        account.missing(&rules, &[]).await?;
        println!("{} verbs were taken away, one at a time", all.len());
        Ok(())
    })
    .await
}
