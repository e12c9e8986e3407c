//! Probes that are not there yet: what a suite needs to deploy them, beyond the names in the record.

use std::collections::BTreeMap;

use super::{Bench, BenchDeployment, Cluster, Probe, ProbeDeployment, ProbePorts, Probes};

impl ProbeDeployment {
    /// Namespace and name of the Secret with the credentials.
    pub fn secret(&self) -> Option<(&str, &str)> {
        self.pull_secret.as_deref()?.split_once('/')
    }
}

impl Probe {
    /// The labels that the selector asks for. `None` if the selector is not a list of `KEY=VALUE`.
    pub fn labels(&self) -> Option<BTreeMap<String, String>> {
        let label = |one: &str| {
            let (key, value) = one.split_once('=')?;
            let is_plain = !key.is_empty() && !key.ends_with('!') && !value.starts_with('=');
            is_plain.then(|| (key.trim().to_owned(), value.trim().to_owned()))
        };
        self.selector.split(',').map(label).collect()
    }

    /// The service's name, if the probe has a service. `None` also if the service is not in the probe's namespace.
    pub fn service_name(&self, domain: &str) -> Option<&str> {
        self.service.as_deref()?.strip_suffix(&format!(".{}.svc.{domain}", self.namespace))
    }
}

impl ProbePorts {
    /// The ports, with names by which Istio knows the protocols.
    pub fn named(&self) -> [(&'static str, u16); 6] {
        [
            ("http", self.http),
            ("http2", self.http2),
            ("grpc", self.grpc),
            ("tcp", self.tcp),
            ("tcp-server-first", self.server_first),
            ("tls", self.tls),
        ]
    }
}

impl Probes {
    /// The probes, each with whether it is in the mesh.
    pub fn each(&self) -> [(&Probe, bool); 3] {
        [(&self.meshed, true), (&self.caller, true), (&self.naked, false)]
    }
}

/// Why the probes cannot be deployed as these clusters name them.
pub(super) fn contradiction(clusters: &[Cluster]) -> Option<String> {
    let mut places: BTreeMap<&str, bool> = BTreeMap::new();
    for cluster in clusters {
        let Some((probes, deployment)) = cluster.to_deploy() else { continue };
        let of = |probe: &Probe| format!("the probe {}/{} of {}", probe.namespace, probe.deployment, cluster.name);
        for (probe, meshed) in probes.each() {
            if probe.labels().is_none() {
                return Some(format!("the selector of {} is not a list of KEY=VALUE: `{}`", of(probe), probe.selector));
            }
            if let Some(service) = &probe.service
                && probe.service_name(&cluster.domain).is_none_or(|name| name.is_empty() || name.contains('.'))
            {
                let wanted = format!("NAME.{}.svc.{}", probe.namespace, cluster.domain);
                return Some(format!("the service of {} is `{service}`, not {wanted}", of(probe)));
            }
            if *places.entry(&probe.namespace).or_insert(meshed) != meshed {
                let namespace = &probe.namespace;
                return Some(format!("namespace `{namespace}` has probes in the mesh and a probe outside the mesh"));
            }
        }
        if deployment.pull_secret.is_some() && deployment.secret().is_none() {
            return Some(format!("the pull secret of the probes of {} is not NAMESPACE/NAME", cluster.name));
        }
    }
    None
}

impl Bench {
    /// The namespaces, each with whether it is in the mesh.
    pub fn each(&self) -> [(&str, bool); 4] {
        [(&self.meshed, true), (&self.meshed_twin, true), (&self.naked, false), (&self.naked_twin, false)]
    }
}

impl Cluster {
    /// The workloads of performance comparisons that a suite must deploy, and how. They stand beside the probes.
    pub fn bench_to_deploy(&self) -> Option<(&Bench, &BenchDeployment)> {
        self.to_deploy()?;
        let bench = self.bench.as_ref()?;
        Some((bench, bench.deployment.as_ref()?))
    }

    /// The probes that a suite must deploy, and how.
    pub fn to_deploy(&self) -> Option<(&Probes, &ProbeDeployment)> {
        let probes = self.probes.as_ref()?;
        Some((probes, probes.deployment.as_ref()?))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::cluster;
    use super::*;

    fn deployed(change: impl FnOnce(&mut Probes)) -> Cluster {
        let mut cluster = cluster("east");
        let probes = cluster.probes.as_mut().unwrap();
        let image = "registry.example/probe:1".into();
        probes.deployment = Some(ProbeDeployment { image, pull_policy: None, pull_secret: None });
        change(probes);
        cluster
    }

    #[test]
    fn names_that_cannot_be_deployed_are_refused_with_their_place() {
        let refused = |change: fn(&mut Probes)| contradiction(&[deployed(change)]).unwrap();
        assert_eq!(contradiction(&[deployed(|_| {})]), None);
        for selector in ["app in (probe)", "app!=probe", "app", "", "app==probe"] {
            let mut cluster = deployed(|_| {});
            cluster.probes.as_mut().unwrap().meshed.selector = selector.into();
            let reason = contradiction(&[cluster]).unwrap();
            assert!(reason.contains("selector of the probe pinnacle/probe of east"), "{selector}: {reason}");
        }
        let elsewhere = refused(|probes| probes.meshed.service = Some("probe.other.svc.cluster.local".into()));
        assert!(elsewhere.ends_with("not NAME.pinnacle.svc.cluster.local"), "{elsewhere}");
        let both = refused(|probes| {
            probes.naked.namespace = "pinnacle".into();
            probes.naked.service = None;
        });
        assert!(both.contains("namespace `pinnacle` has probes in the mesh and a probe outside"), "{both}");
        let secret = refused(|probes| probes.deployment.as_mut().unwrap().pull_secret = Some("credentials".into()));
        assert!(secret.contains("is not NAMESPACE/NAME"), "{secret}");
    }

    #[test]
    fn probes_that_stand_already_may_have_any_names() {
        let mut cluster = cluster("east");
        cluster.probes.as_mut().unwrap().meshed.selector = "app in (probe)".into();
        assert_eq!(contradiction(&[cluster]), None);
    }

    #[test]
    fn labels_and_the_service_are_read_from_the_record() {
        let probes = cluster("east").probes.unwrap();
        let probe = Probe { selector: "app=probe,tier=front".into(), ..probes.meshed };
        let labels = [("app", "probe"), ("tier", "front")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(probe.labels(), Some(labels.into()));
        assert_eq!(probe.service_name("cluster.local"), Some("probe-east"));
        assert_eq!(probe.service_name("other.local"), None);
    }

    #[test]
    fn workloads_of_comparisons_are_deployed_only_beside_probes_that_are() {
        let with_image = |mut cluster: Cluster| {
            let image = "registry.example/load:1".into();
            cluster.bench.as_mut().unwrap().deployment = Some(BenchDeployment { image, pull_policy: None });
            cluster
        };
        let image = |cluster: Cluster| cluster.bench_to_deploy().map(|(_, bench)| bench.image.clone());
        assert_eq!(image(with_image(deployed(|_| {}))).as_deref(), Some("registry.example/load:1"));
        assert_eq!(image(with_image(cluster("east"))), None, "its namespaces are not meshproof's");
        assert_eq!(image(deployed(|_| {})), None, "there is no image");
    }
}
