//! The comment on a pull request.

use std::collections::BTreeMap;

use crate::api::Api;
use crate::runner::{Ended, Runner};

const STEP: &str = r#"checkout="$GITHUB_ACTION_PATH"; "$checkout/ci/comment.sh" summary.md meshproof"#;

/// A job of a pull request with this API.
fn job(api: &Api) -> Runner {
    let mut runner = Runner::new(&[]);
    std::fs::write(runner.path("event.json"), r#"{"pull_request": {"number": 5}}"#).unwrap();
    runner.set("GITHUB_API_URL", &api.url);
    runner.set("MESHPROOF_TOKEN", "t0ken");
    runner
}

fn comment(runner: &mut Runner, text: &str) -> Ended {
    std::fs::write(runner.path("workspace/summary.md"), text).unwrap();
    runner.shell("none", STEP, &BTreeMap::new())
}

#[test]
fn a_comment_is_written_once_and_then_updated_in_place() {
    let api = Api::serve(&["a reader's", "quotes <!-- meshproof --> only"]);
    let mut runner = job(&api);
    let first = "## ❌ \"quoted\" `$(touch pwned)`\n";
    let ended = comment(&mut runner, first);
    assert_eq!(ended.code, Some(0), "{}", ended.text);
    assert_eq!(api.bodies()[2], format!("<!-- meshproof -->\n{first}"));
    let ended = comment(&mut runner, "## ✅ now\n");
    assert_eq!(ended.code, Some(0), "{}", ended.text);
    assert_eq!(api.bodies(), ["a reader's", "quotes <!-- meshproof --> only", "<!-- meshproof -->\n## ✅ now\n"]);
    assert!(api.calls().contains(&"PATCH /repos/team/mesh/issues/comments/3".to_owned()), "{:?}", api.calls());
    assert!(!runner.path("workspace/pwned").exists() && !ended.text.contains("t0ken"), "{}", ended.text);
}

#[test]
fn the_comment_of_an_earlier_run_is_found_behind_many_others() {
    let mut comments = vec!["a reader's"; 150];
    comments.push("<!-- meshproof -->\nold");
    let api = Api::serve(&comments);
    assert_eq!(comment(&mut job(&api), "new\n").code, Some(0));
    assert_eq!((api.bodies().len(), api.bodies()[150].as_str()), (151, "<!-- meshproof -->\nnew\n"));
}

#[test]
fn without_the_right_to_write_the_verdict_stands_and_the_job_says_so() {
    for status in [401, 403, 404] {
        let api = Api::serve(&[]);
        api.refuse(status);
        let ended = comment(&mut job(&api), "text\n");
        assert_eq!(ended.code, Some(0), "{}", ended.text);
        assert!(ended.text.contains("::warning::no right to comment"), "{}", ended.text);
    }
    let api = Api::serve(&[]);
    api.refuse(500);
    let ended = comment(&mut job(&api), "text\n");
    assert_eq!(ended.code, Some(1), "{}", ended.text);
    assert!(ended.text.contains("500: {\"message\":\"not for you\"}"), "{}", ended.text);
}

#[test]
fn what_is_no_pull_request_gets_no_comment() {
    let api = Api::serve(&[]);
    let mut runner = job(&api);
    std::fs::write(runner.path("event.json"), r#"{"ref": "refs/heads/main"}"#).unwrap();
    let ended = comment(&mut runner, "text\n");
    assert_eq!(ended.code, Some(0), "{}", ended.text);
    assert!(api.calls().is_empty() && ended.text.contains("this is no pull request"), "{}", ended.text);
}

#[test]
fn a_merge_request_of_gitlab_gets_its_note() {
    let api = Api::serve(&["a reader's"]);
    let mut runner = job(&api);
    for (variable, value) in [("GITLAB_CI", "true"), ("CI_PROJECT_ID", "9"), ("CI_MERGE_REQUEST_IID", "5")] {
        runner.set(variable, value);
    }
    runner.set("CI_API_V4_URL", &api.url);
    for text in ["old\n", "new\n"] {
        let ended = comment(&mut runner, text);
        assert_eq!(ended.code, Some(0), "{}", ended.text);
    }
    assert_eq!(api.bodies(), ["a reader's", "<!-- meshproof -->\nnew\n"]);
    assert!(api.calls().contains(&"PUT /projects/9/merge_requests/5/notes/2".to_owned()), "{:?}", api.calls());
}
