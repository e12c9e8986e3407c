use super::*;
use crate::record::tests::cluster;

/// A cluster whose probes a suite must deploy.
fn to_deploy(name: &str) -> record::Cluster {
    let mut cluster = cluster(name);
    let probes = cluster.probes.as_mut().unwrap();
    probes.deployment = Some(ProbeDeployment {
        image: "registry.example/probe:1".into(),
        pull_policy: Some("Never".into()),
        pull_secret: Some("vault/registry".into()),
    });
    cluster
}

fn pod(deployment: &Deployment) -> &PodSpec {
    deployment.spec.as_ref().unwrap().template.spec.as_ref().unwrap()
}

#[test]
fn every_container_complies_with_pod_security_restricted_and_has_limits() {
    let cluster = to_deploy("east");
    for deployment in Plan::of(&cluster).unwrap().deployments() {
        let pod = pod(&deployment);
        let security = pod.security_context.as_ref().unwrap();
        assert_eq!(security.run_as_non_root, Some(true));
        assert_eq!(security.seccomp_profile.as_ref().unwrap().type_, "RuntimeDefault");
        assert!(security.run_as_user.is_none_or(|user| user != 0));
        assert!(pod.host_network.is_none() && pod.host_pid.is_none() && pod.host_ipc.is_none());
        assert!(pod.volumes.is_none() && pod.init_containers.is_none());
        for container in &pod.containers {
            let security = container.security_context.as_ref().unwrap();
            assert_eq!(security.allow_privilege_escalation, Some(false));
            assert!(security.privileged.is_none() && security.run_as_non_root == Some(true));
            let capabilities = security.capabilities.as_ref().unwrap();
            assert_eq!(capabilities.drop.as_deref(), Some(["ALL".to_owned()].as_slice()));
            assert!(capabilities.add.is_none());
            assert!(container.ports.iter().flatten().all(|port| port.host_port.is_none()));
            let resources = container.resources.as_ref().unwrap();
            for amounts in [&resources.requests, &resources.limits] {
                let amounts = amounts.as_ref().unwrap();
                assert!(["cpu", "memory"].iter().all(|name| amounts.contains_key(*name)), "{amounts:?}");
            }
        }
    }
}

#[test]
fn what_is_deployed_has_the_names_and_the_labels_of_the_record() {
    let cluster = to_deploy("east");
    let plan = Plan::of(&cluster).unwrap();
    let deployments = plan.deployments();
    for (deployment, (probe, meshed)) in deployments.iter().zip(plan.probes.each()) {
        let metadata = &deployment.metadata;
        assert_eq!(metadata.name.as_ref(), Some(&probe.deployment));
        assert_eq!(metadata.namespace.as_ref(), Some(&probe.namespace));
        assert_eq!(metadata.labels, Some(labels()));
        let spec = deployment.spec.as_ref().unwrap();
        let labels = spec.template.metadata.as_ref().unwrap().labels.as_ref().unwrap();
        let wanted = probe.labels().unwrap();
        assert!(wanted.iter().all(|(key, value)| labels.get(key) == Some(value)), "{labels:?}");
        assert_eq!(spec.selector.match_labels.as_ref(), Some(&wanted));
        assert_eq!(labels.contains_key(&evidence_label().key), meshed);
        assert_eq!(pod(deployment).containers[0].name, plan.probes.container);
    }
    let accounts: Vec<_> = plan.accounts().into_iter().map(|account| account.metadata.name.unwrap()).collect();
    assert_eq!(accounts, ["probe-east", "caller-east", "probe-east"]);
    let services = [plan.meshed_service(), plan.naked_service()].map(Option::unwrap);
    let named = services.each_ref().map(|service| service.metadata.name.as_deref().unwrap());
    assert_eq!(named, ["probe-east", "probe-naked-east"]);
    for service in services {
        let spec = service.spec.unwrap();
        assert!(spec.type_.is_none() && spec.ports.unwrap().iter().all(|port| port.node_port.is_none()));
        assert_eq!(spec.selector.unwrap()[CLUSTER_LABEL], "east");
    }
}

#[test]
fn the_image_is_pulled_as_the_record_says() {
    let cluster = to_deploy("east");
    let deployments = Plan::of(&cluster).unwrap().deployments();
    let pod = pod(&deployments[0]);
    assert_eq!(pod.containers[0].image.as_deref(), Some("registry.example/probe:1"));
    assert_eq!(pod.containers[0].image_pull_policy.as_deref(), Some("Never"));
    assert_eq!(pod.image_pull_secrets.as_ref().unwrap()[0].name, PULL_SECRET);
}

#[test]
fn a_clusters_name_becomes_a_legal_part_of_a_name_and_stays_unique() {
    assert_eq!(legal("east"), "east");
    let cloud = ["gke_project_zone_name", "gke-project_zone_name", "Kubernetes", "arn:aws:eks:eu:1:cluster/prod-"];
    let long = "a-cluster-with-a-name-that-is-much-longer-than-it-should-be";
    let names: Vec<String> = cloud.into_iter().chain([long]).map(legal).collect();
    for name in &names {
        let is_legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        assert!(name.len() <= 40 && name.chars().all(is_legal), "{name}");
        assert!(!name.starts_with('-') && !name.ends_with('-'), "{name}");
    }
    assert_ne!(names[0], names[1]);
}

#[test]
fn probes_that_stand_already_are_not_deployed() {
    assert!(Plan::of(&cluster("east")).is_none());
}
