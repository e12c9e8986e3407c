//! The shop under load: every customer is served.

use meshproof::report::Claim;
use meshproof::{Scope, Verdict};
use serde_json::Value;

use super::SUITE;
use super::shop::{LOAD_GENERATOR, REQUIRED, Shop, container_of};

/// Journeys per second, of six pages each, and the duration.
const RATE: &str = "20";
const SECONDS: &str = "60";

/// Seen red by: a `VirtualService` that aborts one call in a hundred to checkoutservice ("1187 completed, 13 failed").
async fn a_minute_of_customers_is_served_without_a_failed_journey() -> Verdict {
    Scope::alone(SUITE, "a_minute_of_customers", async |scope| {
        scope.requires([REQUIRED])?;
        let pod = Shop::of(&scope.testbed)?.pod(LOAD_GENERATOR).await?;
        let command = ["/boutique", "loadgenerator", "--rate", RATE, "--duration", SECONDS];
        let output = pod.cluster.exec(pod.container(container_of(LOAD_GENERATOR)), &command, None).await?;
        let summary: Value = serde_json::from_str(&output).unwrap_or_default();
        let count = |field: &str| summary[field].as_u64();
        let all = RATE.parse::<u64>().ok().zip(SECONDS.parse::<u64>().ok()).map(|(rate, seconds)| rate * seconds);
        // The timer may be off by one journey at the end.
        let asked = count("journeys").zip(all).is_some_and(|(made, all)| made.abs_diff(all) <= 1);
        let served =
            count("completed") == count("journeys") && count("failed") == Some(0) && count("not_sent") == Some(0);
        let figure =
            |name: &str| summary.pointer(&format!("/journey_ms/{name}")).map(Value::to_string).unwrap_or_default();
        let observed = |summary: &Value| {
            format!(
                "{} journeys, {} completed, {} failed, {} not sent; p50 {} ms, p99 {} ms, max {} ms",
                summary["journeys"],
                summary["completed"],
                summary["failed"],
                summary["not_sent"],
                figure("p50"),
                figure("p99"),
                figure("max")
            )
        };
        let again = format!(
            "-n {} exec {} -c {} -- {}",
            pod.namespace,
            pod.pod,
            container_of(LOAD_GENERATOR),
            command.join(" ")
        );
        let claim = Claim::about("load/journeys", "a minute of customers is served without a failed journey")
            .from(&pod)
            .to("the frontend, over the mesh")
            .expects(format!("{RATE} journeys a second for {SECONDS} s, all completed"))
            .observes(&summary, observed, |_| asked && served)
            .with_evidence(format!("the load generator's summary: {}", output.trim()))
            .with_commands(vec![format!("{} {again}", pod.cluster.command("kubectl"))]);
        scope.claim(claim);
        Ok(())
    })
    .await
}

crate::trials! {
    a_minute_of_customers_is_served_without_a_failed_journey,
}
