//! The bounds on what one more may cost.

use std::collections::BTreeMap;

use meshproof::Error;
use meshproof::judge::growth::{Growth, Point};
use serde::Deserialize;

const BOUNDS: &str = include_str!("bounds.toml");

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Bound {
    at_most: f64,
    unit: String,
    source: String,
}

/// A growth with its bound. `id` names both, `per` is what the size counts.
///
/// # Errors
/// There is no such bound.
pub(super) fn growth(id: &str, per: &str, figure: &str, points: Vec<Point>) -> Result<Growth, Error> {
    let mut bounds: BTreeMap<String, Bound> = toml::from_str(BOUNDS).map_err(Error::suite)?;
    let bound = bounds.remove(id).ok_or_else(|| Error::suite(format!("bounds.toml has no bound `{id}`")))?;
    let Bound { at_most, unit, source } = bound;
    Ok(Growth { id: id.into(), figure: figure.into(), unit, per: per.into(), points, at_most, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bound_can_be_read_and_says_where_it_comes_from() {
        let bounds: BTreeMap<String, Bound> = toml::from_str(BOUNDS).unwrap();
        assert!(bounds.values().all(|bound| bound.at_most > 0.0 && !bound.source.is_empty()));
        assert!(growth("services-memory", "services", "memory", Vec::new()).is_ok());
        let unknown = growth("nothing", "services", "memory", Vec::new()).unwrap_err();
        assert!(unknown.to_string().contains("nothing"), "{unknown}");
    }
}
