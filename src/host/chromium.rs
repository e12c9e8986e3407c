//! The browser of this machine.

use std::path::PathBuf;

/// Environment variable that names it where it is not on the path, or where another is wanted.
pub const CHROME_VARIABLE: &str = "CHROME";

/// Names that distributions give it.
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// Chromium, or a browser made of it; `None` where there is none.
pub fn chromium() -> Option<PathBuf> {
    let named = std::env::var_os(CHROME_VARIABLE).map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found = std::env::split_paths(&path).flat_map(|directory| NAMES.map(|name| directory.join(name)));
    named.or_else(|| found.find(|candidate| candidate.is_file()))
}
