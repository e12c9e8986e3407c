//! Credential plugins, token files, and credentials that end.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::super::files::Kubeconfigs;
use super::support::{Answer, Authority, Server, cluster, kubeconfig, load, refusal, script, serve, write};

const API: &str = "apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never";

fn bearer(token: &str) -> Arc<Mutex<String>> {
    Arc::new(Mutex::new(format!("Authorization: Bearer {token}\r\n")))
}

/// A server, and a kubeconfig whose user has this plugin.
async fn with_plugin(home: &Path, answer: Answer, body: &str, more: &str) -> (Server, Kubeconfigs) {
    let authority = Authority::new();
    let server = serve(&authority, &authority.sign(&["127.0.0.1"]), vec![answer]).await;
    let plugin = script(home, "plugin", body);
    let exec = format!("exec: {{{API}, command: '{}'{more}}}", plugin.display());
    let file = write(home, "config", &kubeconfig(&cluster(&server.url(), &authority.pem), &exec));
    (server, load(&[&file]))
}

fn prints(status: &str) -> String {
    format!(
        "echo '{{\"kind\":\"ExecCredential\",\"apiVersion\":\"client.authentication.k8s.io/v1\",\"status\":{{{status}}}}}'"
    )
}

#[tokio::test]
async fn a_plugin_that_is_not_installed_is_named_at_once_with_its_hint_and_nothing_is_touched() {
    let home = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let server = serve(&authority, &authority.sign(&["127.0.0.1"]), vec![Answer::Version]).await;
    // Not the name of a plugin that exists: a machine may have it, and the test would run it.
    let exec = "exec: {apiVersion: client.authentication.k8s.io/v1beta1, command: meshproof-test-no-such-plugin, \
                installHint: install the plugin with your cloud CLI, interactiveMode: IfAvailable, provideClusterInfo: true}";
    let text = kubeconfig(&cluster(&server.url(), &authority.pem), exec);
    let all = load(&[&write(home.path(), "config", &text)]);
    let begun = Instant::now();
    let message = refusal(&all, "test").await;
    assert!(begun.elapsed() < Duration::from_secs(1));
    for part in [
        "context `test`",
        "`meshproof-test-no-such-plugin`",
        "user `u`",
        "config",
        "install the plugin with your cloud CLI",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert!(all.check("test").is_err(), "also without a request");
    assert_eq!(server.count(), 0);
}

#[tokio::test]
async fn a_plugin_gets_the_cluster_if_it_wants_and_runs_once() {
    let home = tempfile::tempdir().unwrap();
    let runs = home.path().join("runs");
    let body = format!(
        "echo x >> {}\ncase \"$KUBERNETES_EXEC_INFO\" in *'\"server\"'*) ;; *) echo 'ExecCredential does not contain \
         cluster information' >&2; exit 1;; esac\n{}",
        runs.display(),
        prints(r#""token":"t1""#)
    );
    let answer = Answer::If(bearer("t1"));
    let (_server, all) = with_plugin(home.path(), answer.clone(), &body, ", provideClusterInfo: true").await;
    all.connect("test").await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(std::fs::read_to_string(&runs).unwrap(), "x\n", "the plugin runs once: it may ask the user");

    let (_server, all) = with_plugin(home.path(), answer, &body, "").await;
    let message = refusal(&all, "test").await;
    assert!(message.contains("ExecCredential does not contain cluster information"), "{message}");
    assert!(message.contains("exit status: 1") && message.contains("plugin` (`exec` of user `u`"), "{message}");
}

#[tokio::test]
async fn a_plugin_gets_the_cluster_where_no_ca_is_named_and_a_missing_ca_is_not_taken_for_its_fault() {
    let home = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let server = serve(&authority, &authority.sign(&["127.0.0.1"]), vec![Answer::Version]).await;
    let asks = "case \"$KUBERNETES_EXEC_INFO\" in *'\"server\"'*) ;; *) exit 1;; esac\n";
    let plugin = script(home.path(), "plugin", &format!("{asks}{}", prints("\"token\":\"t1\"")));
    let exec = format!("exec: {{{API}, command: '{}', provideClusterInfo: true}}", plugin.display());
    let of = |more: &str| {
        let fields = format!("server: '{}'{more}", server.url());
        load(&[&write(home.path(), "config", &kubeconfig(&fields, &exec))])
    };
    of(", insecure-skip-tls-verify: true").connect("test").await.unwrap_or_else(|error| panic!("{error}"));
    let message = refusal(&of(""), "test").await;
    assert!(message.contains("`certificate-authority` of cluster `c`") && message.contains("is missing"), "{message}");
}

#[tokio::test]
async fn a_plugin_that_gives_no_credentials_is_quoted_and_a_token_is_not() {
    let home = tempfile::tempdir().unwrap();
    for (body, part) in [
        ("exit 0", "printed nothing"),
        ("echo 'please log in' >&2", "please log in"),
        ("echo top-secret", "not an ExecCredential"),
        ("echo '{\"token\": \"top-secret\"}'", "no status"),
        ("echo '{\"status\": {\"token\": [\"top-secret\"]}}'", "not an ExecCredential"),
        ("echo '{\"status\": {}}'", "neither a token nor a client certificate"),
        ("echo '{\"status\": {\"token\": \"top-secret\", \"expirationTimestamp\": \"soon\"}}'", "`soon` is not a time"),
        ("echo '{\"status\": {\"clientKeyData\": \"top-secret\"}}'", "only one of"),
        ("printf 'x%.0s' $(seq 5000) >&2; exit 3", "exit status: 3"),
    ] {
        let (server, all) = with_plugin(home.path(), Answer::Version, body, "").await;
        let message = refusal(&all, "test").await;
        assert!(message.contains(part), "{part}: {message}");
        assert!(!message.contains("top-secret") && message.len() < 2000, "{message}");
        assert_eq!(server.count(), 0);
    }
}

#[tokio::test]
async fn a_plugins_certificate_is_presented() {
    let home = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let server = serve(&authority, &authority.sign(&["127.0.0.1"]), vec![Answer::IfCertificate]).await;
    let client = authority.sign(&["admin"]);
    let text = |pem: &str| pem.replace('\n', "\\n");
    let status = format!(r#""clientCertificateData":"{}","clientKeyData":"{}""#, text(&client.pem), text(&client.key));
    let answer = write(home.path(), "answer", &format!("{{\"status\":{{{status}}}}}"));
    let plugin = script(home.path(), "plugin", &format!("cat {}", answer.display()));
    let exec = format!("exec: {{{API}, command: '{}'}}", plugin.display());
    let file = write(home.path(), "config", &kubeconfig(&cluster(&server.url(), &authority.pem), &exec));
    load(&[&file]).connect("test").await.unwrap_or_else(|error| panic!("{error}"));

    let anonymous = write(home.path(), "anonymous", &kubeconfig(&cluster(&server.url(), &authority.pem), ""));
    let message = refusal(&load(&[&anonymous]), "test").await;
    assert!(message.contains("401"), "the control: no certificate, no access: {message}");
}

/// A plugin that prints `token-1`, `token-2` and so on.
fn counting(home: &Path, status: &str) -> String {
    let count = home.join("count");
    format!("echo x >> {0}\nn=$(wc -l < {0})\n{1}", count.display(), prints(status).replace("TOKEN", "'$n'"))
}

#[tokio::test]
async fn a_token_that_ends_is_renewed_before_it_does() {
    let home = tempfile::tempdir().unwrap();
    // The margin of renewal is 10 s.
    let ends = Timestamp::now() + SignedDuration::from_secs(12);
    let body = counting(home.path(), &format!(r#""token":"token-TOKEN","expirationTimestamp":"{ends}""#));
    let valid = bearer("token-1");
    let (server, all) = with_plugin(home.path(), Answer::If(Arc::clone(&valid)), &body, "").await;
    let client = all.connect("test").await.unwrap_or_else(|error| panic!("{error}"));
    client.apiserver_version().await.unwrap();
    assert_eq!(std::fs::read_to_string(home.path().join("count")).unwrap(), "x\n", "not for each request");
    #[allow(clippy::disallowed_methods, reason = "the passing of time is what ends a token")]
    tokio::time::sleep(Duration::from_millis(2500)).await;
    "Authorization: Bearer token-2\r\n".clone_into(&mut valid.lock().unwrap());
    client.apiserver_version().await.unwrap();
    assert_eq!(server.count(), 3, "no request was refused on the way");
}

#[tokio::test]
async fn a_token_without_an_end_is_renewed_when_the_server_refuses_it() {
    let home = tempfile::tempdir().unwrap();
    let body = counting(home.path(), r#""token":"token-TOKEN""#);
    let valid = bearer("token-1");
    let (server, all) = with_plugin(home.path(), Answer::If(Arc::clone(&valid)), &body, "").await;
    let client = all.connect("test").await.unwrap_or_else(|error| panic!("{error}"));
    "Authorization: Bearer token-2\r\n".clone_into(&mut valid.lock().unwrap());
    client.apiserver_version().await.unwrap();
    assert_eq!(server.count(), 3, "one refusal, one repetition");
    "Authorization: Bearer other\r\n".clone_into(&mut valid.lock().unwrap());
    let error = client.apiserver_version().await.unwrap_err();
    assert!(matches!(&error, kube::Error::Api(status) if status.code == 401), "{error}");
    assert_eq!(server.count(), 5, "repeated once, and not for ever");
}

#[tokio::test]
async fn a_plugin_that_fails_later_is_quoted_in_the_request_that_needed_it() {
    let home = tempfile::tempdir().unwrap();
    let flag = home.path().join("broken");
    let body =
        format!("[ -e {} ] && {{ echo 'session over' >&2; exit 7; }}\n{}", flag.display(), prints(r#""token":"t""#));
    let valid = bearer("t");
    let (_server, all) = with_plugin(home.path(), Answer::If(Arc::clone(&valid)), &body, "").await;
    let client = all.connect("test").await.unwrap_or_else(|error| panic!("{error}"));
    std::fs::write(flag, "").unwrap();
    "Authorization: Bearer other\r\n".clone_into(&mut valid.lock().unwrap());
    let error = client.apiserver_version().await.unwrap_err().to_string();
    assert!(error.contains("session over") && error.contains("context `test`"), "{error}");
}

#[tokio::test]
async fn faults_in_a_users_fields_name_the_field() {
    let home = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let server = serve(&authority, &authority.sign(&["127.0.0.1"]), vec![Answer::Version]).await;
    let client = authority.sign(&["admin"]);
    write(home.path(), "cert.pem", &client.pem);
    write(home.path(), "key.pem", &client.key);
    write(home.path(), "junk.pem", "no key at all");
    write(home.path(), "blank", " \n");
    for (user, parts) in [
        ("tokenFile: none", ["`tokenFile`", "No such file"]),
        ("tokenFile: blank", ["`tokenFile`", "is empty"]),
        ("client-certificate: cert.pem", ["`client-key`", "belong together"]),
        ("client-certificate: none.pem, client-key: key.pem", ["`client-certificate`", "none.pem"]),
        ("client-certificate: cert.pem, client-key: junk.pem", ["`client-key`", "key"]),
        ("client-certificate-data: '%', client-key: key.pem", ["`client-certificate-data`", "base64"]),
        ("exec: {apiVersion: v1}", ["`exec.command`", "missing"]),
        ("auth-provider: {name: azure}", ["`auth-provider`", "kubelogin"]),
    ] {
        let file = write(home.path(), "config", &kubeconfig(&cluster(&server.url(), &authority.pem), user));
        let message = refusal(&load(&[&file]), "test").await;
        for part in parts.into_iter().chain(["user `u`", file.to_str().unwrap()]) {
            assert!(message.contains(part), "{user}: {part}: {message}");
        }
    }
    let good = "client-certificate: cert.pem, client-key: key.pem";
    let file = write(home.path(), "config", &kubeconfig(&cluster(&server.url(), &authority.pem), good));
    load(&[&file]).connect("test").await.unwrap_or_else(|error| panic!("the control: {error}"));
}
