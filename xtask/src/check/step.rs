//! One command of a stage, and its result.

use std::path::PathBuf;

use anyhow::Result;

use crate::command::run;
use crate::paths;

/// One command of a stage.
#[derive(Debug)]
pub(super) struct Step {
    program: PathBuf,
    arguments: Vec<String>,
    variable: Option<(&'static str, &'static str)>,
    /// Crates that must not appear in the output. The output is a dependency tree.
    absent: &'static [&'static str],
}

impl Step {
    pub(super) fn program(program: PathBuf, arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        Self { program, arguments, variable: None, absent: &[] }
    }

    /// A cargo command. `arguments` are concatenated.
    pub(super) fn cargo(arguments: &[&[&str]]) -> Self {
        Self::program("cargo".into(), &arguments.concat())
    }

    /// Sets an environment variable.
    pub(super) fn with(self, name: &'static str, value: &'static str) -> Self {
        Self { variable: Some((name, value)), ..self }
    }

    /// A step that fails if one of `absent` is in the dependency tree, including dependencies of tests.
    pub(super) fn tree_without(selection: &[&str], absent: &'static [&'static str]) -> Self {
        let tree = Self::cargo(&[&["tree", "--edges", "normal,dev", "--prefix", "none"], selection]);
        Self { absent, ..tree }
    }

    /// Runs the step. Returns the reason of a failure, or `None` after success.
    ///
    /// # Errors
    /// Fails if the program cannot be started.
    pub(super) async fn run(self) -> Result<Option<String>> {
        let mut command = run(self.program).args(self.arguments).current_dir(paths::root());
        if let Some((name, value)) = self.variable {
            command = command.env(name, value);
        }
        if self.absent.is_empty() {
            let status = command.status().await?;
            return Ok((!status.success()).then(|| status.to_string()));
        }
        let present = present(&command.stdout().await?, self.absent);
        Ok((!present.is_empty()).then(|| {
            format!("{} in the tree: make optional what brings it in, in the feature `suites`", present.join(", "))
        }))
    }
}

/// The `crates` that appear in `tree`. The tree has one crate per line.
fn present(tree: &str, crates: &[&'static str]) -> Vec<&'static str> {
    let named = |name: &&&str| tree.lines().any(|line| line.split_whitespace().next() == Some(**name));
    crates.iter().filter(named).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_is_found_by_its_whole_name() {
        let tree = "meshproof v0.1.0 (/somewhere)\nkube-core v5.0.0\nserde v1.0.0 (*)\nk8s-openapi v0.29.0\n";
        assert_eq!(present(tree, &["kube", "k8s-openapi", "aws-lc-rs"]), ["k8s-openapi"]);
        assert!(present(tree, &["kube", "aws-lc-rs"]).is_empty());
    }

    #[tokio::test]
    async fn a_step_fails_with_the_status_of_its_command() {
        let failed = Step::program("sh".into(), &["-c", "exit 3"]).run().await.unwrap();
        assert_eq!(failed.as_deref(), Some("exit status: 3"));
        let passed = Step::program("sh".into(), &["-c", "test \"$WANTED\" = here"]).with("WANTED", "here");
        assert_eq!(passed.run().await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_step_fails_where_the_tree_has_a_crate_that_must_be_absent() {
        let tree = |absent| Step { absent, ..Step::program("echo".into(), &["kube v5.0.0"]) };
        let failed = tree(&["aws-lc-rs", "kube"]).run().await.unwrap().unwrap();
        assert!(failed.starts_with("kube in the tree: "), "{failed}");
        assert_eq!(tree(&["aws-lc-rs"]).run().await.unwrap(), None);
    }
}
