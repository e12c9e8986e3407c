//! Each way in which a port may not be STRICT, made in namespaces of the test's own.

use std::sync::Arc;
use std::time::Duration;

use meshproof::audit::{Audit, Cell, Expectations, Kind, Options, Standing, audit, table};
use meshproof::istio::strict;
use meshproof::k8s_openapi::api::batch::v1::Job;
use meshproof::kube::runtime::watcher;
use meshproof::probe;
use meshproof::record::{Requirement, Write};
use meshproof::report::{Claim, Judgement};
use meshproof::scope::deploy_probe;
use meshproof::{Cluster, Error, Scope, Seen, Verdict, cluster};
use serde_json::json;

use super::SUITE;
use super::workloads::Place;

/// A port, and what the audit must say of it.
struct Owed {
    app: &'static str,
    port: u16,
    /// Name of the kind.
    kind: &'static str,
    standing: Standing,
    /// Part of an explanation or a fault.
    named: &'static str,
}

impl Owed {
    fn red(app: &'static str, port: u16, kind: &'static str, named: &'static str) -> Self {
        Self { app, port, kind, standing: Standing::Red, named }
    }

    fn strict(app: &'static str, port: u16) -> Self {
        Self { app, port, kind: "STRICT", standing: Standing::Holds, named: "" }
    }

    fn not_judged(app: &'static str, port: u16, named: &'static str) -> Self {
        Self { app, port, kind: "not judged", standing: Standing::NotJudged, named }
    }

    /// The claim that the audit says so of every such port in `namespace`, which was made as `purpose`.
    fn claim(&self, audit: &Audit, purpose: &str, namespace: &str) -> Claim {
        let Self { app, port, kind, standing, named } = self;
        let is_it =
            |cell: &&Cell| *cell.namespace == *namespace && cell.workload.name == *app && cell.port.number == *port;
        let cells: Vec<&Cell> = audit.cells.iter().filter(is_it).collect();
        let words = |cells: &Vec<&Cell>| match cells.as_slice() {
            [] => "no such port in the audit".to_owned(),
            some => some.iter().map(|cell| said(cell)).collect::<Vec<_>>().join("; "),
        };
        let is_right =
            |cell: &&Cell| cell.wire.kind.name() == *kind && cell.standing() == *standing && said(cell).contains(named);
        Claim::about(
            format!("found/{purpose}/{app}/{port}"),
            "the audit tells what a port is, and names what makes it so",
        )
        .to(format!("{namespace}/{app}:{port}"))
        .expects(format!("{kind}, {standing:?}, `{named}`"))
        .observes(&cells, words, |cells| !cells.is_empty() && cells.iter().all(is_right))
    }
}

/// All that the audit says of a port.
fn said(cell: &Cell) -> String {
    let lines = cell.wire.faults.iter().chain(&cell.wire.doubts).chain(&cell.why);
    let lines = lines.cloned().collect::<Vec<_>>().join(", ");
    let first = if cell.wire.server_first { ", server first" } else { "" };
    format!("{:?}, {}{first}, {lines}", cell.standing(), cell.wire.kind)
}

/// Seen red by: the policy `open-port` deleted meanwhile ("expected PERMISSIVE, Red, seen Holds, STRICT").
async fn each_way_in_which_a_port_is_not_strict_is_found_and_named() -> Verdict {
    Scope::run(SUITE, "each_way_in_which_a_port_is_not_strict_is_found_and_named", async |scope| {
        scope.requires([Requirement::Probes, Requirement::Write(Write::Namespaces)])?;
        let cluster = &scope.testbed.clusters[0];
        let (audited, permissive) = (
            scope.injected_namespace(cluster, "audited").await?,
            scope.injected_namespace(cluster, "permissive").await?,
        );
        let place = Place { scope, cluster, namespace: &audited };
        // Boxed, because a test's thread has a small stack.
        Box::pin(make(&place, &permissive)).await?;
        let options = Options { namespaces: vec![audited.clone(), permissive.clone()], ..Options::default() };
        let found = Box::pin(audit(&scope.testbed, &options, |_| ())).await?;
        println!("{}", table(&found, Default::default()));
        for owed in owed(cluster)? {
            scope.claim(owed.claim(&found, "audited", &audited));
        }
        for owed in owed_of_permissive(cluster)? {
            scope.claim(owed.claim(&found, "permissive", &permissive));
        }
        Box::pin(excused(scope, &options, &permissive)).await
    })
    .await
}

/// Makes all workloads and policies of the test.
async fn make(place: &Place<'_>, permissive: &str) -> Result<(), Error> {
    let Place { scope, cluster, namespace } = *place;
    let ports = probe::declared(cluster)?.ports;
    scope.apply(cluster, &mut strict(namespace)).await?;
    let mut open = strict(permissive);
    open["spec"]["mtls"]["mode"] = "PERMISSIVE".into();
    scope.apply(cluster, &mut open).await?;
    let port_level = json!({ "portLevelMtls": { ports.tcp.to_string(): { "mode": "PERMISSIVE" } } });
    place.policy("open-port", "open-port", port_level).await?;
    let by_service = json!({ "mtls": { "mode": "PERMISSIVE" }, "portLevelMtls": { "80": { "mode": "STRICT" } } });
    place.policy("service-port", "service-port", by_service).await?;
    place.policy("first", "two-policies", json!({ "mtls": { "mode": "PERMISSIVE" } })).await?;
    let (one, other) = tokio::join!(deploy_probe(scope, cluster, namespace), deploy_probe(scope, cluster, permissive));
    one.and(other)?;
    // Younger by seconds than the other policy of these pods.
    place.policy("second", "two-policies", json!({ "mtls": { "mode": "STRICT" } })).await?;
    for app in ["open-port", "service-port", "two-policies"] {
        place.deployment(app, place.template(app).await?).await?;
    }
    Box::pin(odd_ones(place)).await
}

/// Makes the workloads that are odd by themselves, and waits until all are there.
async fn odd_ones(place: &Place<'_>) -> Result<(), Error> {
    let Place { cluster, namespace, .. } = *place;
    let ports = probe::declared(cluster)?.ports;
    let mut excluded = place.template("excluded").await?;
    let annotation = "traffic.sidecar.istio.io/excludeInboundPorts";
    excluded["metadata"]["annotations"] = json!({ annotation: ports.tcp.to_string() });
    place.deployment("excluded", excluded).await?;
    let mut bare = place.template("bare").await?;
    bare["metadata"]["labels"]["sidecar.istio.io/inject"] = "false".into();
    bare["spec"]["containers"][0]["ports"][1] = json!({ "name": "dns", "containerPort": 5353, "protocol": "UDP" });
    place.deployment("bare", bare).await?;
    // As in a namespace of the ambient mesh: only ztunnel would tell, and the audit does not ask it.
    let mut ambient = place.template("ambient").await?;
    ambient["metadata"]["labels"]["sidecar.istio.io/inject"] = "false".into();
    ambient["metadata"]["labels"]["istio.io/dataplane-mode"] = "ambient".into();
    place.deployment("ambient", ambient).await?;
    place.borrower("borrower", "lender").await?;
    place.stateful_set("stateful", place.template("stateful").await?).await?;
    place.job("ended", place.template("ended").await?).await?;
    place
        .ready(&["open-port", "service-port", "two-policies", "excluded", "bare", "ambient", "borrower", "stateful"])
        .await?;
    ended(cluster, namespace).await
}

/// Waits until the pod of the Job has ended.
async fn ended(cluster: &Arc<Cluster>, namespace: &str) -> Result<(), Error> {
    let want = format!("the Job in {namespace} to end");
    let judge = |jobs: &[&Job]| {
        let done = jobs.iter().any(|job| job.status.as_ref().is_some_and(|status| status.succeeded == Some(1)));
        if done { Seen::Yes(()) } else { Seen::NotYet(format!("{} Jobs, none done", jobs.len())) }
    };
    let jobs = cluster.api::<Job>(namespace);
    Ok(cluster::watch_all(jobs, watcher::Config::default(), want, Duration::from_secs(60), judge).await?)
}

/// What the audit must say of the workloads in the STRICT namespace.
fn owed(cluster: &Cluster) -> Result<Vec<Owed>, Error> {
    let ports = probe::declared(cluster)?.ports;
    let (http, tcp) = (ports.http, ports.tcp);
    let mut owed = vec![
        Owed::red("open-port", tcp, "PERMISSIVE", "(port 8083) is PERMISSIVE"),
        Owed::strict("open-port", http),
        Owed::red("service-port", http, "PERMISSIVE", "portLevelMtls key 80 of PeerAuthentication"),
        Owed::red("two-policies", http, "PERMISSIVE", "second has no effect here"),
        Owed::red("excluded", tcp, "plaintext only", "excludeInboundPorts"),
        Owed::strict("excluded", http),
        Owed::red("bare", http, "plaintext only", "its label sidecar.istio.io/inject is `false`"),
        Owed::not_judged("bare", 5353, ""),
        Owed::red("borrower", http, "STRICT", "/sa/lender"),
        Owed::strict("stateful", tcp),
        Owed::not_judged("ended", http, ""),
        Owed::not_judged("ambient", http, "ambient mode is not judged"),
    ];
    owed.extend(ports.named().map(|(_, port)| Owed::strict("probe", port)));
    Ok(owed)
}

/// What the audit must say of the probe in the PERMISSIVE namespace.
fn owed_of_permissive(cluster: &Cluster) -> Result<Vec<Owed>, Error> {
    let ports = probe::declared(cluster)?.ports;
    let named = |port| if port == ports.server_first { "server first" } else { "(namespace) is PERMISSIVE" };
    Ok(ports.named().map(|(_, port)| Owed::red("probe", port, "PERMISSIVE", named(port))).into())
}

/// Claims that an exception excuses the PERMISSIVE namespace up to its last day, and no longer.
async fn excused(scope: &Scope, options: &Options, permissive: &str) -> Result<(), Error> {
    for (until, owed) in [("2999-12-31", Judgement::Pass), ("2026-01-01", Judgement::Fail)] {
        let exception = format!(
            "[[allow]]\nnamespace = \"{permissive}\"\nmode = \"permissive\"\nuntil = {until}\nreason = \"the test's\""
        );
        let expectations = Expectations::parse(&exception).map_err(Error::suite)?;
        let only = Options { namespaces: vec![permissive.into()], expectations, ..options.clone() };
        let found = Box::pin(audit(&scope.testbed, &only, |_| ())).await?;
        let worst = found.claims().iter().map(Claim::verdict).find(|verdict| *verdict != Judgement::Pass);
        scope.claim(
            Claim::about(format!("excused/{until}"), "an exception excuses up to its last day")
                .to(permissive)
                .equals(&owed, &worst.unwrap_or(Judgement::Pass)),
        );
        let all_permissive = found.cells.iter().filter(|cell| cell.wire.kind == Kind::Permissive).count();
        scope.claim(
            Claim::about(format!("excused/{until}/kind"), "an exception changes no finding")
                .to(permissive)
                .equals(&probe::declared(&scope.testbed.clusters[0])?.ports.named().len(), &all_permissive),
        );
    }
    Ok(())
}

crate::trials! {
    each_way_in_which_a_port_is_not_strict_is_found_and_named,
}
