//! `action.yml` as a workflow: actionlint reads workflows only.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use crate::paths;

/// Workflows outside `.github/workflows`, which actionlint finds itself.
pub(super) const EXAMPLES: [&str; 1] = ["examples/pull-request/.github/workflows/mesh.yml"];

/// The file that [`write()`] writes, in the directory that cargo builds into.
pub(super) fn path() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| paths::root().join("target"), PathBuf::from);
    target.join("actionlint/action.yml")
}

/// Writes the steps of the action as a workflow with the action's inputs.
///
/// # Errors
/// Fails if the action cannot be read, has no steps, or the file cannot be written.
pub(super) fn write() -> Result<()> {
    let workflow = as_workflow(&paths::read(&paths::root().join("action.yml"))?).context("action.yml")?;
    let path = path();
    std::fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
    // JSON is YAML.
    std::fs::write(&path, serde_json::to_vec_pretty(&workflow)?)
        .with_context(|| format!("cannot write {}", path.display()))
}

fn as_workflow(action: &str) -> Result<Value> {
    let action: Value = serde_saphyr::from_str(action)?;
    let steps = action["runs"]["steps"].as_array().filter(|steps| !steps.is_empty()).context("no steps")?;
    let inputs = action["inputs"].as_object().context("no inputs")?;
    let input = |(name, input): (&String, &Value)| {
        (name.clone(), json!({"description": input["description"], "default": input["default"], "type": "string"}))
    };
    let inputs: Map<String, Value> = inputs.iter().map(input).collect();
    Ok(json!({
        "name": "action",
        "on": {"workflow_call": {"inputs": inputs}},
        "permissions": {},
        "jobs": {"action": {"runs-on": "ubuntu-24.04", "steps": steps}},
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_action_is_a_workflow_with_its_inputs_and_steps() {
        let action =
            "inputs: {a: {description: d, default: x}}\nruns: {using: composite, steps: [{run: 'true', shell: bash}]}";
        let workflow = as_workflow(action).unwrap();
        assert_eq!(workflow["on"]["workflow_call"]["inputs"]["a"]["default"], "x");
        assert_eq!(workflow["jobs"]["action"]["steps"][0]["run"], "true");
        assert!(as_workflow("inputs: {}\nruns: {using: composite, steps: []}").is_err());
    }

    #[test]
    fn every_workflow_of_an_example_is_checked() {
        let mut found = Vec::new();
        for example in std::fs::read_dir(paths::root().join("examples")).unwrap() {
            let Ok(workflows) = std::fs::read_dir(example.unwrap().path().join(".github/workflows")) else { continue };
            found.extend(workflows.map(|workflow| workflow.unwrap().path()));
        }
        assert_eq!(found, EXAMPLES.map(|path| paths::root().join(path)));
    }
}
