//! Removes secrets from text. Every text of the archive passes through [`redact`].

use std::borrow::Cow;

/// Replacement for a secret.
const REDACTED: &str = "[redacted]";

/// Words in the first line of a private key's PEM block.
const MARK: &str = "PRIVATE KEY";

/// [`MARK`] in base64 at each of the three byte offsets, without the characters that also depend on adjacent bytes.
const ENCODED_MARKS: [&str; 3] = ["UFJJVkFURSBLRV", "BSSVZBVEUgS0VZ", "QUklWQVRFIEtFW"];

/// Prefix of every signed token: `{"alg":` in base64.
const TOKEN: &str = "eyJhbGciOi";

/// Returns `text` without private keys (as PEM, also inside JSON or YAML, and in base64) and without signed tokens.
/// Every remaining [`MARK`] becomes lower case, so one search proves that an archive has no private key.
pub(crate) fn redact(text: &str) -> Cow<'_, str> {
    let mut text = pem_blocks(text);
    for mark in ENCODED_MARKS {
        text = replace_runs(text, mark, |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'='));
    }
    text = replace_runs(text, TOKEN, |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    if text.contains(MARK) {
        text = Cow::Owned(text.replace(MARK, &MARK.to_lowercase()));
    }
    text
}

/// Replaces each private key's PEM block. A block without an end, as in a truncated log, extends to the end of the
/// text.
fn pem_blocks(text: &str) -> Cow<'_, str> {
    let mut clean = String::new();
    let mut rest = text;
    while let Some(mark) = rest.find(MARK) {
        let after = mark + MARK.len();
        // The mark is part of a first line of any length: `-----BEGIN EC PRIVATE KEY-----`.
        let begin = rest[..mark].rfind("-----BEGIN ").filter(|&begin| !rest[begin + 11..mark].contains('-'));
        let Some(begin) = begin else {
            clean.push_str(&rest[..after]);
            rest = &rest[after..];
            continue;
        };
        clean.push_str(&rest[..begin]);
        clean.push_str(REDACTED);
        let end = rest[after..].find("-----END ").map(|end| after + end + "-----END ".len());
        let end = end.and_then(|end| Some(end + rest[end..].find("-----")? + "-----".len()));
        rest = end.map_or("", |end| &rest[end..]);
    }
    if clean.is_empty() && rest.len() == text.len() {
        return Cow::Borrowed(text);
    }
    clean.push_str(rest);
    Cow::Owned(clean)
}

/// Replaces each unbroken run of characters of one kind that contains `mark`.
fn replace_runs<'a>(text: Cow<'a, str>, mark: &str, of_kind: impl Fn(u8) -> bool) -> Cow<'a, str> {
    if !text.contains(mark) {
        return text;
    }
    let mut clean = String::new();
    let mut rest: &str = &text;
    while let Some(found) = rest.find(mark) {
        let bytes = rest.as_bytes();
        // The characters of a run are ASCII, so both ends of the run are character boundaries.
        let begin = bytes[..found].iter().rposition(|&byte| !of_kind(byte)).map_or(0, |before| before + 1);
        let end = bytes[found..].iter().position(|&byte| !of_kind(byte)).map_or(rest.len(), |length| found + length);
        clean.push_str(&rest[..begin]);
        clean.push_str(REDACTED);
        rest = &rest[end..];
    }
    clean.push_str(rest);
    Cow::Owned(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE\n-----END EC PRIVATE KEY-----";

    #[test]
    fn a_key_goes_and_the_certificate_beside_it_stays() {
        let certificate = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
        let text = format!("{certificate}{KEY}\n{certificate}");
        assert_eq!(redact(&text), format!("{certificate}{REDACTED}\n{certificate}"));
        assert!(matches!(redact(certificate), Cow::Borrowed(_)));
    }

    #[test]
    fn a_key_inside_json_goes() {
        let json = serde_json::json!({"key": KEY, "other": 1}).to_string();
        assert_eq!(redact(&json), r#"{"key":"[redacted]","other":1}"#);
    }

    #[test]
    fn a_key_without_an_end_goes_with_all_that_follows() {
        assert_eq!(redact("a -----BEGIN PRIVATE KEY-----\nMHcC"), "a [redacted]");
        assert_eq!(redact("a -----BEGIN PRIVATE KEY-----\n-----END PRI"), "a [redacted]");
    }

    #[test]
    fn a_key_in_base64_goes_wherever_it_begins() {
        // `-----BEGIN PRIVATE KEY-----\nMHcC` after zero, one and two characters.
        for encoded in [
            "LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0tCk1IY0M=",
            "IC0tLS0tQkVHSU4gUFJJVkFURSBLRVktLS0tLQpNSGND",
            "ICAtLS0tLUJFR0lOIFBSSVZBVEUgS0VZLS0tLS0KTUhjQw==",
        ] {
            assert_eq!(redact(&format!("client-key-data: {encoded}\nnext: é")), "client-key-data: [redacted]\nnext: é");
        }
    }

    #[test]
    fn a_token_goes() {
        assert_eq!(redact(r#"{"token":"eyJhbGciOiJSUzI1NiJ9.e30.c2ln"}"#), r#"{"token":"[redacted]"}"#);
    }

    #[test]
    fn words_about_keys_stay_in_lower_case() {
        assert_eq!(redact("--BEGIN-- expected PRIVATE KEY, got é"), "--BEGIN-- expected private key, got é");
    }
}
