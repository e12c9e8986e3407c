use super::*;

fn shipped(name: &str) -> String {
    paths::read(&paths::fixture(&format!("clusters/{name}.toml"))).unwrap()
}

/// Replaces `from` by `to` in the default declaration. Returns the line and the reason of the refusal.
fn refused(from: &str, to: &str) -> (String, String) {
    let text = shipped("default");
    assert!(text.contains(from), "no `{from}` in default.toml");
    let changed = text.replacen(from, to, 1);
    let Fault { line, reason } = Declaration::parse(&changed).unwrap_err();
    (changed.lines().nth(line - 1).unwrap_or_default().to_owned(), reason)
}

#[test]
fn every_shipped_declaration_is_sound() {
    let files = std::fs::read_dir(paths::fixture("clusters")).unwrap().map(|file| file.unwrap().path());
    let declarations: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "toml")).collect();
    assert!(declarations.len() > 2, "{declarations:?}");
    for path in declarations {
        Declaration::read(&path).unwrap();
    }
}

#[test]
fn the_default_is_two_clusters_of_one_node_with_istios_defaults() {
    let declaration = Declaration::parse(&shipped("default")).unwrap();
    assert_eq!(declaration.names(), ["cluster1", "cluster2"]);
    let Declaration { mesh, istio, application, clusters, .. } = declaration;
    assert_eq!((mesh.id.as_str(), mesh.trust_domain.as_str()), ("mesh1", "cluster.local"));
    assert_eq!((mesh.authority, mesh.policy), (Authority::SharedRoot, None));
    assert_eq!((istio.revision.as_deref(), istio.injection), (None, Injection::IstioInjection));
    assert_eq!(istio.istiod(), "istiod");
    assert_eq!(application.unwrap().layout, Layout::Istio);
    let first = &clusters[0];
    assert_eq!((first.nodes, first.dns_address().as_str()), (1, "172.24.0.10"));
    assert_eq!(first.ingress.as_ref().unwrap().name, "istio-ingressgateway");
    assert_eq!(first.eastwest.as_ref().unwrap().labels["istio"], "eastwestgateway");
}

#[test]
fn each_node_has_a_name_and_an_eighth_of_the_pod_subnet() {
    let cluster = Declaration::parse(&shipped("seed")).unwrap().clusters.remove(1);
    assert_eq!(cluster.node_names(), ["cluster2", "cluster2-worker1", "cluster2-worker2", "cluster2-worker3"]);
    assert_eq!(cluster.pods_of(0).unwrap().to_string(), "192.168.128.0/20");
    assert_eq!(cluster.pods_of(7).unwrap().to_string(), "192.168.240.0/20");
    assert_eq!(cluster.pods_of(8), None);
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    let second = "name = \"cluster2\"";
    for (from, to, line, reason) in [
        ("[application]", "[aplication]", "[aplication]", "unknown field `aplication`"),
        ("network = \"network1\"\n", "netwerk = \"network1\"\n", "netwerk", "unknown field `netwerk`"),
        ("pod_subnet = \"192.168.0.0/17\"\n", "", "[[cluster]]", "missing field `pod_subnet`"),
        ("layout = \"istio\"", "layout = \"isto\"", "layout", "unknown variant `isto`"),
        (second, "name = \"cluster1\"", "name = \"cluster1\"", "two nodes would have the name `cluster1`"),
        (second, "name = \"Cluster2\"", "name = \"Cluster2\"", "no DNS label"),
        (second, "name = \"root\"", "name = \"root\"", "no cluster can have the name `root`"),
        (second, "name = \"cluster2\"\nnodes = 9", "nodes = 9", "1 to 8"),
        (second, "name = \"cluster2\"\nnodes = 0", "nodes = 0", "1 to 8"),
        (
            "192.168.128.0/17",
            "192.168.0.0/18",
            "192.168.0.0/18",
            "overlaps 192.168.0.0/17, which is for the pods of cluster1",
        ),
        ("172.25.0.0/16", "10.231.0.0/24", "10.231.0.0/24", "which is for the container network"),
        ("172.25.0.0/16", "172.25.0.1/16", "172.25.0.1/16", "the subnet of that address is 172.25.0.0/16"),
        ("172.25.0.0/16", "172.25.0.0/28", "172.25.0.0/28", "too small"),
        ("172.25.0.0/16", "172.0.0.0/11", "172.0.0.0/11", "larger than Kubernetes accepts"),
        ("172.25.0.0/16", "the services", "the services", "is not a subnet such as"),
        (
            second,
            "name = \"cluster2\"\neastwest = {enabled = false}",
            "eastwest",
            "network `network2` has no east-west gateway",
        ),
        (second, "name = \"cluster2\"\neastwest = {enabled = false, name = \"a\"}", "eastwest", "is not enabled"),
        (second, "name = \"cluster2\"\neastwest = {labels = {}}", "eastwest", "cannot be selected"),
        (
            second,
            "name = \"cluster2\"\neastwest = {name = \"istio-ingressgateway\"}",
            "eastwest",
            "same name or labels",
        ),
        ("[application]", "[istio]\nrevision = \"1-31\"\n[application]", "revision", "nothing would be injected"),
        ("[application]", "[istio]\ntags = [\"prod\"]\n[application]", "tags", "points to no revision"),
        ("[application]", "[suites]\nprepare = false\n[application]", "[application]", "is prepared for suites"),
        ("[\"former.example\"]", "[\"cluster.local\"]", "aliases", "already has the name"),
        ("[mesh]", "[mesh]\ntrust_domain = \"Corp\"", "trust_domain", "no DNS name"),
        ("[application]", "[istio]\ncni = \"yes\"\n[application]", "cni", "invalid type: string"),
        (second, "name = \"cluster2\"\nnetwork_policies = 1", "network_policies", "invalid type: integer"),
    ] {
        let (found, why) = refused(from, to);
        assert!(found.contains(line) && why.contains(reason), "{to}: `{found}`: {why}");
    }
}

/// Adds `namespaces` to the default declaration, and `istio` to Istio's keys.
fn with_namespaces(istio: &str, namespaces: &str) -> Result<Declaration, (String, String)> {
    let text = format!("{}\n[istio]\n{istio}\n{namespaces}", shipped("default"));
    Declaration::parse(&text).map_err(|Fault { line, reason }| (text.lines().nth(line - 1).unwrap().to_owned(), reason))
}

#[test]
fn a_declared_namespace_says_what_it_enforces() {
    let declared = "[[namespace]]\nname = \"orders\"\ninjected = true\npod_security = \"restricted\"\nquota = true\n\
                    [[namespace]]\nname = \"plain\"";
    let declaration = with_namespaces("cni = true", declared).unwrap();
    let namespace = |name: &str, enforced: bool| Namespace {
        name: name.into(),
        injected: enforced,
        pod_security: enforced.then_some(PodSecurity::Restricted),
        quota: enforced,
    };
    assert_eq!(declaration.namespaces, [namespace("orders", true), namespace("plain", false)]);
    assert!(declaration.istio.cni && declaration.node_agents().cni);
}

#[test]
fn a_namespace_that_cannot_be_made_or_used_is_told_with_its_line() {
    let named = |name: &str| format!("[[namespace]]\nname = \"{name}\"");
    let secured = "injected = true\npod_security = ";
    for (namespaces, line, reason) in [
        (named("Orders"), "Orders", "no DNS label"),
        (format!("{}\n{}", named("orders"), named("orders")), "orders", "declared twice"),
        (named("istio-system"), "istio-system", "`up` makes the namespace `istio-system` itself"),
        (named("kube-node-lease"), "kube-node-lease", "`up` makes the namespace"),
        (named("meshproof-perf"), "meshproof-perf", "`up` makes the namespace"),
        (format!("{}\nquotas = true", named("orders")), "quotas", "unknown field `quotas`"),
        (format!("{}\npod_security = \"strict\"", named("orders")), "strict", "unknown variant `strict`"),
        (format!("{}\n{secured}\"restricted\"", named("orders")), "restricted", "set `cni = true` in [istio]"),
        (format!("{}\n{secured}\"baseline\"", named("orders")), "baseline", "set `cni = true` in [istio]"),
    ] {
        let (found, why) = with_namespaces("", &namespaces).unwrap_err();
        assert!(found.contains(line) && why.contains(reason), "{namespaces}: `{found}`: {why}");
    }
    let secured = |level: &str| format!("{}\n{secured}\"{level}\"", named("orders"));
    with_namespaces("", &secured("privileged")).unwrap();
    with_namespaces("cni = true", &secured("restricted")).unwrap();
    with_namespaces("", &format!("{}\npod_security = \"restricted\"", named("orders"))).unwrap();
}

#[test]
fn what_nodes_enforce_does_not_change_in_place_and_namespaces_are_only_added() {
    let old = Declaration::parse(&shipped("default")).unwrap();
    assert_eq!(old.node_agents(), NodeAgents { cni: false, network_policies: false });
    let mut new = with_namespaces("", "[[namespace]]\nname = \"orders\"").unwrap();
    assert_eq!(not_in_place(&old, &new), Vec::<String>::new());
    let mut enforcing = new.clone();
    enforcing.namespaces[0].quota = true;
    enforcing.namespaces[0].pod_security = Some(PodSecurity::Baseline);
    assert_eq!(not_in_place(&new, &enforcing), Vec::<String>::new());
    assert_eq!(not_in_place(&new, &old), ["namespace orders: declared, now not declared"]);
    new.istio.cni = true;
    new.clusters[1].network_policies = true;
    assert_eq!(new.node_agents(), NodeAgents { cni: true, network_policies: true });
    assert_eq!(
        not_in_place(&old, &new),
        ["Istio CNI: false, now true", "enforcement of network policies of cluster2: false, now true"]
    );
}

#[test]
fn the_number_of_clusters_is_bounded() {
    let text = shipped("default");
    let none = text.split("[[cluster]]").next().unwrap();
    assert!(Declaration::parse(none).unwrap_err().reason.contains("0 clusters are declared"));
    let one = format!("{none}[[cluster]]{}", text.split("[[cluster]]").nth(1).unwrap());
    assert!(Declaration::parse(&one).unwrap_err().reason.contains("remove [application]"));
    let many: String = (10..16).map(|n| {
        format!("[[cluster]]\nname = \"c{n}\"\nnetwork = \"n\"\npod_subnet = \"10.{n}.0.0/16\"\nservice_subnet = \"172.{}.0.0/16\"\n", n + 6)
    }).collect();
    let fault = Declaration::parse(&format!("networks = [\"10.231.0.0/24\"]\n{many}")).unwrap_err();
    assert!(fault.reason.contains("6 clusters are declared"), "{}", fault.reason);
}

#[test]
fn nodes_application_policy_and_aliases_change_in_place_and_the_rest_is_named() {
    let old = Declaration::parse(&shipped("default")).unwrap();
    let mut new = old.clone();
    new.clusters[0].nodes = 4;
    new.mesh.policy = Some(Mode::Strict);
    new.mesh.aliases = vec!["old.example".into()];
    new.application = Some(Application { layout: Layout::GlobalNamespace });
    assert_eq!(not_in_place(&old, &new), Vec::<String>::new());
    new.mesh.trust_domain = "corp.example".into();
    new.clusters[1].network = "network1".into();
    new.application = None;
    let named = not_in_place(&old, &new);
    assert_eq!(
        named,
        [
            "trust domain: cluster.local, now corp.example",
            "application: the boutique, now none",
            "network of cluster2: network2, now network1"
        ]
    );
    let third = Declaration::parse(&shipped("three")).unwrap();
    assert!(not_in_place(&old, &third).contains(&"clusters: cluster1, cluster2, now first, second, third".to_owned()));
}

#[test]
fn the_copy_outlives_being_named_as_the_declaration() {
    let directory = tempfile::tempdir().unwrap();
    Declaration::keep(&Declaration::default_path(), directory.path()).unwrap();
    std::fs::create_dir(directory.path().join("x")).unwrap();
    Declaration::keep(&directory.path().join("x/../declaration.toml"), directory.path()).unwrap();
    assert_eq!(
        Declaration::of_testbed(directory.path()).unwrap(),
        Some(Declaration::parse(&shipped("default")).unwrap())
    );
}
