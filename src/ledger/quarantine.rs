//! Tests whose failure is known: the file `quarantine.toml`.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Deserialize;
use toml::Spanned;
use toml::value::Date;

use super::{Error, Known, Result};
use crate::record::is_over;

/// A test whose failure does not fail the gate until a day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// The suite.
    pub suite: String,
    /// The test.
    pub test: String,
    /// Who mends it.
    pub owner: String,
    /// The last day, in UTC.
    pub until: Date,
    /// Why.
    pub reason: String,
    /// The line in the file, from 1.
    pub line: usize,
}

impl Quarantined {
    /// Whether the last day has passed.
    pub fn is_over(&self, now: SystemTime) -> bool {
        is_over(self.until, now)
    }
}

/// All tests whose failure is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Quarantine {
    /// The file.
    pub path: PathBuf,
    /// Its entries, in the order of the file.
    pub tests: Vec<Quarantined>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    quarantine: Vec<Spanned<Raw>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    suite: Option<String>,
    test: Option<String>,
    owner: Option<String>,
    until: Option<Date>,
    reason: Option<String>,
}

impl Quarantine {
    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::File`], or [`Error::Line`]: an entry lacks its suite, test, owner, end or reason, has an unknown key, or
    /// is there twice.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::File { path: path.to_owned(), source })?;
        Self::parse(path, &text)
    }

    /// Reads the text of the file `path`.
    ///
    /// # Errors
    /// [`Error::Line`].
    pub fn parse(path: &Path, text: &str) -> Result<Self> {
        let line = |at: usize| text.get(..at).unwrap_or(text).matches('\n').count() + 1;
        let fault = |line, reason: String| Error::Line { path: path.to_owned(), line, reason };
        let file: File = toml::from_str(text)
            .map_err(|error| fault(line(error.span().map_or(0, |span| span.start)), error.message().to_owned()))?;
        let mut tests: Vec<Quarantined> = Vec::new();
        for raw in file.quarantine {
            let line = line(raw.span().start);
            let one = raw.into_inner().checked(line).map_err(|reason| fault(line, reason))?;
            if let Some(first) = tests.iter().find(|first| (&first.suite, &first.test) == (&one.suite, &one.test)) {
                let reason = format!("{}/{} is in quarantine since line {} already", one.suite, one.test, first.line);
                return Err(fault(line, reason));
            }
            tests.push(one);
        }
        Ok(Self { path: path.to_owned(), tests })
    }

    /// Refuses a test that neither a report nor the ledger knows: it has been renamed, or never was.
    ///
    /// # Errors
    /// [`Error::Line`].
    pub fn check(&self, known: &Known<'_>) -> Result<()> {
        match self.tests.iter().find(|one| !known.knows(&one.suite, &one.test)) {
            None => Ok(()),
            Some(one) => Err(Error::Line {
                path: self.path.clone(),
                line: one.line,
                reason: format!(
                    "no report and no ledger knows the test {} of the suite {}: correct its name, or remove the entry",
                    one.test, one.suite
                ),
            }),
        }
    }

    /// The entry of a test.
    pub fn of(&self, suite: &str, test: &str) -> Option<&Quarantined> {
        self.tests.iter().find(|one| one.suite == suite && one.test == test)
    }
}

impl Raw {
    fn checked(self, line: usize) -> Result<Quarantined, String> {
        let text = |name: &str, value: Option<String>| match value {
            Some(value) if !value.trim().is_empty() => Ok(value),
            _ => Err(format!("a quarantine has {name}: name it")),
        };
        Ok(Quarantined {
            suite: text("a `suite`", self.suite)?,
            test: text("a `test`", self.test)?,
            owner: text("an `owner`", self.owner)?,
            until: self.until.ok_or("a quarantine has an end: name its last day as `until`")?,
            reason: text("a `reason`", self.reason)?,
            line,
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use rstest::rstest;

    use super::super::Ledger;
    use super::super::entry::tests::entry;
    use super::*;
    use crate::report::Outcome;

    pub(in super::super) const GOOD: &str = r#"
[[quarantine]]
suite = "s"
test = "a"
owner = "@mesh"
until = 2026-12-31
reason = "the gateway restarts"
"#;

    fn without(key: &str) -> String {
        GOOD.lines().filter(|line| !line.starts_with(key)).map(|line| format!("{line}\n")).collect()
    }

    #[rstest]
    #[case::no_suite(without("suite"), "q.toml:2: a quarantine has a `suite`")]
    #[case::no_owner(without("owner"), "q.toml:2: a quarantine has an `owner`")]
    #[case::empty_owner(GOOD.replace("@mesh", " "), "q.toml:2: a quarantine has an `owner`")]
    #[case::no_end(without("until"), "q.toml:2: a quarantine has an end")]
    #[case::no_such_day(GOOD.replace("12-31", "02-30"), "q.toml:6: ")]
    #[case::no_reason(without("reason"), "q.toml:2: a quarantine has a `reason`")]
    #[case::unknown_key(GOOD.replace("reason", "because"), "q.toml:7: unknown field `because`")]
    #[case::twice(format!("{GOOD}{GOOD}"), "q.toml:9: s/a is in quarantine since line 2 already")]
    fn an_unusable_entry_is_refused_with_file_and_line(#[case] text: String, #[case] owed: &str) {
        let error = Quarantine::parse(Path::new("q.toml"), &text).unwrap_err().to_string();
        assert!(error.starts_with(owed), "{error}");
    }

    #[test]
    fn a_test_that_nobody_knows_is_refused_with_file_and_line() {
        let text = format!("{GOOD}{}", GOOD.replace("\"a\"", "\"no_such_test\""));
        let quarantine = Quarantine::parse(Path::new("q.toml"), &text).unwrap();
        let ledger: Ledger = [entry("c", "1", 1, Outcome::Passed)].into_iter().collect();
        let error = quarantine.check(&Known { reports: &[], ledger: &ledger }).unwrap_err().to_string();
        assert!(error.starts_with("q.toml:9: no report and no ledger knows the test no_such_test"), "{error}");
        Quarantine::parse(Path::new("q.toml"), GOOD).unwrap().check(&Known { reports: &[], ledger: &ledger }).unwrap();
    }
}
