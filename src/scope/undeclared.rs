//! What becomes of a test whose claims need something that the mesh does not offer.

use std::ffi::OsStr;

use super::error::{Error, Result};

/// Environment variable. With the value `allow`, tests pass whose claims need something that the mesh does not offer.
pub const NOT_DECLARED_VARIABLE: &str = "MESHPROOF_NOT_DECLARED";

/// What becomes of such a test. The report counts the claims separately, never as held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Undeclared {
    Fails,
    Passes,
}

impl Undeclared {
    /// What [`NOT_DECLARED_VARIABLE`] selects.
    ///
    /// # Errors
    /// [`Error::Variable`].
    pub(super) fn selected() -> Result<Self> {
        Self::parse(std::env::var_os(NOT_DECLARED_VARIABLE).as_deref())
    }

    fn parse(value: Option<&OsStr>) -> Result<Self> {
        match value {
            None => Ok(Self::Fails),
            Some(value) if value.is_empty() => Ok(Self::Fails),
            Some(value) if value == "allow" => Ok(Self::Passes),
            Some(value) => Err(Error::Variable {
                variable: NOT_DECLARED_VARIABLE,
                value: value.to_string_lossy().into_owned(),
                known: "`allow`",
            }),
        }
    }
}

/// Whether tests pass whose claims need something that the mesh does not offer: what [`NOT_DECLARED_VARIABLE`] says.
///
/// # Errors
/// [`Error::Variable`].
pub fn allows_undeclared() -> Result<bool> {
    Ok(Undeclared::selected()? == Undeclared::Passes)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::unset(None, Undeclared::Fails)]
    #[case::empty(Some(""), Undeclared::Fails)]
    #[case::allow(Some("allow"), Undeclared::Passes)]
    fn only_allow_lets_a_test_pass(#[case] value: Option<&str>, #[case] owed: Undeclared) {
        assert_eq!(Undeclared::parse(value.map(OsStr::new)).unwrap(), owed);
    }

    #[rstest]
    fn another_value_is_refused(#[values("1", "Allow", "allowed", "deny")] value: &str) {
        let error = Undeclared::parse(Some(OsStr::new(value))).unwrap_err().to_string();
        assert_eq!(error, format!("MESHPROOF_NOT_DECLARED is `{value}`: set it to `allow`, or unset it"));
    }
}
