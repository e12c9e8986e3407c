//! Takes the receipt of two arms: reads what their proxies were given, until it stays the same.

use std::time::{Duration, Instant};

use futures::try_join;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::ListParams;
use serde_json::Value;

use super::difference::{GivenTo, Receipt};
use super::error::{Error, Result};
use super::manifests::Declared;
use super::normal::{Given, Names, given, names_of, of_pod};
use super::stage::{Twin, Twins, labels_of_pods};
use crate::cluster::{Seen, Workload, eventually};
use crate::scope;

/// Longest wait for what istiod sends to settle.
const SETTLED: Duration = Duration::from_secs(40);

/// How long arms that do not differ are looked at: istiod may be slow to notice an object.
const SAME: Duration = Duration::from_secs(8);

/// The receipt, once two looks in a row say the same.
///
/// # Errors
/// [`Error::NoDifference`], with what to look at. A proxy does not tell what it was given.
pub(super) async fn taken(twins: &Twins, declared: &[Declared]) -> Result<Receipt> {
    let began = Instant::now();
    let mut last: Option<Receipt> = None;
    let settled = eventually("what istiod sends to both arms to settle".to_owned(), SETTLED, async || {
        let now = look(twins, declared).await?;
        let stays = last.as_ref() == Some(&now) && (!now.differences.is_empty() || began.elapsed() > SAME);
        let seen = format!("{} differences", now.differences.len());
        last = Some(now.clone());
        Ok::<_, Error>(if stays { Seen::Yes(now) } else { Seen::NotYet(seen) })
    });
    let receipt = settled.await?;
    if receipt.differences.is_empty() {
        return Err(Error::NoDifference { hint: hint(&twins.treatment, declared).await? });
    }
    Ok(receipt)
}

/// Waits until the arms differ as `receipt` says, after their pods were renewed.
///
/// # Errors
/// [`Error::Changed`], with the first change.
pub(super) async fn confirmed(twins: &Twins, declared: &[Declared], receipt: &Receipt) -> Result<()> {
    let mut last = String::new();
    let want = "the arms to differ as at first".to_owned();
    let same = eventually(want, SETTLED, async || {
        let now = look(twins, declared).await?;
        Ok::<_, Error>(match receipt.changed(&now) {
            None => Seen::Yes(()),
            Some(reason) => {
                last.clone_from(&reason);
                Seen::NotYet(reason)
            }
        })
    });
    let same = same.await;
    match same {
        Err(crate::cluster::Error::NotInTime { .. }) if !last.is_empty() => Err(Error::Changed { reason: last }),
        same => Ok(same?),
    }
}

async fn look(twins: &Twins, declared: &[Declared]) -> Result<Receipt> {
    let (control, treatment) = try_join!(given_to(&twins.control), given_to(&twins.treatment))?;
    Ok(Receipt::of(&control, &treatment, declared))
}

async fn given_to(twin: &Twin) -> Result<GivenTo> {
    let (client, server) = try_join!(pod(&twin.client), pod(&twin.server))?;
    let mut names = Names::default();
    names.add(twin.namespace.as_str(), "NAMESPACE");
    names_of(&client, "CLIENT", &mut names);
    names_of(&server, "SERVER", &mut names);
    let services = twin.cluster.api::<Service>(&twin.namespace).list(&ListParams::default()).await;
    let services = services.map_err(twin.cluster.failed(format!("list the services of {}", twin.namespace)))?;
    for address in services.into_iter().filter_map(|service| service.spec?.cluster_ip) {
        // A headless service has the address `None`.
        if address != "None" {
            names.add(address, "SERVICE_ADDRESS");
        }
    }
    let (of_client, of_server) =
        try_join!(dumped(&twin.client, &client, &names), dumped(&twin.server, &server, &names))?;
    Ok(GivenTo { client: of_client, server: of_server })
}

async fn pod(workload: &Workload) -> Result<Value> {
    let found = workload.cluster.api::<Pod>(&workload.namespace).get(&workload.pod).await;
    let found = found.map_err(workload.cluster.failed(format!("read pod {}/{}", workload.namespace, workload.pod)))?;
    Ok(serde_json::to_value(found).map_err(scope::Error::suite)?)
}

async fn dumped(workload: &Workload, pod: &Value, names: &Names) -> Result<Given> {
    let path = "config_dump";
    let answer = workload.proxy_admin(path).await?;
    let dump: Value = serde_json::from_str(&answer).map_err(|error| workload.unusable(path, error.to_string()))?;
    let mut given = given(&dump, names);
    let (resource, fields) = of_pod(pod, names);
    given.insert(resource, fields);
    Ok(given)
}

/// What to look at if nothing differs.
async fn hint(twin: &Twin, declared: &[Declared]) -> Result<String> {
    let pods = labels_of_pods(twin).await?;
    let mut hints = Vec::new();
    for Declared { object, how, selector } in declared {
        let selects = |labels: &Value| selector.iter().flatten().all(|(key, value)| labels[key] == value.as_str());
        hints.push(match selector {
            Some(selector) if !pods.iter().any(selects) => {
                let wanted: Vec<String> = selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
                let of = |labels: &Value| format!("app={}", labels["app"].as_str().unwrap_or_default());
                let labels: Vec<String> = pods.iter().map(of).collect();
                format!("{object} selects {}, and the pods have {}", wanted.join(","), labels.join(" and "))
            }
            _ => format!("{object} is {how} and has no effect on either proxy"),
        });
    }
    Ok(hints.join("; "))
}
