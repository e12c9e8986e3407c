//! What the suites can judge in a mesh.

use crate::record::{Record, Requirement, Write, fault, treatment};

/// A part of a suite, and what it requires.
struct Part {
    suite: &'static str,
    what: &'static str,
    requires: &'static [Requirement],
}

/// The parts of the suites. A test compares them with the sources of the suites.
const PARTS: &[Part] = &[
    Part {
        suite: "mtls",
        what: "calls within and between clusters: both ends authenticate each other",
        requires: &[Requirement::Probes, Requirement::AccessLog],
    },
    Part {
        suite: "mtls",
        what: "plaintext, and clients without a certificate of the mesh, are refused",
        requires: &[Requirement::Probes, Requirement::AccessLog],
    },
    Part {
        suite: "mtls",
        what: "services that are created now are answered from other clusters",
        requires: &[Requirement::Probes, Requirement::Clusters(2), Requirement::Write(Write::Namespaces)],
    },
    Part {
        suite: "mtls",
        what: "a PERMISSIVE namespace takes plaintext (the control)",
        requires: &[Requirement::Probes, Requirement::Write(Write::Namespaces)],
    },
    Part {
        suite: "mtls",
        what: "east-west gateways lead to exposed services only",
        requires: &[Requirement::Probes, Requirement::EastWest, Requirement::Write(Write::Namespaces)],
    },
    Part {
        suite: "mtls",
        what: "expired certificates and other trust domains are refused",
        requires: &[Requirement::Probes, Requirement::SigningKeys],
    },
    Part {
        suite: "mtls",
        what: "ingress gateways call as themselves",
        requires: &[Requirement::Probes, Requirement::Ingress, Requirement::AccessLog],
    },
    Part {
        suite: "audit",
        what: "every port of every workload takes mutual TLS only",
        requires: &[Requirement::Probes],
    },
    Part {
        suite: "audit",
        what: "each way in which a port may not is found (the control)",
        requires: &[Requirement::Probes, Requirement::Write(Write::Namespaces)],
    },
    Part {
        suite: "bench",
        what: "all but what is measured is frozen",
        requires: &[Requirement::Bench, Requirement::Fault(fault::PAUSE_CLUSTER), Requirement::Write(Write::Replicas)],
    },
    Part {
        suite: "authorization",
        what: "policies, paths, tokens and ports of unnamed protocol decide about requests",
        requires: &[Requirement::Probes, Requirement::AccessLog, Requirement::Write(Write::Namespaces)],
    },
    Part {
        suite: "authorization",
        what: "policies decide about connections, directly and through east-west gateways",
        requires: &[
            Requirement::Probes,
            Requirement::AccessLog,
            Requirement::EastWest,
            Requirement::Write(Write::Namespaces),
        ],
    },
    Part {
        suite: "authorization",
        what: "a client cannot forge its address through an ingress gateway",
        requires: &[
            Requirement::Probes,
            Requirement::AccessLog,
            Requirement::Ingress,
            Requirement::Write(Write::Namespaces),
        ],
    },
    Part {
        suite: "authorization",
        what: "advisories about names in certificates",
        requires: &[
            Requirement::Probes,
            Requirement::AccessLog,
            Requirement::SigningKeys,
            Requirement::Write(Write::Namespaces),
        ],
    },
    Part {
        suite: "traffic",
        what: "weights, matches, mirrors, faults, retries, time limits, and what proxies know",
        requires: &[Requirement::Probes, Requirement::AccessLog, Requirement::Write(Write::Namespaces)],
    },
    Part {
        suite: "traffic",
        what: "near servers are preferred, failed ones ejected, and limits refuse, over clusters",
        requires: &[
            Requirement::Probes,
            Requirement::AccessLog,
            Requirement::Clusters(2),
            Requirement::Write(Write::Namespaces),
        ],
    },
    Part {
        suite: "traffic",
        what: "gateways choose by name, and keep connections when a certificate changes",
        requires: &[
            Requirement::Probes,
            Requirement::AccessLog,
            Requirement::Write(Write::Namespaces),
            Requirement::Write(Write::Objects),
        ],
    },
    Part {
        suite: "diagnosis",
        what: "each fault of a workload, a policy or a service is attributed (breaks what it made)",
        requires: &[Requirement::Probes, Requirement::AccessLog, Requirement::Write(Write::Namespaces)],
    },
    Part {
        suite: "diagnosis",
        what: "a proxy's certificate of a foreign root is attributed",
        requires: &[Requirement::Probes, Requirement::Write(Write::Namespaces)],
    },
    Part {
        suite: "diagnosis",
        what: "a proxy's expired certificate is attributed",
        requires: &[Requirement::Probes, Requirement::SigningKeys, Requirement::Write(Write::Namespaces)],
    },
    Part {
        suite: "diagnosis",
        what: "a name that one cluster does not know is attributed",
        requires: &[Requirement::Probes, Requirement::Clusters(2), Requirement::Write(Write::Namespaces)],
    },
    Part {
        suite: "diagnosis",
        what: "a gateway that does not expose a service is attributed",
        requires: &[Requirement::Probes, Requirement::EastWest, Requirement::Write(Write::Namespaces)],
    },
    Part {
        suite: "diagnosis",
        what: "a gateway that is down is attributed (breaks the mesh)",
        requires: &[Requirement::Probes, Requirement::EastWest, Requirement::Write(Write::Replicas)],
    },
    Part {
        suite: "diagnosis",
        what: "a missing remote secret is attributed (breaks the mesh)",
        requires: &[Requirement::Probes, Requirement::EastWest, Requirement::Write(Write::Objects)],
    },
    Part {
        suite: "growth",
        what: "what one more service or policy costs a new sidecar, and istiod",
        requires: &[Requirement::Probes, Requirement::Write(Write::Namespaces)],
    },
    Part { suite: "growth", what: "what one more connection costs a sidecar", requires: &[Requirement::Bench] },
    Part {
        suite: "modes",
        what: "every mode of namespaces, workloads and ports, against every kind of client",
        requires: &[Requirement::Probes, Requirement::AccessLog, Requirement::Write(Write::Namespaces)],
    },
    Part {
        suite: "modes",
        what: "modes of the whole mesh (changes the root namespace)",
        requires: &[
            Requirement::Probes,
            Requirement::AccessLog,
            Requirement::Write(Write::Namespaces),
            Requirement::Write(Write::Objects),
        ],
    },
    Part {
        suite: "hidden",
        what: "each gateway, endpoint and istiod by itself, and what is left of pods that are gone",
        requires: &[Requirement::Probes, Requirement::Write(Write::Namespaces)],
    },
    Part {
        suite: "hidden",
        what: "each address of a gateway, and that calls to other networks go there",
        requires: &[Requirement::Probes, Requirement::EastWest],
    },
    Part {
        suite: "hidden",
        what: "a gateway or an istiod that is half dead is found (the controls)",
        requires: &[
            Requirement::Probes,
            Requirement::EastWest,
            Requirement::Write(Write::Namespaces),
            Requirement::Write(Write::Objects),
        ],
    },
    Part {
        suite: "identity",
        what: "no certificate of a proxy ends soon, and no leaf outlives its CA",
        requires: &[Requirement::Probes],
    },
    Part {
        suite: "identity",
        what: "leaves, intermediates and roots are replaced, and calls go on",
        requires: &[
            Requirement::Probes,
            Requirement::AccessLog,
            Requirement::Clusters(2),
            Requirement::Write(Write::Namespaces),
        ],
    },
    Part {
        suite: "identity",
        what: "a client of a former trust domain is accepted",
        requires: &[Requirement::Probes, Requirement::SigningKeys],
    },
    Part {
        suite: "identity",
        what: "an authority is renewed in a running istiod",
        requires: &[
            Requirement::Probes,
            Requirement::AccessLog,
            Requirement::Clusters(2),
            Requirement::ParentKeys,
            Requirement::Write(Write::Namespaces),
            Requirement::Write(Write::Objects),
        ],
    },
    Part {
        suite: "identity",
        what: "the token of a remote secret is renewed, and nothing is lost",
        requires: &[
            Requirement::Probes,
            Requirement::Clusters(2),
            Requirement::Write(Write::Namespaces),
            Requirement::Write(Write::Objects),
        ],
    },
    Part {
        suite: "tutorial",
        what: "the suite of the tutorial",
        requires: &[
            Requirement::Probes,
            Requirement::AccessLog,
            Requirement::Clusters(2),
            Requirement::Write(Write::Namespaces),
        ],
    },
    Part {
        suite: "ownership",
        what: "the next run puts back what a killed test left",
        requires: &[Requirement::Probes, Requirement::Write(Write::NodeLabels)],
    },
    Part {
        suite: "boutique",
        what: "the online boutique",
        requires: &[Requirement::Application("boutique"), Requirement::AccessLog],
    },
    Part { suite: "perf", what: "what sidecars and mutual TLS cost", requires: &[Requirement::Bench] },
    Part {
        suite: "perf",
        what: "what the TCP bypass saves",
        requires: &[Requirement::Bench, Requirement::Treatment(treatment::TCP_BYPASS)],
    },
    Part {
        suite: "perf",
        what: "what multi-buffer TLS saves",
        requires: &[Requirement::Bench, Requirement::Treatment(treatment::MULTIBUFFER_TLS)],
    },
    Part { suite: "perf", what: "that a delay of 2 ms is seen (the control)", requires: &[Requirement::Bench] },
];

/// Whether a part of a suite can be judged in a mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgeable {
    /// The suite, as in `cargo test --test SUITE`.
    pub suite: &'static str,
    /// What it judges.
    pub what: &'static str,
    /// What is missing. `None` if the part can be judged.
    pub missing: Option<String>,
}

/// What the suites can judge in the mesh of a record, and why not the rest.
pub fn judgeable(record: &Record) -> Vec<Judgeable> {
    let of = |part: &Part| {
        let lacking = record.requires(part.requires.iter().cloned()).err();
        let mut missing = lacking.map(|error| match error {
            crate::record::Error::NotDeclared { what } => what,
            other => other.to_string(),
        });
        // `mtls` dials the gateway of a route that nobody made. `authorization` makes a route of its own.
        if missing.is_none()
            && part.suite == "mtls"
            && part.requires.contains(&Requirement::Ingress)
            && !has_route(record)
        {
            missing = Some("a route of ingress gateways to the probes".into());
        }
        Judgeable { suite: part.suite, what: part.what, missing }
    };
    PARTS.iter().map(of).collect()
}

fn has_route(record: &Record) -> bool {
    let mut probes = record.clusters.iter().filter_map(|cluster| cluster.probes.as_ref());
    probes.any(|probes| probes.meshed.ingress_host.is_some())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;
    use crate::record::tests::{cluster, record};

    /// The kinds of requirements in a text, such as `Probes`.
    fn kinds(text: &str) -> BTreeSet<String> {
        let after = text.split("Requirement::").skip(1);
        after.map(|rest| rest.chars().take_while(char::is_ascii_alphanumeric).collect()).collect()
    }

    /// The text of a file, or of all files in a directory.
    fn text(path: &Path) -> String {
        match std::fs::read_dir(path) {
            Ok(entries) => entries.map(|entry| text(&entry.unwrap().path())).collect(),
            Err(_) => std::fs::read_to_string(path).unwrap(),
        }
    }

    #[test]
    fn the_parts_require_what_the_suites_require() {
        for (suite, source) in [
            ("authorization", "suites/src/authorization"),
            ("diagnosis", "suites/src/diagnosis"),
            ("growth", "suites/src/growth"),
            ("modes", "suites/src/modes"),
            ("mtls", "suites/src/mtls.rs"),
            ("ownership", "tests/ownership.rs"),
            ("tutorial", "tests/tutorial.rs"),
        ] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
            let source = text(&path);
            let parts = PARTS.iter().filter(|part| part.suite == suite).flat_map(|part| part.requires);
            let told: BTreeSet<String> = parts.flat_map(|one| kinds(&format!("Requirement::{one:?}"))).collect();
            assert_eq!(told, kinds(&source), "{}", path.display());
        }
    }

    #[test]
    fn what_is_missing_is_named_and_a_gateway_without_a_route_is_not_enough() {
        let mut mesh = record(vec![cluster("east"), cluster("west")]);
        let missing = |mesh: &Record, what: &str| {
            let parts = judgeable(mesh);
            parts.into_iter().find(|part| part.what.contains(what)).unwrap().missing
        };
        assert_eq!(missing(&mesh, "calls within"), None);
        mesh.capabilities.writes.clear();
        assert!(missing(&mesh, "PERMISSIVE").unwrap().contains("permission for creating namespaces"));
        assert!(missing(&mesh, "east-west").unwrap().contains("all clusters are on one network"));
        for cluster in &mut mesh.clusters {
            cluster.probes.as_mut().unwrap().meshed.ingress_host = None;
        }
        assert_eq!(missing(&mesh, "ingress").unwrap(), "a route of ingress gateways to the probes");
    }
}
