//! A stand-in for GitHub's runner: runs the shell of a step as the runner would, with its event and environment files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

/// The root of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Reads a YAML file of the repository.
pub(crate) fn yaml(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Runs a program that must succeed, and returns what it printed.
pub(crate) fn run(program: &Path, arguments: &[&str], directory: &Path) -> String {
    let done = Command::new(program).current_dir(directory).args(arguments).output().unwrap();
    assert!(done.status.success(), "{} {arguments:?}: {}", program.display(), text(&done));
    String::from_utf8(done.stdout).unwrap()
}

/// Runs git, with an author for commits.
pub(crate) fn git(directory: &Path, arguments: &[&str]) -> String {
    let identity = ["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false"];
    run(Path::new("git"), &[&identity, arguments].concat(), directory)
}

/// A job on a machine of its own.
pub(crate) struct Runner {
    place: PathBuf,
    /// Removes the place, unless it is kept.
    _kept: Option<TempDir>,
    action: Value,
    inputs: BTreeMap<String, String>,
    outputs: BTreeMap<String, String>,
    variables: BTreeMap<String, String>,
}

/// A step that has ended.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) text: String,
}

impl Runner {
    /// A job that uses `action.yml` with these inputs. Its checkout of meshproof has the scripts, and nothing else.
    pub(crate) fn new(inputs: &[(&str, &str)]) -> Self {
        let place = tempfile::tempdir().unwrap();
        let runner = Self::at(place.path().to_owned(), inputs);
        Self { _kept: Some(place), ..runner }
    }

    /// A job in this directory, which stays.
    pub(crate) fn at(place: PathBuf, inputs: &[(&str, &str)]) -> Self {
        for directory in ["workspace", "temp/meshproof/bin", "home", "bin", "checkout/ci"] {
            std::fs::create_dir_all(place.join(directory)).unwrap();
        }
        for script in std::fs::read_dir(root().join("ci")).unwrap() {
            let script = script.unwrap();
            std::fs::copy(script.path(), place.join("checkout/ci").join(script.file_name())).unwrap();
        }
        let program = place.join("temp/meshproof/bin/meshproof");
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_meshproof"), program).unwrap();
        let action = yaml(&root().join("action.yml"));
        let declared = action["inputs"].as_object().unwrap();
        let defaults =
            declared.iter().map(|(name, input)| (name.clone(), input["default"].as_str().unwrap().to_owned()));
        let mut all: BTreeMap<String, String> = defaults.collect();
        for (name, value) in inputs {
            assert!(all.insert((*name).into(), (*value).into()).is_some(), "there is no input {name}");
        }
        let variables = BTreeMap::from([("MESHPROOF_SETTLE".to_owned(), "0".to_owned())]);
        Self { place, _kept: None, action, inputs: all, outputs: BTreeMap::new(), variables }
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.place.join(relative)
    }

    pub(crate) fn read(&self, relative: &str) -> String {
        std::fs::read_to_string(self.path(relative)).unwrap_or_default()
    }

    /// A program that the steps find first, in place of the real one.
    pub(crate) fn stand_in(&self, relative: &str, script: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.path(relative);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, format!("#!/usr/bin/env bash\nset -eu\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub(crate) fn set(&mut self, variable: &str, value: impl Into<String>) {
        self.variables.insert(variable.into(), value.into());
    }

    pub(crate) fn unset(&mut self, variable: &str) -> Option<String> {
        self.variables.remove(variable)
    }

    pub(crate) fn output(&self, step: &str, name: &str) -> &str {
        self.outputs.get(&format!("steps.{step}.outputs.{name}")).map_or("", String::as_str)
    }

    /// Runs the step of `action.yml` with this name.
    pub(crate) fn step(&mut self, name: &str) -> Ended {
        let steps = self.action["runs"]["steps"].as_array().unwrap();
        let step = steps.iter().find(|step| step["name"] == name).unwrap_or_else(|| panic!("no step {name}")).clone();
        assert_eq!(step["shell"], "bash", "{name}");
        let mut own = BTreeMap::new();
        for (variable, value) in step["env"].as_object().into_iter().flatten() {
            own.insert(variable.clone(), self.evaluated(value.as_str().unwrap()));
        }
        self.shell(step["id"].as_str().unwrap_or("none"), step["run"].as_str().unwrap(), &own)
    }

    /// Runs a script as the runner runs the `run` of a step.
    pub(crate) fn shell(&mut self, id: &str, script: &str, own: &BTreeMap<String, String>) -> Ended {
        let file = self.path("temp/script.sh");
        std::fs::write(&file, script).unwrap();
        let files = ["GITHUB_OUTPUT", "GITHUB_ENV", "GITHUB_STEP_SUMMARY"];
        for one in &files[..2] {
            std::fs::write(self.path(one), "").unwrap();
        }
        let search = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("bash");
        command.args(["--noprofile", "--norc", "-e", "-o", "pipefail"]).arg(&file);
        command.current_dir(self.path("workspace")).env_clear();
        command.env("PATH", search).env("HOME", self.path("home")).env("CI", "true");
        command.env("GITHUB_ACTIONS", "true").env("GITHUB_SHA", "4c1d0b6").env("GITHUB_RUN_ATTEMPT", "1");
        command.env("GITHUB_ACTION_PATH", self.path("checkout")).env("RUNNER_TEMP", self.path("temp"));
        command.env("GITHUB_REPOSITORY", "team/mesh").env("GITHUB_EVENT_PATH", self.path("event.json"));
        command.envs(files.map(|name| (name, self.path(name)))).envs(&self.variables).envs(own);
        let output = command.output().unwrap();
        self.read_files(id);
        Ended { code: output.status.code(), text: text(&output) }
    }

    /// Takes over what a step has written into its files.
    fn read_files(&mut self, id: &str) {
        let pairs = |text: String| -> Vec<(String, String)> {
            let pair = |line: &str| line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
            text.lines().map(|line| pair(line).unwrap_or_else(|| panic!("no assignment: {line}"))).collect()
        };
        for (name, value) in pairs(self.read("GITHUB_OUTPUT")) {
            self.outputs.insert(format!("steps.{id}.outputs.{name}"), value);
        }
        for (name, value) in pairs(self.read("GITHUB_ENV")) {
            self.variables.insert(name, value);
        }
    }

    /// A text with its expressions replaced.
    fn evaluated(&self, text: &str) -> String {
        let mut parts = text.split("${{");
        let mut value = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (expression, rest) = part.split_once("}}").unwrap();
            value.push_str(&self.looked_up(expression.trim()));
            value.push_str(rest);
        }
        value
    }

    fn looked_up(&self, expression: &str) -> String {
        // The first that is not empty.
        if let Some((first, other)) = expression.split_once(" || ") {
            return Some(self.looked_up(first))
                .filter(|value| !value.is_empty())
                .unwrap_or_else(|| self.looked_up(other));
        }
        if let Some(place) = expression.strip_prefix("github.event.") {
            let event: Value = serde_json::from_str(&self.read("event.json")).unwrap_or_default();
            let value = event.pointer(&format!("/{}", place.replace('.', "/"))).and_then(Value::as_str);
            return value.unwrap_or_default().to_owned();
        }
        if let Some(input) = expression.strip_prefix("inputs.") {
            return self.inputs.get(input).unwrap_or_else(|| panic!("there is no input {input}")).clone();
        }
        match expression {
            "github.server_url" => "https://example.com".into(),
            "github.repository" => "team/mesh".into(),
            "github.run_id" => "77".into(),
            other => self.outputs.get(other).unwrap_or_else(|| panic!("unknown: {other}")).clone(),
        }
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}
