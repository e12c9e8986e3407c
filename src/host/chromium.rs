//! The browser on this machine.

use std::path::PathBuf;

/// Environment variable with the browser's path or name, if it is not on `PATH`, or to choose another browser.
pub const CHROME_VARIABLE: &str = "CHROME";

/// The browser's names in distributions.
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// Chromium or a derived browser. `None` if there is none.
pub fn chromium() -> Option<PathBuf> {
    let named = std::env::var_os(CHROME_VARIABLE).map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found = std::env::split_paths(&path).flat_map(|directory| NAMES.map(|name| directory.join(name)));
    named.or_else(|| found.find(|candidate| candidate.is_file()))
}
