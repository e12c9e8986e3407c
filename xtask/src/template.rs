//! Fills in `${NAME}` in fixtures.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};

use crate::paths;

/// Values, by name.
pub(crate) type Values = BTreeMap<&'static str, String>;

/// Reads the fixture at `relative` and fills in the values.
///
/// # Errors
/// Fails if the fixture cannot be read or names a value that is not in `values`.
pub(crate) fn fixture(relative: &str, values: &Values) -> Result<String> {
    fill(&paths::read(&paths::fixture(relative))?, values).with_context(|| format!("fixtures/{relative}"))
}

fn fill(text: &str, values: &Values) -> Result<String> {
    let mut filled = String::with_capacity(text.len());
    for (number, line) in text.lines().enumerate() {
        // A comment may contain `${…}`.
        if line.trim_start().starts_with('#') {
            filled.push_str(line);
        } else {
            let mut rest = line;
            while let Some(start) = rest.find("${") {
                let length =
                    rest[start..].find('}').with_context(|| format!("line {}: `${{` without `}}`", number + 1))?;
                let name = &rest[start + 2..start + length];
                let Some(value) = values.get(name) else { bail!("line {}: no value for `${{{name}}}`", number + 1) };
                filled.push_str(&rest[..start]);
                filled.push_str(value);
                rest = &rest[start + length + 1..];
            }
            filled.push_str(rest);
        }
        filled.push('\n');
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_filled_in_and_comments_left_alone() {
        let values = Values::from([("A", "1".to_owned()), ("B", "2".to_owned())]);
        assert_eq!(fill("# ${X}\na: ${A}-${B}", &values).unwrap(), "# ${X}\na: 1-2\n");
    }

    #[test]
    fn a_name_without_a_value_is_told_with_its_line() {
        let error = fill("a: 1\nb: ${MISSING}", &Values::new()).unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("MISSING"), "{error}");
    }
}
