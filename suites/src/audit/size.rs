//! How long an audit takes and how much memory it needs, by the number of ports. Runs by name only:
//! `cargo test --test audit -- --ignored`. What was measured: docs/measurements/audit.md.

use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use meshproof::audit::{Audit, Options, Standing, audit};
use meshproof::istio::strict;
use meshproof::record::{Requirement, Write};
use meshproof::report::Claim;
use meshproof::scope::deploy_probe;
use meshproof::{Cluster, Error, Scope, Verdict};
use serde_json::{Value, json};

use super::SUITE;
use super::workloads::Place;

/// Pods in each cluster that share the ports.
const PODS: usize = 5;

/// The first of the ports.
const FIRST: usize = 20_000;

/// Longest duration of an audit of a thousand ports.
const LONGEST: Duration = Duration::from_secs(60);

/// Most memory of this process, in MiB.
const MEMORY: u64 = 200;

/// Seen red by: namespaces that are not STRICT ("at least 100 ports that hold, seen 0").
async fn a_thousand_ports_are_audited_in_a_minute_and_in_little_memory() -> Verdict {
    Scope::alone(SUITE, "a_thousand_ports_are_audited_in_a_minute_and_in_little_memory", async |scope| {
        scope.requires([Requirement::Probes, Requirement::Write(Write::Namespaces)])?;
        for ports in [100, 300, 1_000] {
            let each = ports / PODS / scope.testbed.clusters.len();
            let made = scope.testbed.clusters.iter().map(|cluster| Box::pin(make(scope, cluster, ports, each)));
            let namespaces = try_join_all(made).await?;
            let options = Options { namespaces: namespaces[..1].to_vec(), ..Options::default() };
            let before = memory("VmRSS");
            let found = Box::pin(audit(&scope.testbed, &options, |_| ())).await?;
            let peak = memory("VmHWM");
            println!("{} ports: {:.1?}, {before} MiB before, {peak} MiB at most", found.cells.len(), found.took);
            judge(scope, ports, &found, peak);
        }
        Ok(())
    })
    .await
}

fn judge(scope: &Scope, ports: usize, found: &Audit, peak: u64) {
    let id = |what: &str| format!("size/{ports}/{what}");
    let holding = found.counts().get(&Standing::Holds).copied().unwrap_or(0);
    scope.claim(
        Claim::about(id("ports"), "every port is judged")
            .expects(format!("at least {ports} ports that hold"))
            .observes(&holding, ToString::to_string, |holding| *holding >= ports),
    );
    scope.claim(
        Claim::about(id("duration"), "an audit of a thousand ports is done in a minute")
            .expects(format!("at most {LONGEST:?}"))
            .observes(&found.took, |took| format!("{took:.1?}"), |took| *took <= LONGEST),
    );
    scope.claim(
        Claim::about(id("memory"), "an audit needs little memory").expects(format!("at most {MEMORY} MiB")).observes(
            &peak,
            |peak| format!("{peak} MiB"),
            |peak| *peak <= MEMORY,
        ),
    );
}

/// Makes the pods of one cluster, with `each` ports on each.
async fn make(scope: &Scope, cluster: &Arc<Cluster>, ports: usize, each: usize) -> Result<String, Error> {
    let namespace = scope.injected_namespace(cluster, &format!("ports{ports}")).await?;
    scope.apply(cluster, &mut strict(&namespace)).await?;
    deploy_probe(scope, cluster, &namespace).await?;
    let place = Place { scope, cluster, namespace: &namespace };
    let apps: Vec<String> = (0..PODS).map(|pod| format!("many-{pod}")).collect();
    for app in &apps {
        let mut template = place.template(app).await?;
        let range = FIRST..FIRST + each;
        let declared: Vec<Value> = range.clone().map(|port| json!({ "containerPort": port })).collect();
        let container = &mut template["spec"]["containers"][0];
        container["args"] = json!(["serve", "--lines", format!("{}-{}", range.start, range.end - 1)]);
        container["ports"] = declared.into();
        place.deployment(app, template).await?;
    }
    place.ready(&apps.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    Ok(namespace)
}

/// A line of this process's memory, in MiB.
fn memory(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib: u64 = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok()).unwrap_or(u64::MAX);
    kib / 1024
}

crate::trials! {
    #[ignore = "takes minutes: by name only"]
    a_thousand_ports_are_audited_in_a_minute_and_in_little_memory,
}
