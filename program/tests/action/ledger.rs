//! The ledger's branch.

use std::path::Path;
use std::process::Command;

use meshproof::ledger::{Entry, Ledger, VERSION};
use meshproof::report::Outcome;

use crate::runner::{git, root};

fn outcomes(path: &Path, run: usize) {
    let entry = |n: usize| Entry {
        v: VERSION,
        commit: "c".into(),
        suite: "s".into(),
        test: format!("t{n}"),
        run: run.to_string(),
        attempt: 1,
        outcome: Outcome::Passed,
        host: "here".into(),
        time: 1,
    };
    Ledger::append(path, (0..10).map(entry)).unwrap();
}

/// Clones the repository, and pushes the outcomes of a run.
fn push(place: &Path, run: usize) -> String {
    let clone = place.join(format!("clone-{run}"));
    git(
        place,
        &[
            "clone",
            "--quiet",
            "--depth",
            "1",
            "file://REMOTE".replace("REMOTE", place.join("remote").to_str().unwrap()).as_str(),
            clone.to_str().unwrap(),
        ],
    );
    outcomes(&clone.join("outcomes.jsonl"), run);
    let done = Command::new("bash")
        .arg(root().join("ci/ledger.sh"))
        .arg("outcomes.jsonl")
        .current_dir(&clone)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{text}");
    assert_eq!(git(&clone, &["status", "--short"]), "?? outcomes.jsonl\n", "the working tree is untouched");
    text
}

#[test]
fn jobs_that_push_at_the_same_time_lose_no_outcome_and_a_second_push_adds_none() {
    let place = tempfile::tempdir().unwrap();
    let seed = place.path().join("seed");
    std::fs::create_dir(&seed).unwrap();
    git(place.path(), &["init", "--quiet", "--bare", "--initial-branch", "main", "remote"]);
    git(&seed, &["init", "--quiet", "--initial-branch", "main"]);
    std::fs::write(seed.join("file"), "").unwrap();
    git(&seed, &["add", "."]);
    git(&seed, &["commit", "--quiet", "--message", "begin"]);
    git(&seed, &["push", "--quiet", "../remote", "main"]);
    std::thread::scope(|scope| {
        for run in 0..4 {
            let place = place.path();
            scope.spawn(move || push(place, run));
        }
    });
    let remote = place.path().join("remote");
    let text = git(&remote, &["show", "meshproof-ledger:ledger.jsonl"]);
    assert_eq!(text.lines().count(), 40);
    assert_eq!(Ledger::parse(Path::new("l"), &text).unwrap().entries().count(), 40);
    assert_eq!(git(&remote, &["show", "meshproof-ledger:.gitattributes"]), "ledger.jsonl merge=union\n");
    assert_eq!(git(&remote, &["ls-tree", "--name-only", "main"]), "file\n", "no other branch is touched");
    std::fs::remove_dir_all(place.path().join("clone-0")).unwrap();
    assert!(push(place.path(), 0).contains("has these outcomes already"));
}
