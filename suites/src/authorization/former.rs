//! Clients that prove an identity of the mesh's former trust domain.

use futures::future::try_join_all;
use meshproof::identity::Validity;
use meshproof::policy::authorization::Policy;
use meshproof::record::{self, Requirement};
use meshproof::suites::intermediate_of;
use meshproof::{Error, Result, Scope, Verdict, probe};
use serde_json::json;

use super::SUITE;
use super::arena::{REQUIRED, Server, Setup, servers};
use super::peers::{Case, judge_peers};

const REQUIREMENT: &str = "a principal of the mesh is the same under each name of its trust domain";

/// Path for which a policy names the client by the trust domain, and one for which it names it by the alias.
const BY_NAME: &str = "/status/251";
const BY_ALIAS: &str = "/status/252";

/// Path that the client may not have, under either name.
const DENIED: &str = "/status/253";

/// Path that the client has unless the policy takes it for somebody else.
const DENIED_TO_OTHERS: &str = "/status/254";

fn policies(namespace: &str, rest: &str, domain: &str, alias: &str) -> Result<Vec<Policy>> {
    let policy = |name: &str, action: &str, field: &str, domain: &str, path: &str| {
        let principals = [format!("{domain}/{rest}")];
        let spec = json!({
            "action": action,
            "rules": [{ "from": [{ "source": { field: principals } }], "to": [{ "operation": { "paths": [path] } }] }],
        });
        Policy::parse(namespace, name, spec).map_err(Error::suite)
    };
    let open = json!({ "rules": [{ "to": [{ "operation": { "paths": [DENIED, DENIED_TO_OTHERS] } }] }] });
    Ok(vec![
        policy("by-name", "ALLOW", "principals", domain, BY_NAME)?,
        policy("by-alias", "ALLOW", "principals", alias, BY_ALIAS)?,
        policy("denied", "DENY", "principals", domain, DENIED)?,
        policy("denied-to-others", "DENY", "notPrincipals", domain, DENIED_TO_OTHERS)?,
        Policy::parse(namespace, "open", open).map_err(Error::suite)?,
    ])
}

/// Policies that name a client by the mesh's trust domain or by an alias decide alike about certificates of both. What is
/// denied under one name is denied under the other, so a client cannot choose its name (istio/istio#30349).
///
/// Red if the mesh configuration lacks the alias: the client's certificate is refused. Red if the policy `by-alias` is
/// missing in the mesh.
async fn a_principal_is_the_same_under_each_name_of_the_trust_domain() -> Verdict {
    Scope::run(SUITE, "a_principal_is_the_same_under_each_name_of_the_trust_domain", async |scope| {
        scope.requires(REQUIRED)?;
        scope.requires([Requirement::SigningKeys])?;
        let trust = &scope.testbed.record.mesh.trust;
        let Some(alias) = trust.aliases.first() else {
            return Err(record::Error::not_declared("an alias of the trust domain").into());
        };
        let caller = probe::caller(&scope.testbed.clusters[0]).await?;
        let rest = format!("ns/{}/sa/{}", caller.namespace, caller.service_account);
        let made = servers(scope, "former", &[], |_, namespace| {
            Ok(Setup::new(policies(namespace, &rest, &trust.name, alias)?))
        })
        .await?;
        try_join_all(made.iter().map(|server| at_server(scope, server, &caller, alias))).await.map(drop)
    })
    .await
}

async fn at_server(scope: &Scope, server: &Server, caller: &meshproof::Workload, alias: &str) -> Result<()> {
    let testbed = &scope.testbed;
    let signer = intermediate_of(testbed, server.workload.cluster.name())?;
    let today = caller.spiffe_id(testbed.trust.domain());
    let former = today.in_trust_domain(alias);
    let (by_today, by_former) = (signer.mint(&today, Validity::Now)?, signer.mint(&former, Validity::Now)?);
    let case = |name, peer, certificate, path| Case { name, peer: Some(peer), certificate, path };
    let of_path = |path| [case("former", &former, &by_former, path), case("today", &today, &by_today, path)];
    // The last one is allowed: the control.
    let cases: Vec<Case<'_>> = [DENIED, DENIED_TO_OTHERS, BY_ALIAS, BY_NAME].into_iter().flat_map(of_path).collect();
    let claims = judge_peers(server, &format!("{SUITE}/former"), REQUIREMENT, &cases).await?;
    claims.into_iter().for_each(|claim| scope.claim(claim));
    Ok(())
}

crate::trials! {
    a_principal_is_the_same_under_each_name_of_the_trust_domain,
}
