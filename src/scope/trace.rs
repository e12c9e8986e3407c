//! What a test traces.

use std::io::IsTerminal;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

/// Installs a subscriber that prints what `RUST_LOG` selects (default: warnings) to the test harness. An existing
/// subscriber stays.
pub(super) fn subscribe() {
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::WARN.into()).from_env_lossy();
    // The end of a span shows its duration.
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_span_events(FmtSpan::CLOSE);
    let _ = subscriber.with_ansi(std::io::stdout().is_terminal()).with_test_writer().try_init();
}
