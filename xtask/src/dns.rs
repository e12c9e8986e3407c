//! Names in the Domain Name System.

/// What a DNS label is, for messages.
pub(crate) const RULE: &str = "at most 63 of a-z, 0-9 and `-`, beginning and ending with a letter or digit";

/// Whether `text` is a DNS label as Kubernetes requires for names (RFC 1123).
pub(crate) fn is_label(text: &str) -> bool {
    let inner = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(|byte| inner(&byte))
        && !text.starts_with('-')
        && !text.ends_with('-')
}
