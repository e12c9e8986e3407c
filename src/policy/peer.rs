//! The effective `PeerAuthentication` of a port, as Istio chooses it: the narrowest level that sets a mode.
//!
//! Source: <https://istio.io/latest/docs/reference/config/security/peer_authentication/> and
//! <https://istio.io/latest/docs/concepts/security/#peer-authentication>.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Deserialize;
use serde_json::Value;

use super::object::{Named, named, spec};

/// How a workload takes connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Mutual TLS only.
    Strict,
    /// Mutual TLS and plaintext.
    Permissive,
    /// Plaintext only.
    Disable,
}

impl Mode {
    /// The mode of this name. `None` for `UNSET`, which leaves the mode to the next level.
    pub fn of(name: &str) -> Option<Self> {
        match name {
            "STRICT" => Some(Self::Strict),
            "PERMISSIVE" => Some(Self::Permissive),
            "DISABLE" => Some(Self::Disable),
            _ => None,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Strict => "STRICT",
            Self::Permissive => "PERMISSIVE",
            Self::Disable => "DISABLE",
        })
    }
}

/// A `PeerAuthentication`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerAuthentication {
    object: Named,
    selector: BTreeMap<String, String>,
    mode: Option<Mode>,
    ports: BTreeMap<u16, Option<Mode>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    selector: Selector,
    mtls: MutualTls,
    port_level_mtls: BTreeMap<String, MutualTls>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Selector {
    match_labels: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct MutualTls {
    mode: String,
}

impl PeerAuthentication {
    /// Reads an object. `None` if its `spec` is not that of a `PeerAuthentication`.
    pub fn of(object: &Value) -> Option<Self> {
        let spec: Spec = spec(object)?;
        let ports = spec.port_level_mtls.iter();
        Some(Self {
            object: named(object),
            selector: spec.selector.match_labels,
            mode: Mode::of(&spec.mtls.mode),
            ports: ports.filter_map(|(port, mtls)| Some((port.parse().ok()?, Mode::of(&mtls.mode)))).collect(),
        })
    }

    fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        self.selector.iter().all(|(key, value)| labels.get(key) == Some(value))
    }

    fn is_in(&self, namespace: &str) -> bool {
        self.object.namespace == namespace
    }
}

impl fmt::Display for PeerAuthentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerAuthentication {}", self.object)
    }
}

/// The policies of a cluster.
#[derive(Debug, Clone)]
pub enum Policies {
    /// All of them.
    Known {
        /// Namespace of the mesh-wide policy.
        root: String,
        /// The policies.
        policies: Vec<PeerAuthentication>,
    },
    /// They could not be read, which is not the same as none.
    Unknown {
        /// Why.
        reason: String,
    },
}

/// The mode that policy gives a port, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// The mode.
    pub mode: Mode,
    /// The policy that sets it, or that there is none.
    pub by: String,
    /// What in the policies has no effect, although it reads as if it had.
    pub without_effect: Vec<String>,
}

impl Policies {
    /// The mode of a namespace as a whole: the mesh's, or the namespace's own. `None` if the policies are unknown.
    pub fn of_namespace(&self, namespace: &str) -> Option<Mode> {
        let Self::Known { root, policies } = self else { return None };
        let policies = policies.iter().filter(|policy| policy.selector.is_empty()).cloned().collect();
        let without_selectors = Self::Known { root: root.clone(), policies };
        Some(without_selectors.effective(namespace, &BTreeMap::new(), 0, &BTreeSet::new())?.mode)
    }

    /// The effective mode of `port` of a pod in `namespace` with these labels and ports. `None` if the policies are
    /// unknown.
    pub fn effective(
        &self,
        namespace: &str,
        labels: &BTreeMap<String, String>,
        port: u16,
        ports: &BTreeSet<u16>,
    ) -> Option<Effective> {
        let Self::Known { root, policies } = self else { return None };
        let everywhere = policies.iter().filter(|policy| policy.selector.is_empty());
        let mesh = oldest(everywhere.clone().filter(|policy| policy.is_in(root)));
        let of_namespace = oldest(everywhere.filter(|policy| policy.is_in(namespace) && namespace != root));
        let selecting: Vec<&PeerAuthentication> = policies
            .iter()
            .filter(|policy| !policy.selector.is_empty() && policy.is_in(namespace) && namespace != root)
            .filter(|policy| policy.selects(labels))
            .collect();
        let workload = oldest(selecting.iter().copied());
        let mut effective = Effective {
            mode: Mode::Permissive,
            by: "no PeerAuthentication: the mesh's default is PERMISSIVE".into(),
            without_effect: Vec::new(),
        };
        for (level, policy) in [("mesh", mesh), ("namespace", of_namespace), ("workload", workload)] {
            if let Some((policy, mode)) = policy.and_then(|policy| Some((policy, policy.mode?))) {
                effective.mode = mode;
                effective.by = format!("{policy} ({level}) is {mode}");
            }
        }
        if let Some(policy) = workload {
            match policy.ports.get(&port) {
                Some(Some(mode)) => {
                    effective.mode = *mode;
                    effective.by = format!("{policy} (port {port}) is {mode}");
                }
                _ => effective.without_effect.extend(unmatched(policy, ports)),
            }
        }
        let younger = selecting.iter().filter(|one| workload.is_some_and(|chosen| !std::ptr::eq(chosen, **one)));
        let younger = younger.map(|one| {
            let chosen = workload.map(ToString::to_string).unwrap_or_default();
            format!("{one} has no effect here: {chosen} selects the pod as well and is older")
        });
        effective.without_effect.extend(younger);
        Some(effective)
    }
}

/// The keys of `portLevelMtls` that are no ports of the pod.
fn unmatched<'a>(policy: &'a PeerAuthentication, ports: &'a BTreeSet<u16>) -> impl Iterator<Item = String> + 'a {
    let unmatched = policy.ports.keys().filter(|key| !ports.contains(*key));
    unmatched.map(move |key| format!("portLevelMtls key {key} of {policy} matches no container port"))
}

/// The policy that Istio chooses: the oldest. Of two created in the same second, the first by name.
fn oldest<'a>(policies: impl Iterator<Item = &'a PeerAuthentication>) -> Option<&'a PeerAuthentication> {
    policies.min_by(|one, other| one.object.age().cmp(&other.object.age()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policy(namespace: &str, name: &str, created: &str, spec: Value) -> PeerAuthentication {
        let object = json!({
            "apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication", "spec": spec,
            "metadata": { "name": name, "namespace": namespace, "creationTimestamp": created },
        });
        PeerAuthentication::of(&object).unwrap()
    }

    /// The effective mode of a port of the pod `app=cart` in `boutique`, whose only container port is 8080.
    fn effective(policies: Vec<PeerAuthentication>, port: u16) -> Effective {
        let known = Policies::Known { root: "istio-system".into(), policies };
        let labels = [("app".to_owned(), "cart".to_owned())].into();
        known.effective("boutique", &labels, port, &[8080].into()).unwrap()
    }

    const FIRST: &str = "2026-01-01T00:00:00Z";
    const SECOND: &str = "2026-01-01T00:00:02Z";

    fn of_cart(mode: &str) -> Value {
        json!({ "selector": { "matchLabels": { "app": "cart" } }, "mtls": { "mode": mode } })
    }

    #[test]
    fn without_a_policy_the_meshs_default_is_permissive() {
        let found = effective(Vec::new(), 8080);
        assert_eq!(found.mode, Mode::Permissive);
        assert!(found.by.contains("no PeerAuthentication"), "{}", found.by);
    }

    #[test]
    fn the_narrowest_level_that_sets_a_mode_wins_and_unset_inherits() {
        let mesh = policy("istio-system", "default", FIRST, json!({ "mtls": { "mode": "STRICT" } }));
        let unset = policy("boutique", "default", FIRST, json!({ "mtls": { "mode": "UNSET" } }));
        assert_eq!(effective(vec![mesh.clone(), unset], 8080).mode, Mode::Strict);
        let own = policy("boutique", "default", FIRST, json!({ "mtls": { "mode": "DISABLE" } }));
        assert_eq!(effective(vec![mesh.clone(), own], 8080).mode, Mode::Disable);
        let elsewhere = policy("other", "default", FIRST, json!({ "mtls": { "mode": "DISABLE" } }));
        assert_eq!(effective(vec![mesh, elsewhere], 8080).mode, Mode::Strict);
        let selecting_in_root = policy("istio-system", "cart", FIRST, of_cart("STRICT"));
        assert_eq!(effective(vec![selecting_in_root], 8080).mode, Mode::Permissive, "Istio ignores it");
    }

    #[test]
    fn of_two_policies_for_one_workload_the_oldest_counts_and_the_other_is_named() {
        for (old, young, owed) in [("PERMISSIVE", "STRICT", Mode::Permissive), ("STRICT", "PERMISSIVE", Mode::Strict)] {
            let policies = vec![
                policy("boutique", "cart-b", SECOND, of_cart(young)),
                policy("boutique", "cart-a", FIRST, of_cart(old)),
            ];
            let found = effective(policies, 8080);
            assert_eq!(found.mode, owed);
            assert!(found.by.contains("boutique/cart-a"), "{}", found.by);
            assert!(found.without_effect.iter().any(|line| line.contains("cart-b has no effect")), "{found:?}");
        }
    }

    #[test]
    fn a_port_of_the_service_in_place_of_the_containers_has_no_effect_and_is_named() {
        let by = |key: &str| {
            let mut spec = of_cart("PERMISSIVE");
            spec["portLevelMtls"] = json!({ key: { "mode": "STRICT" } });
            effective(vec![policy("boutique", "frontend-port", FIRST, spec)], 8080)
        };
        let wrong = by("80");
        assert_eq!(wrong.mode, Mode::Permissive);
        let hint = "portLevelMtls key 80 of PeerAuthentication boutique/frontend-port matches no container port";
        assert_eq!(wrong.without_effect, [hint]);
        let right = by("8080");
        assert_eq!((right.mode, right.without_effect.len()), (Mode::Strict, 0));
    }

    /// Red if the ports of a younger policy are merged into the oldest's.
    #[test]
    fn the_ports_of_a_younger_policy_are_not_merged() {
        let mut younger = of_cart("STRICT");
        younger["portLevelMtls"] = json!({ "8080": { "mode": "DISABLE" } });
        let policies =
            vec![policy("boutique", "young", SECOND, younger), policy("boutique", "old", FIRST, of_cart("STRICT"))];
        assert_eq!(effective(policies, 8080).mode, Mode::Strict);
    }

    /// Red if an unset port takes the namespace's mode in place of the workload's.
    #[test]
    fn a_port_without_a_mode_inherits_from_its_workload() {
        let mut spec = of_cart("DISABLE");
        spec["portLevelMtls"] = json!({ "8080": { "mode": "UNSET" } });
        let namespace = policy("boutique", "default", FIRST, json!({ "mtls": { "mode": "STRICT" } }));
        assert_eq!(effective(vec![policy("boutique", "cart", FIRST, spec), namespace], 8080).mode, Mode::Disable);
    }

    /// Red if the ports of a policy for a whole namespace count. Istio's validation refuses them, and istiod ignores them.
    #[test]
    fn ports_without_a_selector_have_no_effect() {
        let spec = json!({ "mtls": { "mode": "STRICT" }, "portLevelMtls": { "8080": { "mode": "DISABLE" } } });
        assert_eq!(effective(vec![policy("boutique", "default", FIRST, spec)], 8080).mode, Mode::Strict);
    }

    /// Red if the mode of a workload is taken for its namespace's.
    #[test]
    fn the_mode_of_a_namespace_leaves_out_its_workloads() {
        let policies = vec![
            policy("istio-system", "default", FIRST, json!({ "mtls": { "mode": "STRICT" } })),
            policy("boutique", "cart", FIRST, of_cart("DISABLE")),
            policy("open", "default", FIRST, json!({ "mtls": { "mode": "DISABLE" } })),
        ];
        let known = Policies::Known { root: "istio-system".into(), policies };
        assert_eq!(known.of_namespace("boutique"), Some(Mode::Strict));
        assert_eq!(known.of_namespace("open"), Some(Mode::Disable));
    }

    #[test]
    fn policies_that_cannot_be_read_are_not_none() {
        let unknown = Policies::Unknown { reason: "403".into() };
        assert_eq!(unknown.effective("boutique", &BTreeMap::new(), 8080, &BTreeSet::new()), None);
    }
}
