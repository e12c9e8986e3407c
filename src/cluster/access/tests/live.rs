//! Against the API server of a live testbed. By name: `cargo test --lib access::tests::live -- --ignored`.

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::files::Kubeconfigs;
use super::support::{Speaks, proxy};
use crate::cluster::{Cluster, Testbed, Workload, exec};

/// A name that nothing on this machine resolves: only through the proxy is there a way.
const NOWHERE: &str = "https://api.internal.invalid:6443";

/// Clients of a cluster whose kubeconfig leads through this proxy only.
async fn through(cluster: &Cluster, testbed: &Testbed, url: String) -> Client {
    let record = cluster.record();
    let mut all = Kubeconfigs::load(&[testbed.directory.join(&record.kubeconfig)]).unwrap();
    let server = all.merged.clusters[0].cluster.as_mut().unwrap();
    let name = server.server.take().unwrap().parse::<http::Uri>().unwrap().host().unwrap().to_owned();
    server.tls_server_name = Some(name);
    server.server = Some(NOWHERE.into());
    server.proxy_url = Some(url);
    all.connect(&record.context).await.unwrap_or_else(|error| panic!("{error}"))
}

#[tokio::test]
#[ignore = "needs a live testbed"]
async fn requests_exec_and_port_forward_go_through_proxies() {
    let testbed = Testbed::connect().await.unwrap();
    let cluster = &testbed.clusters[0];
    let probe = &cluster.record().probes.as_ref().unwrap().meshed;
    let meshed = Workload::find(cluster, &probe.namespace, &probe.selector).await.unwrap();
    let url: http::Uri = {
        let record = cluster.record();
        let all = Kubeconfigs::load(&[testbed.directory.join(&record.kubeconfig)]).unwrap();
        all.merged.clusters[0].cluster.as_ref().unwrap().server.clone().unwrap().parse().unwrap()
    };
    let address = format!("{}:{}", url.host().unwrap(), url.port_u16().unwrap()).parse().unwrap();
    for (scheme, speaks) in [("http", Speaks::Http), ("socks5", Speaks::Socks5)] {
        let proxy = proxy(speaks, None, address).await;
        let client = through(cluster, &testbed, format!("{scheme}://{}", proxy.address)).await;
        let count = || proxy.asked.lock().unwrap().len();
        assert_eq!(count(), 1, "{scheme}: the request");

        let agent = cluster.record().istio.proxy.agent.as_str();
        let command = [agent, "request", "GET", "server_info"];
        let said = exec(&client, cluster.name(), meshed.proxy_container(), &command).await.unwrap();
        assert!(said.contains("envoy"), "{scheme}: {said}");

        // The exec took the connection of the request. The port-forward needs a new one.
        let pods: Api<Pod> = Api::namespaced(client, &meshed.namespace);
        let mut forwarded = pods.portforward(&meshed.pod, &[15021]).await.unwrap();
        let mut stream = forwarded.take_stream(15021).unwrap();
        stream.write_all(b"GET /healthz/ready HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains("200 OK"), "{scheme}: {answer}");
        assert!(count() > 1, "{scheme}: the port-forward");
        println!("{scheme}: {} connections, all for {:?}", count(), proxy.asked.lock().unwrap()[0]);
    }
}
