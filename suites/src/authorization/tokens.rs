//! Tokens: `RequestAuthentication` with issuers of the suite's own.

use std::time::Duration;

use futures::future::try_join_all;
use meshproof::{Error, Result, Scope, Seen, Verdict, cluster, eventually};
use serde_json::{Value, json};

use super::SUITE;
use super::arena::{Caller, REQUIRED, Server, Setup, servers};
use super::issuer::{AUDIENCE, Issuer, When};
use super::judge::{Spoken, claim_all, judge};
use super::rows::{Ask, Cell, Presented, Row, cells, from, policies, row, when};

/// Longest wait for a proxy to receive other keys and to drain older connections.
const ROTATED: Duration = Duration::from_secs(75);

/// Name of the `RequestAuthentication`.
const TOKENS: &str = "tokens";

/// The issuers of the tokens.
struct Issuers {
    one: Issuer,
    other: Issuer,
    /// Names itself like `one`, with a key of its own under the same id.
    forger: Issuer,
    /// Not configured.
    stranger: Issuer,
}

impl Issuers {
    fn new() -> Result<Self> {
        Ok(Self {
            one: Issuer::new("one.meshproof.test", "first")?,
            other: Issuer::new("other.meshproof.test", "only")?,
            forger: Issuer::new("one.meshproof.test", "first")?,
            stranger: Issuer::new("stranger.meshproof.test", "first")?,
        })
    }

    /// The servers' `RequestAuthentication`, with these keys of `one`.
    fn authentication(&self, namespace: &str, keys_of_one: &str) -> Value {
        let rule = |issuer: &Issuer, keys: &str| {
            json!({
                "issuer": issuer.name, "audiences": [AUDIENCE], "jwks": keys, "forwardOriginalToken": true,
            })
        };
        json!({
            "apiVersion": "security.istio.io/v1", "kind": "RequestAuthentication",
            "metadata": { "name": TOKENS, "namespace": namespace },
            "spec": { "jwtRules": [rule(&self.one, keys_of_one), rule(&self.other, &self.other.key_set())] },
        })
    }

    /// A request with each kind of token.
    fn asks(&self) -> Result<Vec<Ask>> {
        let Self { one, other, forger, stranger } = self;
        let ask = |name: &str| Ask::get(name, "");
        let valid = |name: &str, issuer: &Issuer, subject: &str, claims: Value| {
            let token = issuer.token(subject, When::Now, claims.clone())?;
            Ok::<_, Error>(ask(name).with_token(&token, Presented::Valid(issuer.seen(subject, claims))))
        };
        let refused = |name: &str, token: String, status| ask(name).with_token(&token, Presented::Refused(status));
        let staff = json!({ "groups": ["staff", "buyers"], "org": { "unit": "ads" }, "azp": "portal" });
        let (unauthorized, forbidden) = (401, 403);
        let good = one.token("ann", When::Now, json!({}))?;
        let cut = good.rsplit_once('.').map(|(signed, _)| format!("{signed}.AAAA")).unwrap_or_default();
        Ok(vec![
            ask("none"),
            valid("ann", one, "ann", json!({}))?,
            valid("bob", one, "bob", json!({}))?,
            valid("staff", one, "ann", staff)?,
            valid("other-issuer", other, "ann", json!({}))?,
            refused("expired", one.token("ann", When::Expired, json!({}))?, unauthorized),
            refused("not-yet", one.token("ann", When::Later, json!({}))?, unauthorized),
            refused("wrong-audience", one.token("ann", When::Now, json!({ "aud": "ads" }))?, forbidden),
            refused("wrong-key", forger.token("ann", When::Now, json!({}))?, unauthorized),
            refused("unknown-key-id", one.token_as("unknown", "ann", When::Now, json!({}))?, unauthorized),
            refused("unknown-issuer", stranger.token("ann", When::Now, json!({}))?, unauthorized),
            refused("key-of-another-issuer", other.token("ann", When::Now, json!({ "iss": one.name }))?, unauthorized),
            refused("unsigned", one.unsigned("ann"), unauthorized),
            refused("signed-with-public-key", one.signed_with_public_key("ann")?, unauthorized),
            refused("cut", cut, unauthorized),
            refused("garbage", "garbage".into(), unauthorized),
        ])
    }
}

/// Rows about the token. The last is open to everyone: a bad token is refused there too.
fn rows(asks: &[Ask]) -> Vec<Row> {
    let claim = |name: &str, value: &str| json!({ "key": format!("request.auth.claims{name}"), "values": [value] });
    let auth = |name: &str, value: &str| json!({ "key": format!("request.auth.{name}"), "values": [value] });
    let open = "every token decides by itself here";
    let rows = [
        from("token-any", "ALLOW", json!({ "requestPrincipals": ["*"] })),
        from("token-none-denied", "DENY", json!({ "notRequestPrincipals": ["*"] })),
        from("token-subject", "ALLOW", json!({ "requestPrincipals": ["one.meshproof.test/ann"] })),
        from("token-issuer", "ALLOW", json!({ "requestPrincipals": ["other.meshproof.test/*"] })),
        from("token-subject-suffix", "DENY", json!({ "requestPrincipals": ["*/bob"] })),
        when("token-claim", "ALLOW", claim("[groups]", "staff")),
        when("token-nested-claim", "ALLOW", claim("[org][unit]", "ads")),
        when("token-audience", "ALLOW", auth("audiences", AUDIENCE)),
        when("token-presenter", "ALLOW", auth("presenter", "portal")),
        when("token-principal", "DENY", auth("principal", "one.meshproof.test/bob")),
        row("token-open", "DENY", json!({ "from": [{ "source": { "namespaces": ["no-such-namespace"] } }] }))
            .one_sided(open),
    ];
    rows.map(|row| row.asking(asks.to_vec())).into()
}

/// CVE-2020-8595: the exact path of a policy, with something behind it that is no part of the path.
fn behind_the_path(cells: &[Cell]) -> Vec<Cell> {
    let of = |row: &str| cells.iter().find(|cell| cell.row == row && cell.ask.presented == Presented::Nothing);
    let Some(cell) = of("token-none-denied") else { return Vec::new() };
    let with = |name: &str, end: &str| {
        let path = format!("{}{end}", cell.ask.path);
        Cell { row: cell.row, ask: Ask { name: name.into(), path, ..cell.ask.clone() } }
    };
    vec![with("query-behind-the-path", "?a=b"), with("fragment-behind-the-path", "#a")]
}

/// A bad token is refused by the server's proxy before any policy is asked; a good one decides by its claims. From callers
/// in the same and the other clusters.
///
/// Seen red by: a `RequestAuthentication` without audiences (`wrong-audience`); the policy `token-none-denied` missing in the
/// mesh.
async fn tokens_are_refused_or_decide_by_their_claims() -> Verdict {
    Scope::run(SUITE, "tokens_are_refused_or_decide_by_their_claims", async |scope| {
        scope.requires(REQUIRED)?;
        // One identity of each cluster: tokens do not depend on the peer.
        let callers: Vec<Caller> = Caller::meshed(scope).await?.into_iter().step_by(2).collect();
        let issuers = Issuers::new()?;
        let rows = rows(&issuers.asks()?);
        let made = servers(scope, "tokens", &callers, |_, namespace| {
            let objects = vec![issuers.authentication(namespace, &issuers.one.key_set())];
            Ok(Setup { objects, ..Setup::new(policies(&rows, namespace)?) })
        })
        .await?;
        let mut cells = cells(&rows);
        cells.extend(behind_the_path(&cells));
        let judging = made.iter().map(async |server| {
            claim_all(scope, &rows, judge(scope, server, &callers, &cells, Spoken::Http1).await?);
            rotated(scope, server, &callers, &issuers).await
        });
        try_join_all(judging).await.map(drop)
    })
    .await
}

/// Replaces the key of an issuer: tokens of the old key are refused, tokens of the new key are taken.
async fn rotated(scope: &Scope, server: &Server, callers: &[Caller], issuers: &Issuers) -> Result<()> {
    let new = Issuer::new(&issuers.one.name, "second")?;
    let mut object = issuers.authentication(&server.workload.namespace, &new.key_set());
    scope.apply(&server.workload.cluster, &mut object).await?;
    await_keys(server, &new.key_id, &issuers.one.key_id).await?;
    let old = issuers.one.token("ann", When::Now, json!({}))?;
    let token = new.token("ann", When::Now, json!({}))?;
    let asks = [
        Ask::get("rotated-old-key", "").with_token(&old, Presented::Refused(401)),
        Ask::get("rotated-new-key", "").with_token(&token, Presented::Valid(new.seen("ann", json!({})))),
        Ask::get("rotated-none", ""),
    ];
    let rows = rows(&asks);
    claim_all(scope, &[], judge(scope, server, callers, &cells(&rows), Spoken::Http1).await?);
    Ok(())
}

/// Waits until the server's proxy has the key `new` and not `old`, on every connection.
async fn await_keys(server: &Server, new: &str, old: &str) -> Result<()> {
    let workload = &server.workload;
    Ok(eventually(format!("the new key at the proxy of {workload}"), ROTATED, async || {
        let listeners = workload.proxy_admin("config_dump?resource=dynamic_listeners").await?;
        let has = |key: &str| listeners.contains(&format!("\\\"kid\\\":\\\"{key}\\\""));
        if !has(new) || has(old) {
            return Ok(Seen::NotYet(format!("new: {}, old: {}", has(new), has(old))));
        }
        let draining = workload.proxy_counts("listener_manager.total_.*_draining").await?;
        let drained = !draining.is_empty() && draining.iter().all(|count| count.value == 0);
        Ok::<_, cluster::Error>(if drained { Seen::Yes(()) } else { Seen::NotYet(format!("{draining:?}")) })
    })
    .await?)
}

crate::trials! {
    tokens_are_refused_or_decide_by_their_claims,
}
