//! Names of the probes that suites deploy.

use meshproof_probe::Protocol;

use crate::probe::deploy::legal;
use crate::record::{Bench, BenchDeployment, Probe, ProbeDeployment, ProbePorts, Probes};

/// Namespaces of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// Beginning of the names of all namespaces that suites create.
    pub prefix: String,
    /// Of the probes in the mesh.
    pub inside: String,
    /// Of the naked probe, and of the Lease.
    pub outside: String,
}

impl Default for Names {
    fn default() -> Self {
        Self::with_prefix("meshproof")
    }
}

impl Names {
    /// Namespaces whose names begin with `prefix`.
    pub fn with_prefix(prefix: &str) -> Self {
        Self { prefix: prefix.into(), inside: format!("{prefix}-inside"), outside: format!("{prefix}-outside") }
    }

    /// All namespaces, also those for performance comparisons.
    pub fn all(&self) -> Vec<String> {
        let bench = self.bench(None);
        let of_bench = bench.each().map(|(namespace, _)| namespace.to_owned());
        [self.inside.clone(), self.outside.clone()].into_iter().chain(of_bench).collect()
    }

    /// The namespaces for performance comparisons. With `deployment`, the first suite makes them.
    pub fn bench(&self, deployment: Option<BenchDeployment>) -> Bench {
        let of = |name: &str| format!("{}-bench-{name}", self.prefix);
        Bench {
            meshed: of("meshed"),
            meshed_twin: of("meshed-twin"),
            naked: of("naked"),
            naked_twin: of("naked-twin"),
            deployment,
        }
    }

    /// The probes of the cluster `cluster`, whose services are in `domain`. With `deployment`, the first suite deploys
    /// them.
    pub fn probes(&self, cluster: &str, domain: &str, deployment: Option<ProbeDeployment>) -> Probes {
        let service = |name: &str, namespace: &str| Some(format!("{name}-{}.{namespace}.svc.{domain}", legal(cluster)));
        let probe = |namespace: &str, deployment: &str, service: Option<String>| Probe {
            namespace: namespace.into(),
            deployment: deployment.into(),
            selector: format!("app={deployment}"),
            service,
            ingress_host: None,
        };
        Probes {
            container: "probe".into(),
            ports: ProbePorts {
                http: Protocol::Http1.port(),
                http2: Protocol::Http2.port(),
                grpc: Protocol::Grpc.port(),
                tcp: Protocol::Tcp.port(),
                server_first: Protocol::ServerFirst.port(),
                tls: Protocol::Tls.port(),
            },
            meshed: probe(&self.inside, "probe", service("probe", &self.inside)),
            caller: probe(&self.inside, "caller", None),
            naked: probe(&self.outside, "probe", service("probe-naked", &self.outside)),
            deployment,
        }
    }
}
