//! Proxies between this machine and the API server.

use std::net::SocketAddr;

use super::super::environment::Environment;
use super::support::{
    Answer, Authority, Proxy, Server, Speaks, cluster, kubeconfig, load, load_in, proxy, refusal, serve, write,
};

/// A name that only the proxy can resolve.
const INSIDE: &str = "https://api.internal.invalid:6443";

async fn inside(authority: &Authority) -> Server {
    serve(authority, &authority.sign(&["api.internal.invalid"]), vec![Answer::Version]).await
}

fn asked(proxy: &Proxy) -> Vec<String> {
    proxy.asked.lock().unwrap().clone()
}

#[tokio::test]
async fn requests_go_through_the_kubeconfigs_proxy_whatever_its_scheme() {
    let home = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let server = inside(&authority).await;
    let proxies = authority.sign(&["127.0.0.1"]);
    for (scheme, speaks, credentials) in [
        ("http", Speaks::Http, ""),
        ("https", Speaks::Https, ""),
        ("socks5", Speaks::Socks5, ""),
        ("socks5h", Speaks::Socks5, ""),
        ("http", Speaks::HttpWithPassword, "user:pass@"),
    ] {
        let proxy = proxy(speaks, Some(&proxies), server.address).await;
        let url = format!("{scheme}://{credentials}{}", proxy.address);
        let fields = format!("{}, proxy-url: '{url}'", cluster(INSIDE, &authority.pem));
        let file = write(home.path(), "config", &kubeconfig(&fields, "token: t"));
        // The variables of the environment do not count when the kubeconfig names a proxy.
        let environment = Environment {
            no_proxy: Some("*".into()),
            https_proxy: Some("http://127.0.0.1:1".into()),
            ..Environment::default()
        };
        let opened = load_in(environment, &[&file]).connect("test").await;
        opened.unwrap_or_else(|error| panic!("{scheme}: {error}"));
        assert_eq!(asked(&proxy), ["api.internal.invalid:6443"], "{scheme}: the proxy resolves the name");
    }
}

#[tokio::test]
async fn the_environments_proxy_counts_except_for_loopback_and_no_proxy() {
    let home = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let server =
        serve(&authority, &authority.sign(&["api.internal.invalid", "127.0.0.1"]), vec![Answer::Version]).await;
    let proxy = proxy(Speaks::Http, None, server.address).await;
    let environment = |no_proxy: Option<&str>| Environment {
        https_proxy: Some(proxy.address.to_string()),
        no_proxy: no_proxy.map(str::to_owned),
        ..Environment::default()
    };
    let file = write(home.path(), "inside", &kubeconfig(&cluster(INSIDE, &authority.pem), "token: t"));
    load_in(environment(None), &[&file]).connect("test").await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(asked(&proxy).len(), 1);

    let message = refusal(&load_in(environment(Some("other,.internal.invalid")), &[&file]), "test").await;
    assert!(message.contains("no API server answers") && !message.contains("proxy"), "directly: {message}");
    let local = write(home.path(), "local", &kubeconfig(&cluster(&server.url(), &authority.pem), "token: t"));
    load_in(environment(None), &[&local]).connect("test").await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(asked(&proxy).len(), 1, "neither went through the proxy");
}

#[tokio::test]
async fn a_proxy_that_does_not_let_through_is_named_with_who_chose_it() {
    let home = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let server = inside(&authority).await;
    let demands = proxy(Speaks::HttpWithPassword, None, server.address).await;
    let foreign = Authority::new();
    let untrusted = proxy(Speaks::Https, Some(&foreign.sign(&["127.0.0.1"])), server.address).await;
    let closed: SocketAddr = "127.0.0.1:1".parse().unwrap();
    for (url, parts) in [
        (format!("http://{}", demands.address), ["proxy authorization required", "`proxy-url` of cluster `c`"]),
        (format!("http://user:wrong@{}", demands.address), ["proxy authorization required", "http://127.0.0.1"]),
        (format!("http://{closed}"), ["Connection refused", "`proxy-url` of cluster `c`"]),
        (format!("socks5://{closed}"), ["underlying connection", "`proxy-url` of cluster `c`"]),
        (format!("https://{}", untrusted.address), ["a proxy with https must itself", "`proxy-url` of cluster `c`"]),
        ("ftp://127.0.0.1:21".to_owned(), ["`ftp` is not supported", "`proxy-url` of cluster `c`"]),
        ("socks5://user:pass@127.0.0.1:1".to_owned(), ["not for socks5", "`proxy-url` of cluster `c`"]),
    ] {
        let fields = format!("{}, proxy-url: '{url}'", cluster(INSIDE, &authority.pem));
        let file = write(home.path(), "config", &kubeconfig(&fields, "token: t"));
        let message = refusal(&load(&[&file]), "test").await;
        for part in parts.into_iter().chain(["context `test`"]) {
            assert!(message.contains(part), "{url}: {part}: {message}");
        }
        assert!(!message.contains("user:"), "no password: {message}");
    }
    assert_eq!(server.count(), 0, "never directly");
}

#[tokio::test]
async fn a_proxy_of_the_environment_that_is_unusable_names_the_variable() {
    let home = tempfile::tempdir().unwrap();
    let file = write(home.path(), "config", &kubeconfig("server: 'https://api.internal.invalid'", "token: t"));
    for (url, part) in [("ftp://x.invalid", "`ftp` is not supported"), ("127.0.0.1:1", "Connection refused")] {
        let environment = Environment { https_proxy: Some(url.into()), ..Environment::default() };
        let message = refusal(&load_in(environment, &[&file]), "test").await;
        assert!(message.contains(part) && message.contains("variable HTTPS_PROXY"), "{message}");
    }
}
