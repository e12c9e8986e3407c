//! Says why a cluster cannot be reached, and which field to change.

use std::error::Error as StdError;
use std::time::Duration;

use http::StatusCode;
use kube::client::{AuthError, RustlsTlsError};
use kube::config::{KubeconfigError, LoadDataError};
use rustls::CertificateError;

use super::error::{Entry, Error, Shadowed};
use super::recipe::{BUSY_BOUND, Recipe, Source, is_busy};

/// The error for a client that cannot be made.
pub(super) fn making(recipe: &Recipe, by_plugin: bool, error: kube::Error) -> Error {
    let of = &recipe.of;
    let certificate =
        if of.user.client_certificate_data.is_some() { "client-certificate-data" } else { "client-certificate" };
    let key = if of.user.client_key_data.is_some() { "client-key-data" } else { "client-key" };
    let (certificate, key) = if by_plugin { ("exec", "exec") } else { (certificate, key) };
    let (place, reason) = match &error {
        kube::Error::InferKubeconfig(KubeconfigError::LoadClientCertificate(error)) => {
            (of.of_user(certificate), unread(error))
        }
        kube::Error::InferKubeconfig(KubeconfigError::LoadClientKey(error)) => (of.of_user(key), unread(error)),
        kube::Error::RustlsTls(RustlsTlsError::MissingCertificate) => {
            (of.of_user(certificate), "there is no certificate in it".into())
        }
        kube::Error::RustlsTls(RustlsTlsError::AddRootCertificate(error)) => match &recipe.authority {
            Some(authority) => (authority.place.clone(), error.to_string()),
            None => {
                let reason = format!("it is missing, and this machine has no root certificates ({error})");
                (of.of_cluster("certificate-authority"), reason)
            }
        },
        kube::Error::RustlsTls(error) => (of.of_user(key), format!("the key and its certificate: {error}")),
        kube::Error::Auth(AuthError::AuthExec(reason)) => (of.of_user("auth-provider"), reason.clone()),
        kube::Error::Auth(error) => (of.of_user("user"), error.to_string()),
        other => (of.of_cluster("server"), other.to_string()),
    };
    of.wrong(place, reason)
}

fn unread(error: &LoadDataError) -> String {
    match error {
        LoadDataError::NoBase64DataOrFile => "it is missing: a client certificate and its key belong together".into(),
        LoadDataError::ReadFile(error, file) => format!("{}: {error}", file.display()),
        LoadDataError::DecodeBase64(error) => format!("not base64: {error}"),
    }
}

/// The error of the first request. `None` if the API server answered and knows the user.
pub(super) fn first_answer(recipe: &Recipe, shadowed: &[Shadowed], error: kube::Error) -> Option<Error> {
    let context = recipe.of.context.clone();
    let server = recipe.of.server().to_owned();
    let kube::Error::Api(status) = &error else { return Some(no_answer(recipe, error)) };
    let said = if status.message.is_empty() { &status.reason } else { &status.message };
    let via = via(recipe);
    match StatusCode::from_u16(status.code) {
        // The user is known, and may do other things.
        Ok(StatusCode::FORBIDDEN) => None,
        Ok(StatusCode::UNAUTHORIZED) => Some(Error::Unauthorized {
            context,
            server,
            user: user(recipe),
            reason: unauthorized(recipe, shadowed, said),
        }),
        Ok(code) if is_busy(code) => {
            let reason = format!("{said} ({})", status.code);
            Some(Error::Busy { context, server, bound: BUSY_BOUND, reason })
        }
        _ => {
            let reason = format!("it answers {} to /version: is this the URL of a Kubernetes API server?", status.code);
            Some(Error::Unreachable { context, server, via, reason })
        }
    }
}

/// The error for an API server that does not answer in time.
pub(super) fn silence(recipe: &Recipe, bound: Duration) -> Error {
    let reason = format!("nothing within {bound:?}");
    unreachable(recipe, reason)
}

fn unreachable(recipe: &Recipe, reason: String) -> Error {
    let (context, server) = (recipe.of.context.clone(), recipe.of.server().to_owned());
    match &recipe.proxy {
        Some(proxy) => Error::Proxy { context, server, proxy: proxy.to_string(), reason },
        None => Error::Unreachable { context, server, via: String::new(), reason },
    }
}

fn no_answer(recipe: &Recipe, error: kube::Error) -> Error {
    let causes = causes(&error);
    // Renewing the credentials failed.
    if let Some(own) = causes.iter().find_map(|cause| cause.downcast_ref::<Error>()) {
        return own.clone();
    }
    if let Some(tls) = causes.iter().find_map(|cause| cause.downcast_ref::<rustls::Error>()) {
        let (context, server, via) = (recipe.of.context.clone(), recipe.of.server().to_owned(), via(recipe));
        return Error::Tls { context, server, via, reason: untrusted(recipe, tls) };
    }
    if matches!(error, kube::Error::SerdeError(_)) {
        return unreachable(recipe, "what answers there is not a Kubernetes API server".into());
    }
    unreachable(recipe, chain(&causes))
}

/// The error and its causes, the outermost first.
fn causes<'a>(error: &'a (dyn StdError + 'static)) -> Vec<&'a (dyn StdError + 'static)> {
    let (mut all, mut last) = (vec![error], error);
    loop {
        // An I/O error's `source` skips the error that it wraps.
        let wrapped = last.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let wrapped = wrapped.map(|inner| inner as &(dyn StdError + 'static));
        let Some(next) = wrapped.or_else(|| last.source()) else { return all };
        all.push(next);
        last = next;
    }
}

/// The causes as one line, without the wrapper of the client and without repetition.
fn chain(causes: &[&(dyn StdError + 'static)]) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in &causes[1..] {
        let text = cause.to_string();
        if !parts.iter().any(|part| part.contains(&text)) {
            parts.push(text);
        }
    }
    if parts.len() > 1 {
        parts.remove(0);
    }
    if parts.is_empty() { causes.iter().map(ToString::to_string).collect() } else { parts.join(": ") }
}

fn via(recipe: &Recipe) -> String {
    recipe.proxy.as_ref().map(|proxy| format!(" through the proxy {proxy}")).unwrap_or_default()
}

fn user(recipe: &Recipe) -> String {
    match &recipe.of.user_name {
        Some(name) => format!("user `{name}` in {}", recipe.of.user_file.display()),
        None => "no user: the context names none".into(),
    }
}

fn unauthorized(recipe: &Recipe, shadowed: &[Shadowed], said: &str) -> String {
    let user = recipe.of.user_name.as_deref();
    let cluster = recipe.of.cluster_name.as_str();
    let hides = |one: &&Shadowed| match one.entry {
        Entry::User => user == Some(one.name.as_str()),
        Entry::Cluster => one.name == cluster,
        Entry::Context => one.name == recipe.of.context,
    };
    if let Some(shadowed) = shadowed.iter().find(hides) {
        return shadowed.to_string();
    }
    let likely = match &recipe.source {
        Source::Kubeconfig => "the credentials have ended, or belong to another cluster".to_owned(),
        Source::File(file) => format!("the token in {} has ended, or belongs to another cluster", file.display()),
        Source::Plugin(_) => "the plugin's credentials are not valid here: sign in again by its own means".to_owned(),
    };
    format!("{likely} (the API server says: {said})")
}

/// What is wrong with TLS, and which field to change.
fn untrusted(recipe: &Recipe, error: &rustls::Error) -> String {
    let proxied = match &recipe.proxy {
        Some(proxy) if proxy.url.scheme_str() == Some("https") => {
            "; a proxy with https must itself have a certificate from the cluster's certificate authority"
        }
        Some(_) => "; or the proxy answers in the API server's place",
        None => "",
    };
    match error {
        // A CA of the same name with another key: its cluster was made anew.
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            unknown_issuer(recipe, proxied)
        }
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => {
            let place = recipe.of.of_cluster("tls-server-name");
            format!("the server's certificate has another name ({error}): set {place} to one that it has{proxied}")
        }
        rustls::Error::InvalidCertificate(_) => format!("the server's certificate is not valid: {error}{proxied}"),
        rustls::Error::AlertReceived(alert) => {
            format!(
                "the server refuses the handshake ({alert:?}), perhaps for the client certificate of {}",
                user(recipe)
            )
        }
        rustls::Error::InvalidMessage(_) => format!("what listens there does not speak TLS ({error})"),
        other => format!("{other}{proxied}"),
    }
}

fn unknown_issuer(recipe: &Recipe, proxied: &str) -> String {
    match &recipe.authority {
        Some(authority) if !authority.leaves.is_empty() => format!(
            "{} is not the certificate of a CA: `{}` is a server's own; put the certificate of the CA that signed it \
                 there{proxied}",
            authority.place,
            authority.leaves.join("`, `")
        ),
        Some(authority) => {
            format!(
                "the server's certificate is not from a CA of {}: was the cluster made anew?{proxied}",
                authority.place
            )
        }
        None => {
            let place = recipe.of.of_cluster("certificate-authority");
            format!("{place} is missing, and no root certificate of this machine signed the server's{proxied}")
        }
    }
}
