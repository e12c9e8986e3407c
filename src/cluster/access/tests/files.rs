//! Files: merged, with relative paths, with odd names.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::super::environment::Environment;
use super::super::error::{Entry, Error};
use super::super::files::Kubeconfigs;
use super::support::{Answer, Authority, cluster, kubeconfig, load, refusal, script, serve, write};

/// Two files and an empty one, as in the field: relative paths, one user's name twice, both with a current context.
async fn two_files(home: &Path) -> [std::path::PathBuf; 3] {
    let authority = Authority::new();
    let server = serve(&authority, &authority.sign(&["127.0.0.1"]), vec![Answer::If(bearer("from-a"))]).await;
    let other = serve(&authority, &authority.sign(&["127.0.0.1"]), vec![Answer::If(bearer("from-b"))]).await;
    let file = |name: &str, url: &str, token: &str, more: &str| {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: in-{name}\n\
             clusters:\n- {{name: cluster-{name}, cluster: {{server: '{url}', certificate-authority: ca.pem}}}}\n\
             users:\n- {{name: admin, user: {{token: {token}}}}}\n{more}\
             contexts:\n- {{name: in-{name}, context: {{cluster: cluster-{name}, user: admin}}}}\n"
        )
    };
    write(home, "a/ca.pem", &authority.pem);
    write(home, "b/ca.pem", &authority.pem);
    write(home, "b/token", "from-b\n");
    script(home, "bin/token.sh", r#"echo '{"kind":"ExecCredential","status":{"token":"from-b"}}'"#);
    let exec = "exec: {apiVersion: client.authentication.k8s.io/v1, command: ../bin/token.sh}";
    let more = format!("- {{name: by-plugin, user: {{{exec}}}}}\n- {{name: by-file, user: {{tokenFile: token}}}}\n");
    let b = file("b", &other.url(), "from-b", &more);
    let b = b
        + "- {name: plugin, context: {cluster: cluster-b, user: by-plugin}}\n"
        + "- {name: file, context: {cluster: cluster-b, user: by-file}}\n";
    let a = file("a", &server.url(), "from-a", "");
    [write(home, "a/config", &a), write(home, "b/config", &b), write(home, "empty", "")]
}

fn bearer(token: &str) -> Arc<Mutex<String>> {
    Arc::new(Mutex::new(format!("Authorization: Bearer {token}\r\n")))
}

#[tokio::test]
async fn paths_are_relative_to_their_file_and_an_empty_file_is_ignored() {
    let home = tempfile::tempdir().unwrap();
    let [a, b, empty] = two_files(home.path()).await;
    let all = load(&[&a, &b, &empty]);
    assert_eq!(all.current_context(), Some("in-a"), "the first file wins");
    for context in ["in-a", "plugin", "file"] {
        all.connect(context).await.unwrap_or_else(|error| panic!("{error}"));
    }
}

#[tokio::test]
async fn a_user_that_an_earlier_file_shadows_is_named_when_the_server_refuses_it() {
    let home = tempfile::tempdir().unwrap();
    let [a, b, _] = two_files(home.path()).await;
    let all = load(&[&a, &b]);
    let shadowed: Vec<_> = all.shadowed().iter().map(|one| (one.entry, one.name.as_str())).collect();
    assert_eq!(shadowed, [(Entry::User, "admin")]);
    let message = refusal(&all, "in-b").await;
    assert!(message.contains("user `admin` is defined in") && message.contains("401"), "{message}");
    assert!(message.contains(a.to_str().unwrap()) && message.contains(b.to_str().unwrap()), "{message}");
    load(&[&b, &a]).connect("in-b").await.unwrap_or_else(|error| panic!("the other order: {error}"));
}

#[test]
fn an_empty_current_context_sets_nothing() {
    let home = tempfile::tempdir().unwrap();
    let first = write(home.path(), "first", "apiVersion: v1\nkind: Config\ncurrent-context: ''\n");
    let second = write(home.path(), "second", &kubeconfig("server: 'https://x'", "token: t"));
    assert_eq!(load(&[&first, &second]).current_context(), Some("test"));
}

#[test]
fn a_missing_file_is_ignored_in_the_variables_list_only() {
    let home = tempfile::tempdir().unwrap();
    let (missing, here) =
        (home.path().join("missing"), write(home.path(), "here", &kubeconfig("server: 'https://x'", "")));
    let listed = |files: &[&Path], home: Option<&Path>| {
        let list = std::env::join_paths(files).unwrap();
        let mut all = Kubeconfigs::none(Environment::default());
        all.add_listed(Some(list.as_os_str()).filter(|list| !list.is_empty()), home).map(|()| all)
    };
    assert_eq!(listed(&[&missing, &here], None).ok().unwrap().contexts(), ["test"]);
    let message = listed(&[&missing], None).err().unwrap().to_string();
    assert!(message.contains("none of KUBECONFIG's files exists") && message.contains("missing"), "{message}");
    let named = Kubeconfigs::load(&[missing]).err().unwrap();
    assert!(matches!(named, Error::Unreadable { .. }), "{named}");
    let message = listed(&[], Some(home.path())).err().unwrap().to_string();
    assert!(message.contains(".kube/config does not exist"), "{message}");
    write(home.path(), ".kube/config", &kubeconfig("server: 'https://x'", ""));
    assert_eq!(listed(&[], Some(home.path())).ok().unwrap().contexts(), ["test"]);
    assert!(OsStr::new("").is_empty());
}

#[test]
fn a_file_that_is_no_kubeconfig_is_named_and_its_contents_are_not_shown() {
    let home = tempfile::tempdir().unwrap();
    for text in ["users:\n- name: u\n  user: {token: top-secret\nclusters: [", "users: top-secret", "- top-secret"] {
        let file = write(home.path(), "config", text);
        let message = Kubeconfigs::load(std::slice::from_ref(&file)).err().unwrap().to_string();
        println!("{message}");
        assert!(message.contains(file.to_str().unwrap()) && !message.contains('\n'), "{message}");
        assert!(!message.contains("top-secret"), "{message}");
    }
}

#[tokio::test]
async fn contexts_are_found_by_their_exact_name() {
    let home = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let server = serve(&authority, &authority.sign(&["127.0.0.1"]), vec![Answer::Version]).await;
    let names = [
        "arn:aws:eks:us-east-1:000000000000:cluster/mesh",
        "arn:aws:eks:us-west-2:000000000000:cluster/mesh",
        "admin@mesh/prod",
        "a/b",
        "a-b",
    ];
    let contexts: String =
        names.map(|name| format!("- {{name: '{name}', context: {{cluster: c, user: u}}}}\n")).concat();
    let text = kubeconfig(&cluster(&server.url(), &authority.pem), "token: t") + &contexts;
    let all = load(&[&write(home.path(), "config", &text)]);
    for name in names {
        all.connect(name).await.unwrap_or_else(|error| panic!("{error}"));
    }
    let message = refusal(&all, "arn:aws:eks:us-east-1:000000000000:cluster").await;
    assert!(message.contains("no context `arn:aws:eks:us-east-1:000000000000:cluster`"), "{message}");
    assert!(names.iter().all(|name| message.contains(&format!("`{name}`"))), "{message}");
}

#[tokio::test]
async fn what_a_context_names_and_no_file_has_is_said() {
    let home = tempfile::tempdir().unwrap();
    let text = kubeconfig("server: 'https://x'", "") + "- {name: lost, context: {cluster: c, user: nobody}}\n";
    let message = refusal(&load(&[&write(home.path(), "config", &text)]), "lost").await;
    assert!(message.contains("context `lost`") && message.contains("names user `nobody`"), "{message}");
}

#[tokio::test]
async fn a_minified_kubeconfig_works_from_elsewhere_and_holds_no_more_than_it_needs() {
    let home = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let [a, b, _] = two_files(home.path()).await;
    let small = load(&[&b, &a]).minified(&["plugin", "file"]).unwrap();
    assert!(!small.contains("BEGIN CERTIFICATE") && !small.contains("from-b"), "contents of files: {small}");
    assert!(!small.contains("in-a") && !small.contains("cluster-a") && !small.contains("admin"), "{small}");
    assert!(small.contains(home.path().join("b/ca.pem").to_str().unwrap()), "{small}");
    let all = load(&[&write(elsewhere.path(), "config", &small)]);
    assert_eq!(all.contexts(), ["plugin", "file"]);
    assert_eq!(all.current_context(), Some("plugin"));
    for context in all.contexts() {
        all.connect(context).await.unwrap_or_else(|error| panic!("{error}"));
    }
}
