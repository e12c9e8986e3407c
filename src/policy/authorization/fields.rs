//! Whether the fields of a rule match a call.

use std::net::IpAddr;

use ipnet::IpNet;

use super::call::{Call, HttpRequest};
use super::mesh::Mesh;
use super::pattern::{is_account, matches, matches_path};
use super::spec::{Condition, From, OperationField, SourceField, To};
use crate::identity::SpiffeId;

/// The domain that stands for the mesh's own trust domain in principals.
const OWN_DOMAIN: &str = "cluster.local";

/// How a field treats a call without the attribute, because the call is not HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnTcp {
    /// An ALLOW rule matches no call.
    Never,
    /// Other rules are as if the field were not there.
    Ignored,
}

/// What fields are compared with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) mesh: &'a Mesh,
    pub(super) call: &'a Call,
    /// Namespace of the policy.
    pub(super) namespace: &'a str,
    pub(super) on_tcp: OnTcp,
}

impl Context<'_> {
    pub(super) fn source(&self, from: &From) -> bool {
        from.source.iter().all(|(field, values)| self.source_field(*field, values))
    }

    fn source_field(&self, field: SourceField, values: &[String]) -> bool {
        use SourceField::*;
        match field {
            Principals => self.any(values, |value| self.is_principal(value)),
            NotPrincipals => !self.any(values, |value| self.is_principal(value)),
            Namespaces => self.any(values, |value| self.is_namespace(value)),
            NotNamespaces => !self.any(values, |value| self.is_namespace(value)),
            ServiceAccounts => self.any(values, |value| self.is_service_account(value)),
            NotServiceAccounts => !self.any(values, |value| self.is_service_account(value)),
            IpBlocks => self.any(values, |value| is_in(value, self.call.source_ip)),
            NotIpBlocks => !self.any(values, |value| is_in(value, self.call.source_ip)),
            RemoteIpBlocks => self.any(values, |value| is_in(value, self.call.remote_ip)),
            NotRemoteIpBlocks => !self.any(values, |value| is_in(value, self.call.remote_ip)),
            RequestPrincipals => self.of_http(|http| self.any(values, |value| is_request_principal(value, http))),
            NotRequestPrincipals => self.of_http(|http| !self.any(values, |value| is_request_principal(value, http))),
        }
    }

    pub(super) fn operation(&self, to: &To) -> bool {
        to.operation.iter().all(|(field, values)| self.operation_field(*field, values))
    }

    fn operation_field(&self, field: OperationField, values: &[String]) -> bool {
        use OperationField::*;
        let is_port = |value: &str| value.parse() == Ok(self.call.port);
        let is_host = |value: &str, http: &HttpRequest| matches(&value.to_lowercase(), &http.host.to_lowercase());
        let is_path = |value: &str, http: &HttpRequest| {
            self.mesh.normalization.path(&http.path).is_ok_and(|path| matches_path(value, &path))
        };
        match field {
            Ports => self.any(values, is_port),
            NotPorts => !self.any(values, is_port),
            Hosts => self.of_http(|http| self.any(values, |value| is_host(value, http))),
            NotHosts => self.of_http(|http| !self.any(values, |value| is_host(value, http))),
            Methods => self.of_http(|http| self.any(values, |value| matches(value, &http.method))),
            NotMethods => self.of_http(|http| !self.any(values, |value| matches(value, &http.method))),
            Paths => self.of_http(|http| self.any(values, |value| is_path(value, http))),
            NotPaths => self.of_http(|http| !self.any(values, |value| is_path(value, http))),
        }
    }

    pub(super) fn condition(&self, Condition { key, values, not_values }: &Condition) -> bool {
        let holds =
            |is: &dyn Fn(&str) -> bool| (values.is_empty() || self.any(values, is)) && !self.any(not_values, is);
        let of_http = |is: &dyn Fn(&str, &HttpRequest) -> bool| self.of_http(|http| holds(&|value| is(value, http)));
        match key.as_str() {
            "source.ip" => holds(&|value| is_in(value, self.call.source_ip)),
            "remote.ip" => holds(&|value| is_in(value, self.call.remote_ip)),
            "destination.ip" => holds(&|value| is_in(value, self.call.destination_ip)),
            "destination.port" => holds(&|value| value.parse() == Ok(self.call.port)),
            "source.principal" => holds(&|value| self.is_principal(value)),
            "source.namespace" => holds(&|value| self.is_namespace(value)),
            "source.serviceAccount" => holds(&|value| self.is_service_account(value)),
            "connection.sni" => {
                holds(&|value| self.call.server_name.as_deref().is_some_and(|name| matches(value, name)))
            }
            "request.auth.principal" => of_http(&is_request_principal),
            "request.auth.audiences" => of_http(&|value, http| {
                http.token.as_ref().is_some_and(|token| token.audiences.iter().any(|one| matches(value, one)))
            }),
            "request.auth.presenter" => of_http(&|value, http| {
                let presenter = http.token.as_ref().and_then(|token| token.presenter.as_deref());
                presenter.is_some_and(|presenter| matches(value, presenter))
            }),
            key => match (bracketed(key, "request.headers"), bracketed(key, "request.auth.claims")) {
                (Some(name), _) => of_http(&|value, http| is_header(value, &name.concat(), http)),
                (_, Some(claim)) => of_http(&|value, http| {
                    let values = http.token.as_ref().map(|token| token.values(&claim)).unwrap_or_default();
                    values.iter().any(|one| matches(value, one))
                }),
                _ => false,
            },
        }
    }

    fn any(&self, values: &[String], is: impl Fn(&str) -> bool) -> bool {
        values.iter().any(|value| is(value))
    }

    /// What a field of HTTP says of the call.
    fn of_http(&self, matches: impl FnOnce(&HttpRequest) -> bool) -> bool {
        match &self.call.http {
            Some(http) => matches(http),
            None => self.on_tcp == OnTcp::Ignored,
        }
    }

    /// A caller without mutual TLS has no principal, so only a negative field matches it.
    fn is_principal(&self, pattern: &str) -> bool {
        let Some(peer) = &self.call.peer else { return false };
        let names = match pattern.split_once('/') {
            // A principal in the mesh's own domain, or in one of its aliases, means the workload in any of them.
            Some((domain, rest)) if domain == OWN_DOMAIN || self.mesh.is_own(domain) => {
                self.mesh.domains().map(|own| format!("{own}/{rest}")).collect()
            }
            _ => vec![pattern.to_owned()],
        };
        names.iter().any(|name| matches(name, &principal(peer)))
    }

    fn is_namespace(&self, pattern: &str) -> bool {
        self.call.peer.as_ref().is_some_and(|peer| matches(pattern, peer.namespace()))
    }

    fn is_service_account(&self, pattern: &str) -> bool {
        let peer = self.call.peer.as_ref();
        peer.is_some_and(|peer| is_account(pattern, self.namespace, peer.namespace(), peer.service_account()))
    }
}

/// `source.principal`.
fn principal(peer: &SpiffeId) -> String {
    peer.to_string().trim_start_matches("spiffe://").to_owned()
}

fn is_request_principal(pattern: &str, http: &HttpRequest) -> bool {
    http.token.as_ref().is_some_and(|token| matches(pattern, &token.principal()))
}

/// Each value of a repeated header is compared by itself.
fn is_header(pattern: &str, name: &str, http: &HttpRequest) -> bool {
    let values = http.headers.get(&name.to_lowercase());
    values.is_some_and(|values| values.iter().any(|value| matches(pattern, value)))
}

/// Whether an address is in a block: an address, or a network such as `10.0.0.0/8`.
fn is_in(block: &str, address: Option<IpAddr>) -> bool {
    let block = block.parse::<IpNet>().or_else(|_| block.parse::<IpAddr>().map(IpNet::from));
    matches!((block, address), (Ok(block), Some(address)) if block.contains(&address))
}

/// The names in brackets after `prefix`: `[a][b]` is `a`, `b`.
fn bracketed<'a>(key: &'a str, prefix: &str) -> Option<Vec<&'a str>> {
    let names = key.strip_prefix(prefix)?.strip_prefix('[')?.strip_suffix(']')?;
    Some(names.split("][").collect())
}
