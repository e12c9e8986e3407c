//! The proxy between this machine and an API server, chosen as kubectl chooses it.

use std::fmt;
use std::net::IpAddr;

use http::Uri;
use ipnet::IpNet;

use super::environment::Environment;
use super::error::Error;
use super::files::Selected;

/// A proxy, and who chose it.
#[derive(Debug, Clone)]
pub(super) struct Proxy {
    /// The proxy's URL. Its scheme is `http`, `https` or `socks5`.
    pub(super) url: Uri,
    chosen_by: String,
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = self.url.authority().map_or("", |authority| authority.as_str());
        let address = authority.rsplit('@').next().unwrap_or_default();
        write!(f, "{}://{address} ({})", self.url.scheme_str().unwrap_or_default(), self.chosen_by)
    }
}

/// The proxy for a context's API server. `proxy-url` always counts. A variable of the environment does not count for
/// loopback addresses and for the hosts of `NO_PROXY`.
///
/// # Errors
/// [`Error::Field`]: `proxy-url` is not the URL of a proxy. [`Error::Proxy`]: a variable's value is not.
pub(super) fn choose(of: &Selected, server: &Uri, environment: &Environment) -> Result<Option<Proxy>, Error> {
    if let Some(url) = of.cluster.proxy_url.as_deref().filter(|url| !url.is_empty()) {
        let place = of.of_cluster("proxy-url");
        let chosen_by = place.to_string();
        return match parse(url) {
            Ok(url) => Ok(Some(Proxy { url, chosen_by })),
            Err(reason) => Err(of.wrong(place, reason)),
        };
    }
    let (variable, value) = match server.scheme_str() {
        Some("http") => ("HTTP_PROXY", &environment.http_proxy),
        _ => ("HTTPS_PROXY", &environment.https_proxy),
    };
    let Some(value) = value.as_deref().map(str::trim).filter(|value| !value.is_empty()) else { return Ok(None) };
    if is_direct(server, environment.no_proxy.as_deref().unwrap_or_default()) {
        return Ok(None);
    }
    let url = if value.contains("://") { parse(value) } else { parse(&format!("http://{value}")) };
    let url = url.map_err(|reason| Error::Proxy {
        context: of.context.clone(),
        server: of.server().into(),
        proxy: format!("of the variable {variable}"),
        reason: format!("{reason}; or add the API server to NO_PROXY"),
    })?;
    Ok(Some(Proxy { url, chosen_by: format!("the variable {variable}") }))
}

fn parse(url: &str) -> Result<Uri, String> {
    // kube knows `socks5` only, and resolves names at the proxy, as `socks5h` says.
    let url = url.strip_prefix("socks5h://").map_or_else(|| url.to_owned(), |rest| format!("socks5://{rest}"));
    let parsed: Uri = url.trim_end_matches('/').parse().map_err(|error| format!("it is not a URL: {error}"))?;
    let (Some(scheme), Some(authority)) = (parsed.scheme_str(), parsed.authority()) else {
        return Err("it is not a URL such as http://proxy.example:3128".into());
    };
    match scheme {
        "http" | "https" => Ok(parsed),
        "socks5" if authority.as_str().contains('@') => {
            Err("a user and password are supported for http and https proxies only, not for socks5".into())
        }
        "socks5" if parsed.port().is_none() => {
            format!("socks5://{authority}:1080").parse().map_err(|error| format!("it is not a URL: {error}"))
        }
        "socks5" => Ok(parsed),
        other => Err(format!("the scheme `{other}` is not supported: use http, https or socks5")),
    }
}

/// Whether the environment's proxy is not for this server.
fn is_direct(server: &Uri, no_proxy: &str) -> bool {
    let host = server.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_lowercase();
    let address: Option<IpAddr> = host.parse().ok();
    if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
        return true;
    }
    let default = if server.scheme_str() == Some("http") { 80 } else { 443 };
    let port = server.port_u16().unwrap_or(default);
    let entries = no_proxy.split(',').map(|entry| entry.trim().to_lowercase()).filter(|entry| !entry.is_empty());
    entries.into_iter().any(|entry| matches(&entry, &host, address, port))
}

/// Whether an entry of `NO_PROXY` names the host.
fn matches(entry: &str, host: &str, address: Option<IpAddr>, port: u16) -> bool {
    if entry == "*" {
        return true;
    }
    if let Ok(range) = entry.parse::<IpNet>() {
        return address.is_some_and(|address| range.contains(&address));
    }
    let whole = entry.trim_start_matches('[').trim_end_matches(']');
    let (name, only) = match entry.rsplit_once(':') {
        Some((name, only)) if whole.parse::<IpAddr>().is_err() => match only.parse::<u16>() {
            Ok(only) => (name.trim_start_matches('[').trim_end_matches(']'), Some(only)),
            Err(_) => return false,
        },
        _ => (whole, None),
    };
    if only.is_some_and(|only| only != port) {
        return false;
    }
    if let Ok(named) = name.parse::<IpAddr>() {
        return address == Some(named);
    }
    // `.a.b` and `*.a.b` are what is below a.b; `a.b` is also a.b itself.
    let below = name.strip_prefix('*').unwrap_or(name);
    match below.strip_prefix('.') {
        Some(_) => host.ends_with(below),
        None => host == below || host.ends_with(&format!(".{below}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_proxy_names_hosts_domains_ranges_and_ports_as_for_kubectl() {
        let direct = |server: &str, no_proxy: &str| is_direct(&server.parse().unwrap(), no_proxy);
        for loopback in ["https://127.0.0.1:6443", "https://localhost:6443", "https://[::1]:6443", "https://127.9.9.9"]
        {
            assert!(direct(loopback, ""), "{loopback} is never reached through the environment's proxy");
        }
        for (server, no_proxy, expected) in [
            ("https://api.internal.example:6443", "", false),
            ("https://api.internal.example:6443", "*", true),
            ("https://api.internal.example:6443", "other.example, internal.example,", true),
            ("https://api.internal.example:6443", ".internal.example", true),
            ("https://api.internal.example:6443", "*.internal.example", true),
            ("https://internal.example", ".internal.example", false),
            ("https://internal.example", "internal.example", true),
            ("https://notinternal.example", "internal.example", false),
            ("https://api.internal.example:6443", "api.internal.example:6443", true),
            ("https://api.internal.example:6443", "api.internal.example:443", false),
            ("https://api.internal.example", "api.internal.example:443", true),
            ("https://API.internal.example", "api.Internal.example", true),
            ("https://10.1.2.3:6443", "10.0.0.0/8", true),
            ("https://10.1.2.3:6443", "11.0.0.0/8", false),
            ("https://10.1.2.3:6443", "10.1.2.3", true),
            ("https://10.1.2.3:6443", "10.1.2.3:6443", true),
            ("https://10.1.2.3:6443", "10.1.2.3:1", false),
            ("https://[fd00::1]:6443", "fd00::1", true),
            ("https://[fd00::1]:6443", "[fd00::1]:6443", true),
            ("https://[fd00::1]:6443", "fd00::/64", true),
        ] {
            assert_eq!(direct(server, no_proxy), expected, "{server} with NO_PROXY={no_proxy}");
        }
    }

    #[test]
    fn a_proxy_is_a_url_with_a_scheme_that_is_supported() {
        assert_eq!(parse("socks5h://p.example").unwrap().to_string(), "socks5://p.example:1080/");
        assert!(parse("ftp://p.example").unwrap_err().contains("`ftp` is not supported"));
        assert!(parse("socks5://u:p@p.example:1").unwrap_err().contains("not for socks5"));
        assert!(parse("p.example").is_err());
    }
}
