//! SPIFFE IDs in Istio's format.

use std::fmt;
use std::str::FromStr;

use crate::identity::Error;

/// `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    trust_domain: String,
    namespace: String,
    service_account: String,
}

impl SpiffeId {
    /// The identity of a workload.
    pub fn workload(trust_domain: &str, namespace: &str, service_account: &str) -> Self {
        Self { trust_domain: trust_domain.into(), namespace: namespace.into(), service_account: service_account.into() }
    }

    /// The trust domain of the ID.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// The workload's namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The workload's service account.
    pub fn service_account(&self) -> &str {
        &self.service_account
    }

    /// The same workload in another trust domain.
    pub fn in_trust_domain(&self, trust_domain: &str) -> Self {
        Self { trust_domain: trust_domain.into(), ..self.clone() }
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/ns/{}/sa/{}", self.trust_domain, self.namespace, self.service_account)
    }
}

impl FromStr for SpiffeId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let parts = text.strip_prefix("spiffe://").map(|rest| rest.split('/').collect::<Vec<_>>());
        match parts.as_deref() {
            Some([domain, "ns", namespace, "sa", account])
                if ![domain, namespace, account].iter().any(|part| part.is_empty()) =>
            {
                Ok(Self::workload(domain, namespace, account))
            }
            _ => Err(Error {
                what: format!("`{text}`"),
                reason: "not of the form spiffe://<trust domain>/ns/<namespace>/sa/<service account>".into(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_as_written() {
        let id = SpiffeId::workload("cluster.local", "pinnacle", "probe-cluster1");
        assert_eq!(id.to_string(), "spiffe://cluster.local/ns/pinnacle/sa/probe-cluster1");
        assert_eq!(id.to_string().parse::<SpiffeId>().unwrap(), id);
    }

    #[test]
    fn what_is_not_exactly_one_is_refused() {
        for text in [
            "",
            "spiffe://cluster.local",
            "https://cluster.local/ns/a/sa/b",
            "spiffe:///ns/a/sa/b",
            "spiffe://cluster.local/ns//sa/b",
            "spiffe://cluster.local/ns/a/sa/b/c",
            "spiffe://cluster.local/sa/a/ns/b",
        ] {
            let error = text.parse::<SpiffeId>().unwrap_err().to_string();
            assert!(error.contains(&format!("`{text}`")), "{error}");
        }
    }
}
