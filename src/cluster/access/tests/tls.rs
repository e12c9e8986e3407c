//! TLS with the API server.

use super::support::{Answer, Authority, cluster, kubeconfig, load, refusal, serve, write};

#[tokio::test]
async fn a_server_is_verified_under_the_name_that_the_kubeconfig_gives() {
    let home = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let server = serve(&authority, &authority.sign(&["kubernetes.default"]), vec![Answer::Version]).await;
    let fields = cluster(&server.url(), &authority.pem);
    let named = format!("{fields}, tls-server-name: kubernetes.default");
    let file = write(home.path(), "config", &kubeconfig(&named, "token: t"));
    load(&[&file]).connect("test").await.unwrap_or_else(|error| panic!("{error}"));

    let file = write(home.path(), "config", &kubeconfig(&fields, "token: t"));
    let message = refusal(&load(&[&file]), "test").await;
    assert!(message.contains("set `tls-server-name` of cluster `c`"), "{message}");
    assert!(message.contains("kubernetes.default"), "the names that it has: {message}");

    let file = write(home.path(), "config", &kubeconfig(&format!("{fields}, tls-server-name: 'a b'"), "token: t"));
    assert!(refusal(&load(&[&file]), "test").await.contains("`tls-server-name` of cluster `c`"));
}

#[tokio::test]
async fn verification_can_be_turned_off_without_a_ca() {
    let home = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let server = serve(&authority, &authority.sign(&["elsewhere.example"]), vec![Answer::Version]).await;
    let fields = format!("server: '{}', insecure-skip-tls-verify: true", server.url());
    let file = write(home.path(), "config", &kubeconfig(&fields, "token: t"));
    load(&[&file]).connect("test").await.unwrap_or_else(|error| panic!("{error}"));

    let file = write(home.path(), "config", &kubeconfig(&format!("server: '{}'", server.url()), "token: t"));
    let message = refusal(&load(&[&file]), "test").await;
    assert!(message.contains("`certificate-authority` of cluster `c`") && message.contains("is missing"), "{message}");
}

#[tokio::test]
async fn a_servers_own_certificate_in_place_of_its_ca_is_called_that() {
    let home = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let leaf = authority.sign(&["127.0.0.1"]);
    let server = serve(&authority, &leaf, vec![Answer::Version]).await;
    let file = write(home.path(), "config", &kubeconfig(&cluster(&server.url(), &leaf.pem), "token: t"));
    let message = refusal(&load(&[&file]), "test").await;
    for part in ["`certificate-authority-data` of cluster `c`", "not the certificate of a CA", "kube-apiserver"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert!(!message.contains("private key"), "{message}");
    let both = leaf.pem.clone() + &authority.pem;
    let file = write(home.path(), "config", &kubeconfig(&cluster(&server.url(), &both), "token: t"));
    load(&[&file]).connect("test").await.unwrap_or_else(|error| panic!("the CA beside it: {error}"));
}

#[tokio::test]
async fn another_clusters_ca_and_unusable_cas_are_named() {
    let home = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let server = serve(&authority, &authority.sign(&["127.0.0.1"]), vec![Answer::Version]).await;
    let url = server.url();
    for (fields, part) in [
        (cluster(&url, &Authority::new().pem), "not from a CA of `certificate-authority-data`"),
        (format!("server: '{url}', certificate-authority-data: '%%'"), "not base64"),
        (cluster(&url, "hello"), "there is no certificate in it"),
        (format!("server: '{url}', certificate-authority: gone.pem"), "gone.pem: No such file"),
        ("certificate-authority-data: ''".to_owned(), "`server` of cluster `c`"),
        ("server: '127.0.0.1:6443'".to_owned(), "does not begin with https://"),
        ("server: 'https://a b'".to_owned(), "is not a URL"),
    ] {
        let file = write(home.path(), "config", &kubeconfig(&fields, "token: t"));
        let message = refusal(&load(&[&file]), "test").await;
        assert!(message.contains(part) && message.contains("context `test`"), "{part}: {message}");
        assert!(message.contains(file.to_str().unwrap()), "{message}");
    }
}
