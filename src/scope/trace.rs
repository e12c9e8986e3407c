//! What a test traces.

use std::io::IsTerminal;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

/// What is printed without `RUST_LOG`: warnings. What `kube_client` cannot do is an error of ours, or expected of a cluster
/// that is paused.
const DEFAULT: &str = "warn,kube_client=off";

/// Installs a subscriber that prints what `RUST_LOG` selects to the test harness. An existing subscriber stays.
pub(super) fn subscribe() {
    let selected = std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_else(|_| DEFAULT.to_owned());
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::WARN.into()).parse_lossy(selected);
    // The end of a span shows its duration.
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_span_events(FmtSpan::CLOSE);
    let _ = subscriber.with_ansi(std::io::stdout().is_terminal()).with_test_writer().try_init();
}
