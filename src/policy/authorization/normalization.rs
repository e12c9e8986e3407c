//! The form of a path that policies are compared with: `meshConfig.pathNormalization`.
//!
//! Sources: Istio's page *Authorization Policy Normalization*, and Envoy's documentation of `normalize_path`,
//! `merge_slashes` and `path_with_escaped_slashes_action`.

use std::fmt;
use std::str::FromStr;

/// How proxies normalise paths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Normalization {
    /// Not at all.
    None,
    /// RFC 3986 (dot segments, letters that need no escape), and `\` becomes `/`. Istio's default.
    #[default]
    Base,
    /// Like `Base`, and slashes in a row are one slash.
    MergeSlashes,
    /// Like `MergeSlashes`, with `%2F` and `%5C` decoded before.
    DecodeAndMergeSlashes,
}

impl FromStr for Normalization {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "NONE" => Self::None,
            "DEFAULT" | "BASE" => Self::Base,
            "MERGE_SLASHES" => Self::MergeSlashes,
            "DECODE_AND_MERGE_SLASHES" => Self::DecodeAndMergeSlashes,
            other => return Err(format!("`{other}` is no normalization of paths")),
        })
    }
}

impl fmt::Display for Normalization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "NONE",
            Self::Base => "BASE",
            Self::MergeSlashes => "MERGE_SLASHES",
            Self::DecodeAndMergeSlashes => "DECODE_AND_MERGE_SLASHES",
        })
    }
}

/// The proxy answers 400 before any policy is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rejected;

impl Normalization {
    /// The path that policies are compared with, without the query.
    ///
    /// # Errors
    /// [`Rejected`]: a path without its first slash, or one with an escaped NUL that would be normalised.
    pub fn path(self, sent: &str) -> Result<String, Rejected> {
        // Istio's proxies cut fragments off since CVE-2021-39156. Envoy by itself answers 400.
        let path = sent.split(['?', '#']).next().unwrap_or_default();
        if self == Self::None {
            return Ok(path.into());
        }
        if path.contains("%00") {
            return Err(Rejected);
        }
        let mut path = path.to_owned();
        if self == Self::DecodeAndMergeSlashes {
            for (escaped, plain) in [("%2F", "/"), ("%2f", "/"), ("%5C", "\\"), ("%5c", "\\")] {
                path = path.replace(escaped, plain);
            }
        }
        path = without_dots(&unescaped(&path.replace('\\', "/")))?;
        if self >= Self::MergeSlashes {
            while path.contains("//") {
                path = path.replace("//", "/");
            }
        }
        Ok(path)
    }
}

/// Decodes escapes of characters that need none.
fn unescaped(path: &str) -> String {
    let mut decoded = String::new();
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        let (before, escape) = rest.split_at(at);
        decoded.push_str(before);
        let code = escape.get(1..3).and_then(|digits| u8::from_str_radix(digits, 16).ok()).map(char::from);
        match code {
            Some(letter) if letter.is_ascii_alphanumeric() || "-._~".contains(letter) => {
                decoded.push(letter);
                rest = &escape[3..];
            }
            _ => {
                decoded.push('%');
                rest = &escape[1..];
            }
        }
    }
    decoded + rest
}

/// Resolves `.` and `..`.
fn without_dots(path: &str) -> Result<String, Rejected> {
    let mut kept: Vec<&str> = Vec::new();
    let segments: Vec<&str> = path.split('/').collect();
    for (index, segment) in segments.iter().enumerate() {
        let is_last = index + 1 == segments.len();
        match *segment {
            "." => {}
            // The first segment is the empty one before the first slash.
            ".." if kept.len() > 1 => drop(kept.pop()),
            ".." => {}
            segment => {
                kept.push(segment);
                continue;
            }
        }
        if is_last {
            kept.push("");
        }
    }
    if kept.first() != Some(&"") {
        return Err(Rejected);
    }
    Ok(kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_normalization_does_what_its_table_says() {
        let [none, base, merge, decode] =
            ["NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"].map(|name| name.parse().unwrap());
        let path = |how: Normalization, sent: &str| how.path(sent).unwrap();
        for (sent, in_none, in_base, in_merge, in_decode) in [
            ("/a/b", "/a/b", "/a/b", "/a/b", "/a/b"),
            ("/a//b", "/a//b", "/a//b", "/a/b", "/a/b"),
            ("/a/../b", "/a/../b", "/b", "/b", "/b"),
            ("/a/%2e%2e/b", "/a/%2e%2e/b", "/b", "/b", "/b"),
            ("/a/./b", "/a/./b", "/a/b", "/a/b", "/a/b"),
            ("/a\\b", "/a\\b", "/a/b", "/a/b", "/a/b"),
            ("/a%2Fb", "/a%2Fb", "/a%2Fb", "/a%2Fb", "/a/b"),
            ("/a%5cb", "/a%5cb", "/a%5cb", "/a%5cb", "/a/b"),
            ("/%61/b", "/%61/b", "/a/b", "/a/b", "/a/b"),
            ("/A/b", "/A/b", "/A/b", "/A/b", "/A/b"),
            ("/a/b?c=/..", "/a/b", "/a/b", "/a/b", "/a/b"),
            ("/a/..", "/a/..", "/", "/", "/"),
            ("/../a", "/../a", "/a", "/a", "/a"),
        ] {
            let all = [path(none, sent), path(base, sent), path(merge, sent), path(decode, sent)];
            assert_eq!(all, [in_none, in_base, in_merge, in_decode], "{sent}");
        }
    }

    #[test]
    fn a_fragment_is_cut_off_whatever_the_normalization() {
        for how in [Normalization::None, Normalization::Base, Normalization::DecodeAndMergeSlashes] {
            assert_eq!(how.path("/a#b"), Ok("/a".into()));
        }
    }

    #[test]
    fn an_escaped_nul_is_rejected_by_normalization() {
        assert_eq!(Normalization::None.path("/a%00"), Ok("/a%00".into()));
        for how in [Normalization::Base, Normalization::MergeSlashes, Normalization::DecodeAndMergeSlashes] {
            assert_eq!(how.path("/a%00"), Err(Rejected));
        }
    }
}
