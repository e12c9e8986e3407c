//! Names of clusters, contexts and tests, as parts of file names and of Kubernetes names.

/// The 64 bits of FNV-1a over all parts. Stays the same in every version, so names made of it are found again.
///
/// The end of each part counts: `ab`, `c` differs from `a`, `bc`.
pub fn digest(parts: &[&str]) -> u64 {
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    // No UTF-8 text has this byte.
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0xff]));
    bytes.fold(BASIS, |digest, byte| (digest ^ u64::from(byte)).wrapping_mul(PRIME))
}

/// A text as a DNS label of at most `longest` characters, for file names and Kubernetes names. A text that is such a
/// label stays as it is. Texts that differ have different labels: `a/b` and `a-b` too.
///
/// A cloud's names have characters that Kubernetes refuses, such as in `arn:aws:eks:us-east-1:0:cluster/mesh`.
pub fn legal(text: &str, longest: usize) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let label: String = text.chars().map(letter).collect();
    let label = label.trim_matches('-');
    if label == text && !text.is_empty() && text.len() <= longest {
        return text.to_owned();
    }
    let unique = format!("{:08x}", digest(&[text]) >> 32);
    // The end of a cloud's name tells more than its beginning.
    let skipped = label.len().saturating_sub(longest.saturating_sub(unique.len() + 1));
    format!("{unique}-{}", label[skipped..].trim_start_matches('-')).trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_of_contexts_become_legal_and_stay_distinct() {
        let names = [
            "a-b",
            "a/b",
            "a:b",
            "a@b",
            "A-b",
            "a-b-",
            "",
            "-",
            "arn:aws:eks:us-east-1:000000000000:cluster/mesh",
            "arn:aws:eks:us-west-2:000000000000:cluster/mesh",
            "admin@mesh/prod",
            "gke_project_zone_name",
            "gke-project_zone_name",
            "a-cluster-with-a-name-that-is-much-longer-than-it-should-be",
            "another-cluster-with-a-name-that-is-much-longer-than-it-should-be",
        ];
        let legal_ones: Vec<String> = names.iter().map(|name| legal(name, 40)).collect();
        assert_eq!(legal_ones.iter().collect::<BTreeSet<_>>().len(), names.len(), "{legal_ones:?}");
        for name in &legal_ones {
            let is_legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            assert!(!name.is_empty() && name.len() <= 40 && name.chars().all(is_legal), "{name}");
            assert!(!name.starts_with('-') && !name.ends_with('-'), "{name}");
        }
        assert_eq!(legal_ones[0], "a-b", "a name that is legal stays");
        assert!(legal_ones[8].ends_with("cluster-mesh"), "{} tells which cluster", legal_ones[8]);
    }

    #[test]
    fn a_digest_is_that_of_the_published_algorithm_and_keeps_parts_apart() {
        assert_eq!(digest(&[]), 0xcbf2_9ce4_8422_2325);
        // FNV-1a of "a" is af63dc4c8601ec8c; the end of the part is one more byte.
        assert_eq!(digest(&["a"]), (0xaf63_dc4c_8601_ec8c_u64 ^ 0xff).wrapping_mul(0x0100_0000_01b3));
        assert_ne!(digest(&["ab", "c"]), digest(&["a", "bc"]));
    }
}
