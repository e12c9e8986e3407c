//! Tests of the record, and sample records for tests of other modules.

use super::*;

/// A cluster like those of `up`.
pub(crate) fn cluster(name: &str) -> Cluster {
    let gateway = |name: &str, port: u16, address: HostPort| Gateway {
        namespace: "istio-system".into(),
        deployment: format!("istio-{name}"),
        kind: GatewayKind::Deployment,
        selector: format!("istio={name}"),
        port,
        address: Some(address),
    };
    Cluster {
        name: name.into(),
        network: "network1".into(),
        kubeconfig: "/testbed/kubeconfig".into(),
        context: name.into(),
        domain: "cluster.local".into(),
        address_families: vec![AddressFamily::Ipv4],
        istio: istio(),
        gateways: Gateways {
            ingress: Some(gateway("ingressgateway", 8080, HostPort::new("127.0.0.1", 1))),
            eastwest: Some(gateway("eastwestgateway", 15443, HostPort::new("10.0.0.3", 15443))),
        },
        issuers: vec![Issuer {
            certificates: vec!["pem".into()],
            key: Some("secrets/ca-key.pem".into()),
            parent_key: Some("secrets/root/ca-key.pem".into()),
        }],
        probes: Some(probes(name)),
        bench: Some(Bench {
            meshed: "meshproof-perf".into(),
            meshed_twin: "meshproof-perf-twin".into(),
            naked: "meshproof-perf-naked".into(),
            naked_twin: "meshproof-perf-naked-twin".into(),
            deployment: None,
        }),
        lease_namespace: None,
    }
}

fn istio() -> Istio {
    Istio {
        namespace: "istio-system".into(),
        revision: None,
        injection: Label { key: "istio-injection".into(), value: "enabled".into() },
        control_plane: ControlPlane {
            selector: "app=istiod".into(),
            port: 15012,
            server_name: "istiod.istio-system.svc".into(),
        },
        proxy: Proxy {
            container: "istio-proxy".into(),
            agent: "pilot-agent".into(),
            native_sidecar: false,
            init_container: true,
        },
        access_log: Some(AccessLog::Provider("meshproof-evidence".into())),
    }
}

/// The probes of the cluster `name`.
fn probes(name: &str) -> Probes {
    let probe = |namespace: &str, deployment: &str, service: Option<String>| Probe {
        namespace: namespace.into(),
        deployment: deployment.into(),
        selector: format!("app={deployment}"),
        service,
        ingress_host: None,
    };
    Probes {
        container: "probe".into(),
        ports: ProbePorts { http: 8080, http2: 8081, grpc: 8082, tcp: 8083, server_first: 8084, tls: 8443 },
        meshed: probe("pinnacle", "probe", Some(format!("probe-{name}.pinnacle.svc.cluster.local"))),
        caller: probe("pinnacle", "caller", None),
        naked: probe("meshproof-naked", "probe", Some(format!("probe-naked-{name}.meshproof-naked.svc.cluster.local"))),
        deployment: None,
    }
}

/// A mesh of these clusters with all permissions.
pub(crate) fn record(clusters: Vec<Cluster>) -> Record {
    let pause = Command { program: "pause".into(), arguments: vec![] };
    Record {
        schema: SCHEMA.into(),
        provider: "local".into(),
        mesh: Mesh {
            id: "mesh1".into(),
            version: "1.31".into(),
            trust: TrustDomain { name: "cluster.local".into(), aliases: vec![], roots: vec!["pem".into()] },
        },
        clusters,
        application: Some(Application {
            name: "boutique".into(),
            layout: "istio".into(),
            namespace: "pinnacle".into(),
            global_namespace: None,
            places: [("frontend".to_owned(), "cluster1".to_owned())].into(),
        }),
        capabilities: Capabilities {
            treatments: vec![treatment::TCP_BYPASS.into()],
            faults: [(fault::PAUSE_CLUSTER.to_owned(), pause)].into(),
            writes: vec![Write::Namespaces, Write::Objects, Write::Replicas, Write::Placements, Write::NodeLabels],
            namespace_prefix: None,
        },
    }
}

fn one() -> Record {
    record(vec![cluster("cluster1")])
}

fn parsed(record: &Record) -> std::result::Result<Record, String> {
    Record::parse(&serde_json::to_string(record).unwrap())
}

#[test]
fn a_written_record_reads_back_the_same_and_leaves_nothing_beside_it() {
    let directory = tempfile::tempdir().unwrap();
    one().write(directory.path()).unwrap();
    assert_eq!(Record::read(directory.path()).unwrap(), one());
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn a_missing_record_names_the_command_that_makes_one() {
    let directory = tempfile::tempdir().unwrap();
    let error = Record::read(directory.path()).unwrap_err().to_string();
    assert!(error.contains("cargo xtask testbed up"), "{error}");
}

#[test]
fn a_record_of_version_1_is_refused_by_its_schema_with_the_command_that_writes_a_new_one() {
    let directory = tempfile::tempdir().unwrap();
    let old =
        r#"{"schema":"meshproof.testbed/v1","provider":"local","layout":"istio","mesh":{"id":"mesh1"},"clusters":[]}"#;
    std::fs::write(directory.path().join(FILE_NAME), old).unwrap();
    let error = Record::read(directory.path()).unwrap_err().to_string();
    assert!(
        error.contains("its schema is `meshproof.testbed/v1`, this version reads `meshproof.testbed/v2`"),
        "{error}"
    );
    assert!(error.contains("cargo xtask testbed up") && !error.contains('\n'), "{error}");
}

#[test]
fn the_evidence_is_a_provider_of_the_mesh_or_a_filter_of_the_namespace() {
    let log = |text: &str| serde_json::from_str::<AccessLog>(text).map_err(|error| error.to_string());
    assert_eq!(log(r#"{"provider": "meshproof-evidence"}"#), Ok(AccessLog::Provider("meshproof-evidence".into())));
    assert_eq!(log(r#""filter""#), Ok(AccessLog::Filter));
    assert!(log(r#""telemetry""#).unwrap_err().contains("telemetry"));
    let mut filtered = one();
    filtered.clusters[0].istio.access_log = Some(AccessLog::Filter);
    assert_eq!(parsed(&filtered).unwrap(), filtered);
}

#[test]
fn an_unknown_field_is_refused_by_name() {
    let text = serde_json::to_string(&one()).unwrap().replacen('{', "{\"extra\":1,", 1);
    assert!(Record::parse(&text).unwrap_err().contains("extra"));
}

#[test]
fn a_record_that_contradicts_itself_is_refused() {
    let doubled = record(vec![cluster("cluster1"), cluster("east"), cluster("cluster1")]);
    assert_eq!(parsed(&doubled).unwrap_err(), "cluster `cluster1` is named twice");
    assert_eq!(parsed(&record(vec![])).unwrap_err(), "it names no cluster");
    let elsewhere = record(vec![cluster("east")]);
    assert!(parsed(&elsewhere).unwrap_err().contains("workload `frontend` is in cluster `cluster1`"));
    let mut unrooted = one();
    unrooted.mesh.trust.roots.clear();
    assert_eq!(parsed(&unrooted).unwrap_err(), "it names no root certificate");
}

#[test]
fn a_mesh_of_one_network_without_gateways_issuers_or_probes_is_a_record() {
    let mut bare = one();
    let cluster = &mut bare.clusters[0];
    (cluster.gateways, cluster.issuers, cluster.probes, cluster.bench) = (Gateways::default(), vec![], None, None);
    (bare.application, bare.capabilities) = (None, Capabilities::default());
    assert_eq!(parsed(&bare).unwrap(), bare);
}

#[test]
fn what_a_cluster_lacks_is_named_with_the_cluster() {
    let mut cluster = cluster("east");
    assert_eq!(cluster.ingress_address().unwrap().port, 1);
    assert_eq!(cluster.eastwest().unwrap().deployment, "istio-eastwestgateway");
    let told = |error: Error| error.to_string();
    cluster.gateways.ingress.as_mut().unwrap().address = None;
    let unreached = told(cluster.ingress_address().unwrap_err());
    assert!(unreached.contains("an address of the ingress gateway of east"), "{unreached}");
    (cluster.gateways, cluster.issuers) = (Gateways::default(), vec![]);
    let missing = told(cluster.eastwest_address().unwrap_err());
    assert!(missing.contains("an east-west gateway of east"), "{missing}");
    assert!(told(cluster.signer().unwrap_err()).contains("a signing key of east"));
}

#[test]
fn everything_that_a_record_lacks_is_named_at_once_with_its_clusters() {
    let all = || {
        [
            Requirement::Clusters(1),
            Requirement::Probes,
            Requirement::Ingress,
            Requirement::EastWest,
            Requirement::SigningKeys,
            Requirement::ParentKeys,
            Requirement::AccessLog,
            Requirement::Bench,
            Requirement::Treatment(treatment::TCP_BYPASS),
            Requirement::Fault(fault::PAUSE_CLUSTER),
            Requirement::Application("boutique"),
            Requirement::Write(Write::Replicas),
        ]
    };
    let elsewhere = Cluster { network: "network2".into(), ..cluster("east") };
    let mut bare = record(vec![cluster("cluster1"), elsewhere]);
    bare.requires(all()).unwrap();

    bare.clusters.iter_mut().for_each(|cluster| cluster.gateways.ingress = None);
    let east = &mut bare.clusters[1];
    (east.gateways, east.issuers, east.probes, east.istio.access_log) = (Gateways::default(), vec![], None, None);
    bare.clusters.iter_mut().for_each(|cluster| cluster.bench = None);
    (bare.application, bare.capabilities) = (None, Capabilities::default());
    let error = bare.requires(all().into_iter().chain([Requirement::Clusters(3)])).unwrap_err().to_string();
    for part in [
        "the probes of east",
        "an ingress gateway",
        "an east-west gateway of network2",
        "a signing key of east",
        "a key that signs authorities of east",
        "the proxies' access log of east",
        BENCH,
        "the treatment tcp-bypass",
        "the fault pause-cluster",
        "the application boutique",
        "permission for changing replicas of existing deployments",
        "3 clusters: it has 2",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert!(!error.contains("cluster1"), "cluster1 lacks nothing: {error}");
}

#[test]
fn one_gateway_serves_all_clusters_of_its_network() {
    let lacks = |record: &Record| record.requires([Requirement::EastWest]).err().map(|error| error.to_string());
    let mut three = record(["cluster1", "east", "west"].map(cluster).into());
    assert!(lacks(&three).unwrap().contains("all clusters are on one network"));
    three.clusters[2].network = "network2".into();
    three.clusters[1].gateways.eastwest = None;
    assert_eq!(lacks(&three), None);
    three.clusters[0].gateways.eastwest = None;
    assert!(lacks(&three).unwrap().contains("an east-west gateway of network1"));
}
