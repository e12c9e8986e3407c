//! `examples/pull-request` on a live testbed: each of its pull requests is a commit, judged as its workflow judges it.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::runner::{Ended, Runner, git, root, run, yaml};

const EXAMPLE: &str = "examples/pull-request";

/// Environment variable that writes the summaries in place of comparing with them.
const BLESS: &str = "MESHPROOF_BLESS";

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    // With the times of the files: cargo builds anew what is newer.
    run(Path::new("cp"), &["-Rp", &format!("{}/.", from.display()), &to.display().to_string()], root());
}

/// Both tests use one place and one testbed.
static ALONE: Mutex<()> = Mutex::new(());

/// The example as a repository, in a job's workspace.
struct Repository {
    directory: PathBuf,
    testbed: PathBuf,
}

impl Repository {
    fn new(directory: PathBuf, testbed: PathBuf) -> Self {
        copy(&root().join(EXAMPLE), &directory);
        std::fs::remove_dir_all(directory.join("changes")).unwrap();
        std::os::unix::fs::symlink(root(), directory.join(".meshproof")).unwrap();
        // The versions that are built already.
        std::fs::copy(root().join("Cargo.lock"), directory.join("suite/Cargo.lock")).unwrap();
        let repository = Self { directory, testbed };
        repository.git(&["init", "--quiet", "--initial-branch", "main"]);
        repository.commit("The mesh");
        repository
    }

    fn git(&self, arguments: &[&str]) -> String {
        git(&self.directory, arguments)
    }

    fn commit(&self, message: &str) {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", message]);
    }

    /// A branch from main with the files of a change.
    fn branch(&self, change: &str) {
        self.git(&["checkout", "--quiet", "--force", "-B", change, "main"]);
        copy(&root().join(EXAMPLE).join("changes").join(change).join("mesh"), &self.directory.join("mesh"));
        self.commit(change);
    }

    /// Removes the configuration of this commit from the testbed, which every job of a real pull request makes anew.
    fn remove(&self) {
        let kubectl = self.testbed.join("bin/kubectl");
        let kubeconfig = self.testbed.join("kubeconfig").display().to_string();
        let all =
            run(&kubectl, &["--kubeconfig", &kubeconfig, "config", "get-contexts", "-o", "name"], &self.directory);
        for context in all.lines() {
            let at = ["--kubeconfig", &kubeconfig, "--context", context];
            let delete = ["delete", "--wait=false", "--ignore-not-found", "-R", "-f", "mesh"];
            run(&kubectl, &[&at[..], &delete].concat(), &self.directory);
        }
    }
}

impl Drop for Repository {
    fn drop(&mut self) {
        self.remove();
    }
}

/// The directory that cargo builds into. The commands of the testbed are of this workspace, and the suite is not.
const TARGET: &str = "CARGO_TARGET_DIR";

/// The step of the suites. What it compiles outlives the place, and the dependencies that this workspace has compiled are not
/// compiled again.
fn sharing(runner: &mut Runner) -> Ended {
    let built = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let target = runner.unset(TARGET);
    runner.set("CARGO_BUILD_BUILD_DIR", built.to_str().unwrap());
    let ended = runner.step("suites");
    runner.unset("CARGO_BUILD_BUILD_DIR");
    target.into_iter().for_each(|target| runner.set(TARGET, target));
    ended
}

/// The verdict and the summary of the commit that is checked out.
fn judged(runner: &mut Runner) -> (String, String) {
    let _ = std::fs::remove_file(runner.path("GITHUB_STEP_SUMMARY"));
    for step in ["mesh", "suites", "comparisons", "gate"] {
        let ended = if step == "suites" { sharing(runner) } else { runner.step(step) };
        println!("{}", ended.text);
        assert!(step == "gate" || ended.code == Some(0), "{step}");
    }
    (runner.output("gate", "verdict").to_owned(), runner.read("GITHUB_STEP_SUMMARY"))
}

/// Place of the claims that are as before in a row of what changed.
const AS_BEFORE: usize = 5;

/// A summary without what differs from run to run or between testbeds: revisions, names of pods, the number of ports, and
/// why a comparison regressed.
fn settled(summary: &str) -> String {
    let word = |word: &str| {
        let is_revision = word.len() >= 12 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        match word.split_once("probe-") {
            _ if is_revision => "REVISION".to_owned(),
            Some((before, after)) if after.matches('-').count() >= 1 && !after.starts_with("cluster") => {
                let end = after.find(|char: char| !char.is_ascii_alphanumeric() && char != '-').unwrap_or(after.len());
                format!("{before}probe-…{}", &after[end..])
            }
            _ => word.to_owned(),
        }
    };
    let line = |line: &str| {
        let line = line.replace("-dirty", "");
        // Which metrics are decided first is chance. The verdict is not.
        if let Some((before, _)) = line.split_once(" | regressed | ") {
            return format!("{before} | regressed | … |");
        }
        if let Some((before, _)) = line.split_once(" | failed (assertion) | compare ") {
            return format!("{before} | failed (assertion) | … | – |");
        }
        // Every port is a claim. That none changed is in the other cells.
        let mut cells: Vec<&str> = line.split(" | ").collect();
        if line.starts_with("| audit | ") {
            cells[AS_BEFORE] = "…";
        }
        let line = cells.join(" | ");
        line.split(' ').map(word).collect::<Vec<_>>().join(" ")
    };
    summary.lines().map(|one| line(one) + "\n").collect()
}

/// A job of the example's repository, with the inputs that its workflow gives but for `others`, and the repository.
fn job(others: &[(&str, &str)]) -> (Runner, Repository) {
    let testbed = std::env::var("MESHPROOF_TESTBED").map_or_else(|_| root().join("target/testbed"), PathBuf::from);
    let testbed = testbed.canonicalize().expect("run `cargo xtask testbed up` first");
    let workflow = yaml(&root().join(EXAMPLE).join(".github/workflows/mesh.yml"));
    let with = workflow.pointer("/jobs/mesh/with").and_then(|with| with.as_object()).unwrap();
    let with = with.iter().map(|(name, value)| (name.as_str(), value.as_str().unwrap()));
    // Of the workflow alone, and a branch that is not here.
    let with = with.filter(|(name, _)| !["meshproof-ref", "ledger-branch"].contains(name));
    let here = [("mesh", "testbed"), ("base-revision", "main"), ("base", "../base")];
    let inputs: Vec<(&str, &str)> = with.chain(here).chain(others.iter().copied()).collect();
    // Always the same place: cargo builds a package of another path anew.
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pull-request");
    let _ = std::fs::remove_dir_all(&place);
    let mut runner = Runner::at(place, &inputs);
    runner.set("MESHPROOF_TESTBED", testbed.to_str().unwrap());
    runner.set("MESHPROOF_SETTLE", "10");
    for variable in ["HOME", "CARGO_HOME", "RUSTUP_HOME", TARGET, "MESHPROOF_HOLDER"] {
        if let Ok(value) = std::env::var(variable) {
            runner.set(variable, value);
        }
    }
    let repository = Repository::new(runner.path("workspace"), testbed);
    (runner, repository)
}

/// Judges a change: its verdict and its summary are these.
fn shown(runner: &mut Runner, repository: &Repository, change: &str, owed: &str) {
    repository.remove();
    repository.branch(change);
    let (verdict, summary) = judged(runner);
    assert_eq!(verdict, owed, "{change}: {summary}");
    let path = root().join(EXAMPLE).join("changes").join(change).join("summary.md");
    if std::env::var_os(BLESS).is_some() {
        std::fs::write(&path, settled(&summary)).unwrap();
    }
    let shown = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(settled(&summary), shown, "{change}: write it anew with {BLESS}=1");
}

#[test]
#[ignore = "needs a testbed, and changes its policies: runs by name only"]
fn each_pull_request_of_the_example_has_the_verdict_and_the_summary_that_the_docs_show() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut runner, repository) = job(&[]);
    let (verdict, summary) = judged(&mut runner);
    assert_eq!(verdict, "holds", "the main branch: {summary}");
    copy(&runner.path("temp/meshproof/base"), &runner.path("base"));
    for (change, owed) in [("1-fine", "holds"), ("2-opens-a-port", "does-not-hold")] {
        shown(&mut runner, &repository, change, owed);
    }
}

#[test]
#[ignore = "needs a testbed, and has it alone for three minutes: runs by name only"]
fn a_change_that_costs_p99_is_regressed() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut runner, repository) = job(&[("suites", "")]);
    shown(&mut runner, &repository, "3-costs-p99", "does-not-hold");
    assert!(runner.read("GITHUB_STEP_SUMMARY").contains("| proxies | regressed | "));
}
