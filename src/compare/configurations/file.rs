//! The comparisons that a repository declares for its pull requests: the file `comparisons.toml`.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use super::error::{Error, Result};
use super::plan::{Minutes, OwnService};

/// Stands for the revision that a change is based on, in `git:BASE:DIR`.
pub const BASE: &str = "BASE";

/// Most characters of a name: it is part of the name of a directory.
const LONGEST_NAME: usize = 40;

/// A comparison of the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// Name, unique within the file.
    pub name: String,
    /// The configuration to compare with: a directory, or `git:REVISION:DIR`.
    pub control: String,
    /// The configuration to judge.
    pub treatment: String,
    /// Minutes to measure.
    pub minutes: Minutes,
    /// Bounds of the comparison `compare`. `None`: the default ones.
    pub bounds: Option<PathBuf>,
    /// The user's own service as the server. `None`: a probe.
    pub service: Option<OwnService>,
    /// The cluster. `None`: the first one.
    pub cluster: Option<String>,
    /// Image of the load driver. `None`: the testbed's own.
    pub load_image: Option<String>,
    /// Namespaces that run on while the arms are measured.
    pub running: Vec<String>,
    /// Whether the gate lets a change pass that this comparison did not decide.
    pub may_be_inconclusive: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    comparison: Vec<Spanned<Raw>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Raw {
    name: String,
    control: String,
    treatment: String,
    #[serde(default)]
    minutes: Minutes,
    bounds: Option<PathBuf>,
    service: Option<String>,
    port: Option<u16>,
    path: Option<String>,
    cluster: Option<String>,
    load_image: Option<String>,
    #[serde(default)]
    running: Vec<String>,
    #[serde(default)]
    inconclusive: Inconclusive,
}

/// What becomes of a change that a comparison did not decide.
#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Inconclusive {
    #[default]
    Fails,
    Passes,
}

/// Reads a file of comparisons. `base` takes the place of [`BASE`]. Directories and bounds are relative to the file's
/// directory; a directory of a revision is relative to the root of the repository.
///
/// # Errors
/// [`Error::Manifest`] with the line: there is no comparison, two have one name, a key is unknown, or `BASE` is not known.
pub fn planned(path: &Path, base: Option<&str>) -> Result<Vec<Planned>> {
    let failed = |reason: String| Error::Manifest { path: path.into(), reason };
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    let line = |at: usize| text.get(..at).unwrap_or(&text).matches('\n').count() + 1;
    let fault = |at: usize, reason: &str| failed(format!("line {}: {reason}", line(at)));
    let file: File =
        toml::from_str(&text).map_err(|error| fault(error.span().map_or(0, |span| span.start), error.message()))?;
    let mut all: Vec<Planned> = Vec::new();
    for raw in file.comparison {
        let at = raw.span().start;
        let one = raw.into_inner().checked(path, base).map_err(|reason| fault(at, &reason))?;
        if all.iter().any(|other| other.name == one.name) {
            return Err(fault(at, &format!("a comparison `{}` is there already", one.name)));
        }
        all.push(one);
    }
    if all.is_empty() {
        return Err(failed("it has no [[comparison]]".into()));
    }
    Ok(all)
}

impl Raw {
    /// The comparison, with what it refers to.
    fn checked(self, file: &Path, base: Option<&str>) -> Result<Planned, String> {
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if self.name.is_empty() || self.name.len() > LONGEST_NAME || !self.name.bytes().all(is_plain) {
            return Err(format!(
                "the name `{}` must have 1 to {LONGEST_NAME} lower-case letters, digits and dashes",
                self.name
            ));
        }
        let service = match (self.service, self.port) {
            (Some(name), Some(port)) => Some(OwnService { name, port, path: self.path.unwrap_or_else(|| "/".into()) }),
            (None, None) if self.path.is_none() => None,
            _ => return Err("`service`, `port` and `path` belong together: give the service and its port".into()),
        };
        let beside = |path: &Path| file.parent().unwrap_or(Path::new("")).join(path);
        let source = |text: &str| -> Result<String, String> {
            let Some(rest) = text.strip_prefix("git:") else {
                return Ok(beside(Path::new(text)).display().to_string());
            };
            let Some(directory) = rest.strip_prefix(BASE).and_then(|rest| rest.strip_prefix(':')) else {
                return Ok(text.to_owned());
            };
            let base =
                base.ok_or_else(|| format!("`{text}` is of the revision {BASE}: name it by `--base REVISION`"))?;
            Ok(format!("git:{base}:{directory}"))
        };
        Ok(Planned {
            control: source(&self.control)?,
            treatment: source(&self.treatment)?,
            name: self.name,
            minutes: self.minutes,
            bounds: self.bounds.as_deref().map(beside),
            service,
            cluster: self.cluster,
            load_image: self.load_image,
            running: self.running,
            may_be_inconclusive: matches!(self.inconclusive, Inconclusive::Passes),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str =
        "[[comparison]]\nname = \"proxies\"\ncontrol = \"git:BASE:mesh/proxies\"\ntreatment = \"mesh/proxies\"\n";

    fn read(text: &str, base: Option<&str>) -> Result<Vec<Planned>> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("comparisons.toml");
        std::fs::write(&path, text).unwrap();
        let at = directory.path().display().to_string() + "/";
        planned(&path, base).map(|mut all| {
            all.iter_mut().for_each(|one| one.treatment = one.treatment.replace(&at, ""));
            all
        })
    }

    #[test]
    fn the_base_takes_its_place_and_what_is_not_said_has_a_default() {
        let one = read(ONE, Some("4c1d0b6")).unwrap().remove(0);
        assert_eq!((one.control.as_str(), one.treatment.as_str()), ("git:4c1d0b6:mesh/proxies", "mesh/proxies"));
        assert_eq!(one.minutes, Minutes::default());
        assert_eq!((one.may_be_inconclusive, one.service, one.bounds), (false, None, None));
        let own = "service = \"cart\"\nport = 70\nminutes = 6\nrunning = [\"agents\"]\ninconclusive = \"passes\"\n";
        let own = read(&format!("{ONE}{own}"), Some("main")).unwrap().remove(0);
        assert!(
            own.may_be_inconclusive
                && own.running == ["agents"]
                && own.minutes.seconds() == 360.0
                && own.service.unwrap().path == "/"
        );
    }

    #[test]
    fn an_unusable_comparison_is_named_with_its_line() {
        for (text, said) in [
            (ONE.to_owned(), "line 1: `git:BASE:mesh/proxies` is of the revision BASE: name it by `--base REVISION`"),
            (ONE.replace("name = \"proxies\"", "name = \"a/b\""), "the name `a/b` must have"),
            (format!("{ONE}minuts = 3\n"), "line 5: unknown field `minuts`"),
            (format!("{ONE}inconclusive = \"holds\"\n"), "line 5: unknown variant `holds`"),
            (format!("{ONE}port = 80\n"), "give the service and its port"),
            (format!("{ONE}minutes = 0\n"), "line 5: give minutes, from 0.5"),
            (String::new(), "it has no [[comparison]]"),
        ] {
            let base = if said.contains("--base") { None } else { Some("main") };
            let error = read(&text, base).unwrap_err();
            assert!(error.is_usage() && error.to_string().contains(said), "{text}: {error}");
        }
        let twice = read(&format!("{ONE}\n{ONE}"), Some("main")).unwrap_err().to_string();
        assert!(twice.contains("line 6: a comparison `proxies` is there already"), "{twice}");
    }
}
