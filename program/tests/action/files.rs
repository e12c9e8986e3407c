//! What holds for every workflow, action and template, without running any.

use std::path::PathBuf;

use serde_json::Value;

use crate::runner::{root, yaml};

fn workflows() -> Vec<PathBuf> {
    let directories = [".github/workflows", "examples/pull-request/.github/workflows"];
    let files = directories.iter().flat_map(|directory| std::fs::read_dir(root().join(directory)).unwrap());
    files.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|end| end == "yml")).collect()
}

/// All steps of a workflow or an action.
fn steps(document: &Value) -> Vec<&Value> {
    let of = |steps: &Value| steps.as_array().cloned().unwrap_or_default().len();
    let jobs = document["jobs"].as_object().into_iter().flat_map(|jobs| jobs.values());
    let lists: Vec<&Value> = jobs.map(|job| &job["steps"]).chain([&document["runs"]["steps"]]).collect();
    lists.into_iter().filter(|list| of(list) > 0).flat_map(|list| list.as_array().unwrap()).collect()
}

/// What a step, a job or a workflow uses.
fn uses(document: &Value) -> Vec<String> {
    let jobs = document["jobs"].as_object().into_iter().flat_map(|jobs| jobs.values());
    let all = jobs.map(|job| &job["uses"]).chain(steps(document).into_iter().map(|step| &step["uses"]));
    all.filter_map(|uses| uses.as_str().map(str::to_owned)).collect()
}

#[test]
fn no_expression_is_written_into_a_shell() {
    let mut seen = 0;
    for path in workflows().into_iter().chain([root().join("action.yml")]) {
        for step in steps(&yaml(&path)) {
            let Some(script) = step["run"].as_str() else { continue };
            seen += 1;
            // The conclusion of `ci` is a constant, true or false.
            let is_constant = script.starts_with("${{ !contains(needs.*.result, ");
            assert!(!script.contains("${{") || is_constant, "{}: pass by `env`: {script}", path.display());
        }
    }
    assert!(seen > 10, "{seen} scripts");
}

#[test]
fn everything_of_others_is_pinned_by_a_commit() {
    let mut seen = 0;
    for path in workflows().into_iter().chain([root().join("action.yml")]) {
        for uses in uses(&yaml(&path)) {
            if uses.starts_with("./") {
                continue;
            }
            seen += 1;
            let commit = uses.split_once('@').map(|(_, commit)| commit).unwrap_or_default();
            let is_commit = commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
            assert!(is_commit, "{}: {uses}", path.display());
        }
    }
    assert!(seen > 10, "{seen} uses");
}

#[test]
fn a_job_that_may_write_runs_no_code_of_the_pull_request() {
    let mut writers = 0;
    for path in workflows() {
        let workflow = yaml(&path);
        assert!(workflow["permissions"].is_object(), "{}: name the permissions", path.display());
        assert!(workflow["on"].get("pull_request_target").is_none(), "{}", path.display());
        for (name, job) in workflow["jobs"].as_object().unwrap() {
            let may_write = |permissions: &Value| {
                permissions.as_str().is_some_and(|all| all != "read-all")
                    || permissions.as_object().is_some_and(|all| all.values().any(|one| one == "write"))
            };
            if job["uses"].is_string() || !may_write(&job["permissions"]) && !may_write(&workflow["permissions"]) {
                continue;
            }
            writers += 1;
            for step in job["steps"].as_array().unwrap() {
                let script = step["run"].as_str().unwrap_or("ci/");
                let is_ours = script.starts_with("ci/") || script.starts_with(".meshproof/ci/");
                assert!(is_ours, "{}: {name} runs {script}", path.display());
                assert!(!step["uses"].as_str().unwrap_or("actions/").starts_with("./"), "{}: {name}", path.display());
            }
        }
    }
    assert!(writers >= 3, "{writers} jobs that may write");
}

#[test]
fn the_reusable_workflow_passes_every_input_on() {
    let action = yaml(&root().join("action.yml"));
    let workflow = yaml(&root().join(".github/workflows/gate.yml"));
    let with = steps(&workflow).into_iter().find(|step| step["uses"] == "./.meshproof").unwrap()["with"].clone();
    // These belong to a step in a job of the reader's own.
    let own = ["reports", "base"];
    for input in action["inputs"].as_object().unwrap().keys().filter(|input| !own.contains(&input.as_str())) {
        let owed = if input == "kubeconfig" { "secrets" } else { "inputs" };
        assert_eq!(with[input], format!("${{{{ {owed}.{input} }}}}"), "{input}");
    }
}

#[test]
fn the_docs_show_the_summaries_of_the_example() {
    let docs = std::fs::read_to_string(root().join("docs/how-to/gate-a-pull-request.md")).unwrap();
    let mut seen = 0;
    for change in std::fs::read_dir(root().join("examples/pull-request/changes")).unwrap() {
        let summary = change.unwrap().path().join("summary.md");
        let Ok(text) = std::fs::read_to_string(&summary) else { continue };
        seen += 1;
        assert!(docs.contains(text.trim()), "the docs do not show {}:\n{text}", summary.display());
    }
    assert!(seen >= 2, "{seen} summaries");
    let workflow = std::fs::read_to_string(root().join("examples/pull-request/.github/workflows/mesh.yml")).unwrap();
    let job = workflow.split("\n  # Outcomes").next().unwrap();
    assert!(docs.contains(job.trim()), "the docs do not show the job of the example's workflow:\n{job}");
}
