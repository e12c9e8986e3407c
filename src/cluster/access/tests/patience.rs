//! API servers that are starting, overloaded, silent, or something else.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;

use super::super::files::Kubeconfigs;
use super::support::{Answer, Authority, ROUND_TRIP, Server, cluster, kubeconfig, load, refusal, serve, write};

const INITIALIZING: &str = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"storage is (re)initializing","reason":"TooManyRequests","code":429}"#;
const STARTING: &str = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"apiserver not ready","reason":"ServiceUnavailable","code":503}"#;
const FORBIDDEN: &str = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"forbidden: User cannot get path /version","reason":"Forbidden","code":403}"#;

async fn answering(home: &std::path::Path, answers: Vec<Answer>) -> (Server, Kubeconfigs) {
    let authority = Authority::new();
    let server = serve(&authority, &authority.sign(&["127.0.0.1"]), answers).await;
    let file = write(home, "config", &kubeconfig(&cluster(&server.url(), &authority.pem), "token: t"));
    (server, load(&[&file]))
}

#[tokio::test]
async fn an_api_server_that_is_starting_is_asked_again() {
    let home = tempfile::tempdir().unwrap();
    let answers = vec![
        Answer::Status(429, "retry-after: 1\r\n", INITIALIZING),
        Answer::Status(503, "", STARTING),
        Answer::Status(503, "", STARTING),
        Answer::Version,
    ];
    let (server, all) = answering(home.path(), answers).await;
    let begun = Instant::now();
    all.connect("test").await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(server.count(), 4);
    assert!(begun.elapsed() >= Duration::from_secs(1), "Retry-After is heeded");
}

// The clock of the runtime stands still while the server and the client have work: the waits take no time.
#[tokio::test(start_paused = true)]
async fn an_api_server_that_stays_busy_is_given_up_with_its_own_words() {
    let home = tempfile::tempdir().unwrap();
    // More than anyone may ask for.
    let (_server, all) = answering(home.path(), vec![Answer::Status(429, "retry-after: 3600\r\n", INITIALIZING)]).await;
    let begun = tokio::time::Instant::now();
    let message = refusal(&all, "test").await;
    assert!(message.contains("storage is (re)initializing (429)") && message.contains("30s"), "{message}");
    let waited = Duration::from_secs(25)..Duration::from_secs(45);
    assert!(waited.contains(&begun.elapsed()), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn many_requests_to_a_distant_server_share_a_bounded_number_of_connections() {
    let home = tempfile::tempdir().unwrap();
    let (server, all) = answering(home.path(), vec![Answer::Distant]).await;
    let client = all.connect("test").await.unwrap_or_else(|error| panic!("{error}"));
    let begun = Instant::now();
    let asked = futures::future::join_all((0..96).map(|_| client.apiserver_version())).await;
    assert!(asked.iter().all(Result::is_ok), "{asked:?}");
    let connections = server.connections.load(Ordering::Relaxed);
    assert!((2..=40).contains(&connections), "{connections} connections for 96 requests");
    assert!(begun.elapsed() < ROUND_TRIP * 12, "they run side by side: {:?}", begun.elapsed());
}

#[tokio::test]
async fn a_user_without_rights_is_a_user() {
    let home = tempfile::tempdir().unwrap();
    let (_server, all) = answering(home.path(), vec![Answer::Status(403, "", FORBIDDEN)]).await;
    all.connect("test").await.unwrap_or_else(|error| panic!("{error}"));
}

#[tokio::test]
async fn what_is_no_api_server_is_called_that() {
    let home = tempfile::tempdir().unwrap();
    for answer in [Answer::Status(404, "", "<html>"), Answer::Status(200, "", "<html>")] {
        let (_server, all) = answering(home.path(), vec![answer]).await;
        let message = refusal(&all, "test").await;
        assert!(message.contains("Kubernetes API server") && message.contains("https://127.0.0.1"), "{message}");
    }
    let authority = Authority::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let file = write(home.path(), "config", &kubeconfig(&cluster(&url, &authority.pem), "token: t"));
    let message = refusal(&load(&[&file]), "test").await;
    assert!(message.contains("does not speak TLS"), "{message}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let home = tempfile::tempdir().unwrap();
    let pem = Authority::new().pem;
    for (url, part) in [("https://127.0.0.1:1", "Connection refused"), ("https://nowhere.invalid", "dns error")] {
        let file = write(home.path(), "config", &kubeconfig(&cluster(url, &pem), "token: t"));
        let message = refusal(&load(&[&file]), "test").await;
        assert!(message.contains(part) && message.contains(url) && message.contains("context `test`"), "{message}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_is_given_up() {
    let home = tempfile::tempdir().unwrap();
    let (_server, all) = answering(home.path(), vec![Answer::Never]).await;
    let begun = tokio::time::Instant::now();
    let message = refusal(&all, "test").await;
    assert!(message.contains("no API server answers at") && message.contains("nothing within"), "{message}");
    assert!(begun.elapsed() <= Duration::from_secs(60));
}
