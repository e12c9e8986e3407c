//! Access to real servers in this process: TLS by a CA of their own, proxies, plugins that are shell scripts.

mod credentials;
mod files;
mod live;
mod patience;
mod proxies;
mod support;
mod tls;
