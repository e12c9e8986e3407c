//! Matching of text: exact, prefix, suffix, presence, and templates of paths.

/// Whether `pattern` matches: `abc` exactly, `abc*` as a prefix, `*abc` as a suffix, `*` anything that is not empty.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(""), _) => !text.is_empty(),
        (Some(suffix), _) => text.ends_with(suffix),
        (_, Some(prefix)) => text.starts_with(prefix),
        _ => text == pattern,
    }
}

/// Whether a pattern of `paths` matches. A pattern with `{*}` or `{**}` is a template.
pub(super) fn matches_path(pattern: &str, path: &str) -> bool {
    if !pattern.contains("{*}") && !pattern.contains("{**}") {
        return matches(pattern, path);
    }
    let (pattern, path): (Vec<&str>, Vec<&str>) = (pattern.split('/').collect(), path.split('/').collect());
    segments(&pattern, &path)
}

/// `{*}` is one segment that is not empty, `{**}` any number of segments.
fn segments(pattern: &[&str], path: &[&str]) -> bool {
    match (pattern.split_first(), path.split_first()) {
        (None, None) => true,
        (Some((&"{**}", rest)), _) => (0..=path.len()).any(|taken| segments(rest, &path[taken..])),
        (Some((&"{*}", rest)), Some((segment, path))) => !segment.is_empty() && segments(rest, path),
        (Some((literal, rest)), Some((segment, path))) => literal == segment && segments(rest, path),
        _ => false,
    }
}

/// Whether a service account, as `NAMESPACE/NAME` or as a name in the policy's namespace, is the given one. No character
/// has a special meaning.
pub(super) fn is_account(pattern: &str, of_policy: &str, namespace: &str, name: &str) -> bool {
    let (wanted_namespace, wanted_name) = pattern.split_once('/').unwrap_or((of_policy, pattern));
    (wanted_namespace, wanted_name) == (namespace, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_at_an_end_is_open_and_elsewhere_a_letter() {
        for (pattern, text, expected) in [
            ("abc", "abc", true),
            ("abc", "abcd", false),
            ("abc*", "abcd", true),
            ("abc*", "abc", true),
            ("abc*", "ab", false),
            ("*abc", "xabc", true),
            ("*abc", "abcx", false),
            ("*", "x", true),
            ("*", "", false),
            ("a*c", "abc", false),
            ("a.c", "abc", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    /// The examples of Istio's reference.
    #[test]
    fn a_template_matches_segments() {
        for (pattern, path, expected) in [
            ("/foo/{*}", "/foo/bar", true),
            ("/foo/{*}", "/foo/bar/baz", false),
            ("/foo/{*}", "/foo/", false),
            ("/foo/{**}/", "/foo/bar/", true),
            ("/foo/{**}/", "/foo//", true),
            ("/foo/{**}/", "/foo/bar", false),
            ("/foo/{*}/bar/{**}", "/foo/buzz/bar/", true),
            ("/foo/{*}/bar/{**}", "/foo/buzz/bar/baz", true),
            ("/foo/{*}/bar/{**}", "/foo/buzz/baz", false),
        ] {
            assert_eq!(matches_path(pattern, path), expected, "{pattern} {path}");
        }
    }

    /// CVE-2026-39350: a dot matched any character.
    #[test]
    fn an_account_is_matched_letter_by_letter() {
        assert!(is_account("shop/a.b", "shop", "shop", "a.b"));
        assert!(!is_account("shop/a.b", "shop", "shop", "axb"));
        assert!(is_account("a.b", "shop", "shop", "a.b"), "the policy's namespace");
        assert!(!is_account("a.b", "shop", "other", "a.b"));
    }
}
