//! Names of the namespaces that a test creates.

use crate::record;

/// Longest DNS label, in characters.
const LONGEST: usize = 63;

/// Beginning of the names, if the record names none.
pub(super) const PREFIX: &str = "meshproof";

/// A test's use of a namespace.
#[derive(Debug, Clone, Copy)]
pub(super) struct Use<'a> {
    pub(super) suite: &'a str,
    pub(super) test: &'a str,
    pub(super) purpose: &'a str,
}

/// The name of a namespace owned by a test: a valid DNS label that begins with `prefix`, unique per use and run.
pub(super) fn namespace(prefix: &str, Use { suite, test, purpose }: Use<'_>, run: &str) -> String {
    let unique = format!("-{:016x}", record::digest(&[suite, test, purpose, run]));
    let mut name = format!("{prefix}-{}", label(purpose));
    name.truncate(LONGEST - unique.len());
    name + &unique
}

/// Replaces characters that a DNS label cannot have.
fn label(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace(suite: &str, test: &str, purpose: &str, run: &str) -> String {
        super::namespace(PREFIX, Use { suite, test, purpose }, run)
    }

    #[test]
    fn tests_of_one_purpose_have_namespaces_of_their_own() {
        let name = namespace("mtls", "a", "permissive", "r1");
        assert_eq!(name, namespace("mtls", "a", "permissive", "r1"), "the name of one test's namespace is stable");
        assert_ne!(name, namespace("mtls", "b", "permissive", "r1"), "another test");
        assert_ne!(name, namespace("boutique", "a", "permissive", "r1"), "another suite");
        assert_ne!(name, namespace("mtls", "a", "unexposed", "r1"), "another purpose");
        assert_ne!(name, namespace("mtls", "a", "permissive", "r2"), "another run");
        assert!(name.starts_with("meshproof-permissive-"), "{name} tells its purpose");
        let other = super::namespace("ours", Use { suite: "mtls", test: "a", purpose: "permissive" }, "r1");
        assert!(other.starts_with("ours-permissive-"), "{other}");
    }

    #[test]
    fn a_namespace_is_named_by_a_legal_dns_label() {
        let long = "a-purpose-that-is-told-at-much-greater-length-than-a-label-may-have";
        let run = "0b0f6a3e-93f5-4a0e-8f6b-0b0f6a3e93f5";
        for purpose in ["permissive", "", "Ends in ü", "a::b", long] {
            let name = namespace("suite", "case::with_names", purpose, run);
            assert!(name.len() <= LONGEST, "{name} is too long");
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'), "{name}");
            assert!(name.ends_with(|c: char| c.is_ascii_alphanumeric()), "{name}");
        }
        let other = namespace("suite", "case", &format!("{long}-still"), run);
        assert_ne!(namespace("suite", "case", long, run), other, "what is cut off still counts");
    }
}
