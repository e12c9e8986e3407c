//! Paths and their spellings.

use futures::future::try_join_all;
use meshproof::policy::authorization::Policy;
use meshproof::{Error, Result, Scope, Verdict};
use serde_json::{Value, json};

use super::SUITE;
use super::arena::{Caller, REQUIRED, Server, Setup, servers};
use super::judge::{Spoken, claim_all, judge};
use super::rows::{Ask, Cell};

/// Spellings of `/status/251`, and neighbours of it.
const SPELLINGS: [(&str, &str); 24] = [
    ("exact", "/status/251"),
    ("query", "/status/251?x=/../open"),
    ("empty-query", "/status/251?"),
    ("double-slash", "//status/251"),
    ("inner-double-slash", "/status//251"),
    ("dot", "/./status/251"),
    ("dot-dot", "/open/../status/251"),
    ("escaped-dot-dot", "/open/%2e%2e/status/251"),
    ("above-the-root", "/../status/251"),
    ("escaped-slash", "/status%2F251"),
    ("escaped-slash-in-lower-case", "/status%2f251"),
    ("backslash", "/status\\251"),
    ("escaped-backslash", "/status%5C251"),
    ("escaped-backslash-in-lower-case", "/status%5c251"),
    ("escaped-letter", "/%73tatus/251"),
    ("escaped-twice", "/%2573tatus/251"),
    ("capitals", "/STATUS/251"),
    ("fragment", "/status/251#open"),
    ("escaped-fragment", "/status/251%23open"),
    ("trailing-slash", "/status/251/"),
    ("parameter", "/status/251;a=b"),
    ("escaped-nul", "/status/251%00"),
    ("neighbour", "/status/252"),
    ("root", "/"),
];

/// Paths about the other patterns.
const PATTERNS: [(&str, &str); 9] = [
    ("prefix", "/status/261"),
    ("prefix-dot-dot", "/status/261/../271"),
    ("suffix", "/files/private"),
    ("suffix-query", "/files/private?x"),
    ("suffix-longer", "/files/private.txt"),
    ("one-segment", "/users/ann/keys"),
    ("two-segments", "/users/ann/old/keys"),
    ("any-segments", "/tree/a/b/c"),
    ("beside-any-segments", "/trees/a"),
];

fn policies(namespace: &str) -> Result<Vec<Policy>> {
    let deny = |name: &str, paths: Value| {
        let spec = json!({ "action": "DENY", "rules": [{ "to": [{ "operation": { "paths": paths } }] }] });
        Policy::parse(namespace, name, spec).map_err(Error::suite)
    };
    [
        deny("exact", json!(["/status/251"])),
        deny("prefix", json!(["/status/26*"])),
        deny("suffix", json!(["*/private"])),
        deny("template", json!(["/users/{*}/keys", "/tree/{**}"])),
    ]
    .into_iter()
    .collect()
}

fn cells() -> Vec<Cell> {
    let of = |row: &'static str, paths: &[(&'static str, &str)]| {
        paths.iter().map(|(name, path)| Cell { row, ask: Ask::get(name, *path) }).collect::<Vec<_>>()
    };
    [of("spelling", &SPELLINGS), of("pattern", &PATTERNS)].concat()
}

/// A denied path is denied in every spelling that the mesh's `pathNormalization` makes the same path: CVE-2021-31920 and
/// CVE-2021-39156. Every caller asks, also one without a proxy of its own, so that the server's proxy alone decides.
///
/// Seen red by: an EnvoyFilter that sets `merge_slashes` in the servers, while the mesh configuration does not (both
/// spellings with double slashes); the policy `prefix` missing in the mesh.
async fn a_denied_path_is_denied_in_every_spelling() -> Verdict {
    Scope::run(SUITE, "a_denied_path_is_denied_in_every_spelling", async |scope| {
        scope.requires(REQUIRED)?;
        let callers = Caller::meshed(scope).await?;
        let made = servers(scope, "paths", &callers, |_, namespace| Ok(Setup::new(policies(namespace)?))).await?;
        try_join_all(made.iter().map(|server| at_server(scope, server, &callers))).await.map(drop)
    })
    .await
}

async fn at_server(scope: &Scope, server: &Server, meshed: &[Caller]) -> Result<()> {
    let mut callers = meshed.to_vec();
    callers.push(Caller::naked(server).await?);
    let verdicts = judge(scope, server, &callers, &cells(), Spoken::Http1).await?;
    claim_all(scope, &[], verdicts);
    Ok(())
}

crate::trials! {
    a_denied_path_is_denied_in_every_spelling,
}
