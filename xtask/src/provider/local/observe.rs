//! Reads the state and usage of a node's container from the engine.

use std::time::Duration;

use anyhow::{Context, Result};
use futures::StreamExt;
use testcontainers::bollard::models::{ContainerState, ContainerStateStatusEnum, ContainerStatsResponse};
use testcontainers::bollard::query_parameters::StatsOptionsBuilder;

use super::engine::Engine;
use crate::provider::node::{NodeState, State, Usage};

/// Duration of the CPU usage measurement.
const WINDOW: Duration = Duration::from_millis(800);

/// State of the container `name`, and any problem with the state.
///
/// # Errors
/// Fails if the engine does not report the state.
pub(crate) async fn state(engine: &Engine, name: &str) -> Result<NodeState> {
    let Some(details) = engine.inspect(name).await? else {
        let problem = Some(format!("container {name} does not exist"));
        return Ok(NodeState { state: State::Missing, detail: None, problem });
    };
    Ok(told(name, details.state.unwrap_or_default()))
}

fn told(name: &str, state: ContainerState) -> NodeState {
    match state.status {
        Some(ContainerStateStatusEnum::RUNNING) => NodeState { state: State::Running, detail: None, problem: None },
        Some(ContainerStateStatusEnum::PAUSED) => {
            let problem = Some(format!("container {name} is paused: `docker unpause {name}`"));
            NodeState { state: State::Paused, detail: None, problem }
        }
        Some(status) => {
            let memory = if state.oom_killed == Some(true) { ", out of memory" } else { "" };
            let error = state.error.filter(|error| !error.is_empty()).map(|error| format!(", {error}"));
            let code = state.exit_code.unwrap_or_default();
            let detail = format!("{status}, exit code {code}{memory}{}", error.unwrap_or_default());
            let problem = Some(format!("container {name} is stopped ({detail})"));
            NodeState { state: State::Stopped, detail: Some(detail), problem }
        }
        None => NodeState { state: State::Unknown, detail: None, problem: None },
    }
}

/// Resource usage of the container `name`.
///
/// # Errors
/// Fails if the engine does not report the usage.
#[expect(clippy::disallowed_methods, reason = "the time that passes is what a rate is measured over")]
pub(crate) async fn usage(engine: &Engine, name: &str) -> Result<Usage> {
    let before = statistics(engine, name).await?;
    tokio::time::sleep(WINDOW).await;
    let now = statistics(engine, name).await?;
    Ok(Usage { memory_mib: memory_mib(&now), cpu_percent: cpu_percent(&before, &now) })
}

async fn statistics(engine: &Engine, name: &str) -> Result<ContainerStatsResponse> {
    let options = StatsOptionsBuilder::default().stream(false).one_shot(true).build();
    let mut answers = std::pin::pin!(engine.docker().stats(name, Some(options)));
    Ok(answers.next().await.context("no answer")??)
}

/// Memory as `docker stats` counts it: without file pages that can be dropped at once.
fn memory_mib(stats: &ContainerStatsResponse) -> Option<u64> {
    let memory = stats.memory_stats.as_ref()?;
    let details = memory.stats.as_ref();
    // The first name is for cgroup v1.
    let file = details.and_then(|stats| stats.get("total_inactive_file").or_else(|| stats.get("inactive_file")));
    Some(memory.usage?.saturating_sub(file.copied().unwrap_or(0)) >> 20)
}

fn cpu_percent(before: &ContainerStatsResponse, now: &ContainerStatsResponse) -> Option<f64> {
    let (before, now) = (before.cpu_stats.as_ref()?, now.cpu_stats.as_ref()?);
    let used = now.cpu_usage.as_ref()?.total_usage?.checked_sub(before.cpu_usage.as_ref()?.total_usage?)?;
    let passed = now.system_cpu_usage?.checked_sub(before.system_cpu_usage?)?;
    let percent = used as f64 / passed as f64 * f64::from(now.online_cpus?) * 100.0;
    percent.is_finite().then(|| (percent * 10.0).round() / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn memory_and_processor_use_are_counted_as_docker_stats_does() {
        let stats = |used: u64, passed: u64| -> ContainerStatsResponse {
            let cpu = json!({"cpu_usage": {"total_usage": used}, "system_cpu_usage": passed, "online_cpus": 2});
            let memory = json!({"usage": 900 << 20, "stats": {"total_inactive_file": 100 << 20}});
            serde_json::from_value(json!({"memory_stats": memory, "cpu_stats": cpu})).unwrap()
        };
        let (before, now) = (stats(50, 1000), stats(150, 3000));
        assert_eq!((memory_mib(&now), cpu_percent(&before, &now)), (Some(800), Some(10.0)));
        assert_eq!(cpu_percent(&now, &now), None, "no time has passed");
    }

    #[test]
    fn a_container_that_does_not_run_says_why_and_what_to_do() {
        let told = |state: serde_json::Value| told("meshproof-c", serde_json::from_value(state).unwrap());
        let running = told(json!({"Status": "running"}));
        assert_eq!((running.state, running.problem), (State::Running, None));
        let paused = told(json!({"Status": "paused", "Paused": true}));
        assert!(paused.problem.unwrap().contains("`docker unpause meshproof-c`"));
        let stopped = told(json!({"Status": "exited", "ExitCode": 137, "OOMKilled": true}));
        let why = "container meshproof-c is stopped (exited, exit code 137, out of memory)";
        assert_eq!((stopped.state, stopped.problem.as_deref()), (State::Stopped, Some(why)));
    }
}
