//! A mesh that has moved to another trust domain accepts its former name, and no other.

use futures::future::try_join_all;
use meshproof::probe::{Expected, alert};
use meshproof::record::{self, Requirement};
use meshproof::scope::claims;
use meshproof::suites::{Controlled, Path, intermediate_of};
use meshproof::{Error, Scope, Verdict};

use super::SUITE;

/// Each alias is the control of a name that only resembles it.
///
/// Red if the mesh does not know an alias of the record: its client is refused like a stranger.
async fn a_former_trust_domain_is_accepted_and_no_other() -> Verdict {
    Scope::run(SUITE, "a_former_trust_domain_is_accepted_and_no_other", async |scope| {
        scope.requires([Requirement::Probes, Requirement::SigningKeys])?;
        let testbed = &scope.testbed;
        let aliases = &testbed.record.mesh.trust.aliases;
        if aliases.is_empty() {
            return Err(record::Error::not_declared("an alias of the trust domain").into());
        }
        let paths = Path::all(scope).await?;
        let cases = paths.iter().flat_map(|path| aliases.iter().map(move |alias| (path, alias)));
        let judging = cases.map(async |(path, alias)| {
            let (cluster, id) = (path.peer.cluster.name(), path.peer.spiffe_id(testbed.trust.domain()));
            let signer = intermediate_of(testbed, cluster)?;
            let mint = |domain: &str| signer.mint(&id.in_trust_domain(domain), meshproof::identity::Validity::Now);
            let (former, stranger) = (mint(alias)?, mint(&format!("not-{alias}"))?);
            let Controlled { judged, control } = path
                .dial_pair(
                    path.handshake(&format!("not-{alias}"), Some(&stranger)),
                    path.handshake(alias, Some(&former)),
                )
                .await?;
            let owed = "a client of the mesh's former trust domain is answered";
            scope.claim(claims::answered("alias", owed, &control, &path.destination));
            scope.claim(claims::refused_by_certificate(
                "alias",
                "a client of a trust domain that the mesh does not name is refused",
                &judged,
                Expected::Alert(alert::UNWELCOME_IDENTITY),
                &control,
                &path.destination,
                &testbed.trust,
            ));
            Ok::<_, Error>(())
        });
        try_join_all(judging).await.map(drop)
    })
    .await
}

crate::trials! {
    a_former_trust_domain_is_accepted_and_no_other,
}
