//! A call, foretold: what leaves the client's end, who takes it at the server's, and how that ends.
//!
//! Sources: <https://istio.io/latest/docs/concepts/security/#mutual-tls-authentication>,
//! <https://istio.io/latest/docs/ops/configuration/traffic-management/tls-configuration/>,
//! <https://istio.io/latest/docs/ops/deployment/application-requirements/#server-first-protocols> and
//! <https://istio.io/latest/docs/setup/install/multicluster/>. Where these say nothing, istiod's own code decides:
//! `cluster_tls.go`, `mtls_checker.go`, `ep_filters.go` and `filterchain_options.go` of `istio.io/istio`.

use super::outcome::{Ending, Flag, Speech};
use super::parties::{Caller, Capture, Client, Server, Service};
use super::peer::{Mode, Policies};
use super::rule::{self, ClientTls, DestinationRule};

/// What istiod of one cluster reads. Only the objects in its own cluster count.
#[derive(Debug, Clone)]
pub struct Configuration {
    /// The `PeerAuthentication`s. They name the root namespace.
    pub policies: Policies,
    /// The `DestinationRule`s.
    pub rules: Vec<DestinationRule>,
    /// Kubernetes' DNS domain.
    pub domain: String,
}

/// A call to a service.
#[derive(Debug, Clone)]
pub struct Call<'a> {
    /// What is spoken.
    pub speech: Speech,
    /// Who calls.
    pub caller: &'a Caller,
    /// What is called.
    pub service: &'a Service,
    /// Who answers.
    pub server: &'a Server,
    /// The east-west gateway in the server's cluster, if the server is on another network. It is a client as well.
    pub through: Option<&'a Client>,
    /// The configuration in the caller's cluster.
    pub at_caller: &'a Configuration,
    /// The configuration in the server's cluster.
    pub at_server: &'a Configuration,
}

/// What leaves the client's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// What the application says, as it is.
    Plaintext,
    /// TLS with the mesh's certificates.
    MutualTls,
    /// TLS without a client certificate.
    Tls,
    /// Nothing: the client's proxy knows no endpoint.
    Nothing,
}

/// How a call must end, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foretold {
    /// How it ends.
    pub ending: Ending,
    /// What leaves the client's end.
    pub sent: Sent,
    /// The objects that decide.
    pub why: Vec<String>,
}

/// What becomes of a connection at the server's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    /// The proxy authenticates the client.
    Authenticated,
    /// The application gets what was sent.
    PassedOn,
    /// The proxy has no filter chain for it.
    NoChain,
    /// The proxy asks for a client certificate, and gets none.
    NoCertificate,
    /// The proxy waits for the first bytes.
    Awaited,
    /// The east-west gateway leads nowhere.
    NotRouted,
}

/// Foretells how a call ends. `None` if the policies are unknown.
pub fn foretell(call: &Call<'_>) -> Option<Foretold> {
    let Server { namespace, labels, port, ports, capture } = call.server;
    let at_server = call.at_server.policies.effective(namespace, labels, *port, ports)?;
    let (sent, mut why) = sent(call)?;
    if *capture == Capture::Sidecar {
        why.push(at_server.by);
    }
    why.extend(at_server.without_effect);
    let ending = match sent {
        Sent::Nothing => Ending::Unavailable(Flag::NoEndpoint),
        sent => ending(call, sent, taken(call, sent, at_server.mode)),
    };
    Some(Foretold { ending, sent, why })
}

/// What leaves the client's end, and why.
fn sent(call: &Call<'_>) -> Option<(Sent, Vec<String>)> {
    if call.service.renamed {
        return Some((Sent::Nothing, vec!["the port has another name in the server's cluster".into()]));
    }
    let Caller::Proxied(client) = call.caller else {
        return Some((Sent::Plaintext, vec!["the client has no proxy".into()]));
    };
    let Configuration { policies, rules, domain } = call.at_caller;
    let Policies::Known { root, .. } = policies else { return None };
    let rule = rule::choose(rules, client, call.service, root, domain);
    let by_rule = rule.and_then(|rule| Some((rule, rule.mode_of(call.service.port)?)));
    let Some((rule, mode)) = by_rule else { return automatic(call) };
    let why = vec![format!("{rule} of the caller's cluster sets TLS mode {mode}")];
    let sent = match mode {
        // Without the mesh's TLS there is no server name by which a gateway could route.
        ClientTls::Disable | ClientTls::Simple | ClientTls::Mutual if call.through.is_some() => Sent::Nothing,
        ClientTls::IstioMutual if call.through.is_some() && call.server.capture == Capture::NoSidecar => Sent::Nothing,
        ClientTls::Disable => Sent::Plaintext,
        ClientTls::Simple | ClientTls::Mutual => Sent::Tls,
        ClientTls::IstioMutual => Sent::MutualTls,
    };
    Some((sent, why))
}

/// What a client sends that no rule tells how: mutual TLS to a server with a sidecar that takes it.
fn automatic(call: &Call<'_>) -> Option<(Sent, Vec<String>)> {
    let Server { namespace, labels, port, ports, capture } = call.server;
    let policies = &call.at_caller.policies;
    let known = policies.effective(namespace, labels, *port, ports)?;
    let whole = policies.of_namespace(&call.service.namespace)?;
    let takes_tls = *capture != Capture::NoSidecar && known.mode != Mode::Disable;
    let by_gateway = matches!(call.caller, Caller::Proxied(client) if client.is_gateway);
    let headless = call.service.headless && !by_gateway;
    let (sent, why) = match (whole, takes_tls, headless, call.through.is_some()) {
        (_, false, false, true) => (Sent::Nothing, "only endpoints that take mutual TLS are known on other networks"),
        (_, _, true, true) => (Sent::Nothing, "a headless service leads to the pods of the caller's own network"),
        (Mode::Disable, ..) => (Sent::Plaintext, "the mode of the service's whole namespace turns automatic TLS off"),
        _ if *capture == Capture::NoSidecar => (Sent::Plaintext, "the server has no sidecar"),
        (_, false, false, _) => (Sent::Plaintext, "automatic TLS: the server takes none"),
        _ => (Sent::MutualTls, "automatic TLS: the server has a sidecar"),
    };
    Some((sent, vec![why.into()]))
}

/// What becomes at the server's end of what was sent.
fn taken(call: &Call<'_>, sent: Sent, mode: Mode) -> Taken {
    let Server { capture, .. } = call.server;
    if let Some(gateway) = call.through {
        if sent != Sent::MutualTls {
            return Taken::NoChain;
        }
        if *capture == Capture::NoSidecar || mode == Mode::Disable || !routes(call, gateway) {
            return Taken::NotRouted;
        }
    }
    if *capture != Capture::Sidecar {
        return Taken::PassedOn;
    }
    match (mode, sent) {
        (Mode::Disable, _) => Taken::PassedOn,
        (_, Sent::MutualTls) => Taken::Authenticated,
        (_, Sent::Plaintext) if call.speech == Speech::ServerFirst => Taken::Awaited,
        (Mode::Strict, Sent::Plaintext) if call.speech == Speech::Tls => Taken::NoCertificate,
        (Mode::Strict, Sent::Tls) => Taken::NoCertificate,
        (Mode::Strict, _) => Taken::NoChain,
        // A port that is declared as HTTP takes plaintext and the mesh's TLS, and no other.
        (Mode::Permissive, Sent::Tls) if call.speech == Speech::Http => Taken::NoChain,
        (Mode::Permissive, _) => Taken::PassedOn,
    }
}

/// Whether the rule that counts for the east-west gateway lets it know of endpoints that take mutual TLS.
fn routes(call: &Call<'_>, gateway: &Client) -> bool {
    let Configuration { policies, rules, domain } = call.at_server;
    let Policies::Known { root, .. } = policies else { return false };
    let rule = rule::choose(rules, gateway, call.service, root, domain);
    rule.and_then(|rule| rule.mode_of(call.service.port)).is_none_or(|mode| mode == ClientTls::IstioMutual)
}

/// How a call ends, by what was sent and what became of it.
fn ending(call: &Call<'_>, sent: Sent, taken: Taken) -> Ending {
    let naked = *call.caller == Caller::Naked;
    match (taken, sent) {
        (Taken::Authenticated, _) => Ending::MutualTls,
        (Taken::PassedOn, Sent::Plaintext) => Ending::Plaintext,
        (Taken::PassedOn, sent) => misread(call.speech, sent),
        (Taken::NotRouted, _) => Ending::Unavailable(Flag::ConnectionFailed),
        (Taken::Awaited, _) => Ending::Silence,
        (Taken::NoCertificate, Sent::Plaintext) => Ending::Alert,
        // In TLS 1.3 the client has finished its handshake when the server asks for more.
        (Taken::NoCertificate, _) => Ending::Unavailable(Flag::ConnectionEnded),
        (Taken::NoChain, _) if naked => Ending::Reset,
        (Taken::NoChain, Sent::Plaintext) => Ending::Unavailable(Flag::ConnectionEnded),
        (Taken::NoChain, _) => Ending::Unavailable(Flag::ConnectionFailed),
    }
}

/// How a call ends whose TLS reaches an application in place of its protocol.
fn misread(speech: Speech, sent: Sent) -> Ending {
    match (speech, sent) {
        // A line server waits for the end of a line, and a TLS server finds TLS where its protocol should be.
        (Speech::Tcp, _) | (Speech::Tls, Sent::Tls) => Ending::Unreadable,
        // What answers is no TLS, or no TLS of the mesh.
        _ => Ending::Unavailable(Flag::ConnectionFailed),
    }
}

#[cfg(test)]
mod tests;
