//! What an access log line tells of a call that failed.

use super::evidence::AccessEntry;
use super::proxy_config::policy_of;

impl AccessEntry {
    /// Whether Envoy's RBAC filters denied the request or connection by an authorization policy.
    pub fn is_denied_by_policy(&self) -> bool {
        let details = ["response_code_details", "connection_termination_details"].map(|field| self.get(field));
        details.into_iter().flatten().any(|details| details.starts_with("rbac_access_denied"))
    }

    /// The `AuthorizationPolicy` that denied the request or connection, as `NAMESPACE/NAME`. `None` if none did, or if no
    /// policy allowed it.
    pub fn denied_by(&self) -> Option<String> {
        let details = ["response_code_details", "connection_termination_details"].map(|field| self.get(field));
        details.into_iter().flatten().find_map(policy_of)
    }

    /// A call that failed, in words. `None` if it did not.
    pub fn failure(&self) -> Option<String> {
        let flags = self.get("response_flags");
        let code = self.get("response_code").filter(|code| *code != "0");
        let is_error = code.is_some_and(|code| code.starts_with(['4', '5']));
        if flags.is_none() && !is_error {
            return None;
        }
        let mut words = format!("call to {}", self.get("upstream_cluster").unwrap_or("nobody"));
        let fields = [
            ("at", "upstream_host"),
            ("from", "downstream_remote_address"),
            ("status", "response_code"),
            ("flags", "response_flags"),
            ("because", "response_code_details"),
            ("because", "connection_termination_details"),
            ("because", "upstream_transport_failure_reason"),
            ("because", "downstream_transport_failure_reason"),
        ];
        for (word, field) in fields {
            if let Some(value) = self.get(field).filter(|value| *value != "0") {
                words.push_str(&format!(", {word} {value}"));
            }
        }
        Some(words)
    }

    /// The port of the workload at which its proxy found nobody: the application does not listen.
    pub fn found_nobody_on(&self) -> Option<u16> {
        let failed = self.get("response_flags").is_some_and(|flags| flags.split(',').any(|flag| flag == "UF"));
        self.get("upstream_cluster").filter(|_| failed)?.strip_prefix("inbound|")?.split('|').next()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn entry(mut fields: Value) -> AccessEntry {
        fields["downstream_peer_cert"] = Value::Null;
        AccessEntry::parse(&fields.to_string()).unwrap()
    }

    #[test]
    fn a_denial_names_its_policy() {
        let details = "rbac_access_denied_matched_policy[ns[shop]-policy[no-strangers]-rule[0]]";
        let denied = entry(json!({ "response_code_details": details }));
        assert_eq!(denied.denied_by().as_deref(), Some("shop/no-strangers"));
        let details = "rbac_access_denied_matched_policy[istio-ext-authz-p-ns[shop]-policy[ask]-rule[0]-deny-due-to-bad-CUSTOM-action]";
        let no_provider = entry(json!({ "connection_termination_details": details }));
        assert_eq!(no_provider.denied_by().as_deref(), Some("shop/ask"));
        let none = entry(json!({ "response_code_details": "rbac_access_denied_matched_policy[none]" }));
        assert!(none.is_denied_by_policy() && none.denied_by().is_none());
    }

    #[test]
    fn only_a_failed_connection_to_the_workload_itself_says_that_nobody_listens() {
        let of = |cluster: &str, flags: &str| entry(json!({ "upstream_cluster": cluster, "response_flags": flags }));
        assert_eq!(of("inbound|8080||", "UF,URX").found_nobody_on(), Some(8080));
        assert_eq!(of("inbound|8080||", "-").found_nobody_on(), None);
        assert_eq!(of("outbound|8080||probe", "UF").found_nobody_on(), None);
    }

    #[test]
    fn a_failed_call_is_told_in_words_and_others_are_not() {
        let fields = json!({ "response_flags": "UF", "response_code": 503, "upstream_cluster": "outbound|80||a" });
        assert_eq!(entry(fields).failure().as_deref(), Some("call to outbound|80||a, status 503, flags UF"));
        assert_eq!(entry(json!({ "response_flags": "-", "response_code": 200 })).failure(), None);
    }
}
