//! `test`: the suites of `cargo test`, without cargo.

use std::path::PathBuf;

use clap::Args;
use meshproof::attach;
use meshproof::record::Record;
use meshproof::report::{self as reports, Judgement, Report};
use meshproof_suites::libtest_mimic::{self, Arguments, Conclusion, Trial};
use meshproof_suites::{SUITES, Suite};

use crate::attach::{analyze, suites};
use crate::{Ended, Place, report};

/// Flags of the test harness that have a value.
const WITH_VALUE: [&str; 6] = ["--test-threads", "--skip", "--logfile", "--color", "--format", "-Z"];

/// Arguments of `test`.
#[derive(Debug, Args)]
pub struct Test {
    /// Directory of the reports: DIR/SUITE/report.json, report.html, junit.xml and summary.md
    #[arg(long, value_name = "DIR", default_value = "meshproof")]
    output: PathBuf,
    /// The suite. Without it: lists the suites, and what each could judge in this mesh
    suite: Option<String>,
    /// Names of tests, or parts of names [default: all], and flags of the test harness: --exact, --list, --skip NAME,
    /// --ignored, --test-threads N
    #[arg(value_name = "NAME|FLAG", trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

impl Test {
    /// Runs the suite, and writes its reports. What is found is in the exit code and the reports, never an error.
    pub fn run(self, place: &Place) -> Ended {
        let Some(name) = &self.suite else {
            print!("{}", listed(place));
            return Ended::Holds;
        };
        let Some(suite) = meshproof_suites::suite(name) else {
            let known: Vec<&str> = SUITES.iter().map(|suite| suite.name).collect();
            eprintln!("error: there is no suite `{name}`: name one of {}", known.join(", "));
            return Ended::Usage;
        };
        let selected = Selected::of(&self.rest);
        // Ends the program with the exit code 2 if a flag is unknown.
        let arguments = Arguments::from_iter([&format!("meshproof test {name}")].into_iter().chain(&selected.flags));
        let trials = selected.trials(suite, arguments.exact);
        if trials.is_empty() {
            eprintln!(
                "error: no test of {name} is named {}: see `meshproof test {name} --list`",
                self.rest.join(" or ")
            );
            return Ended::Usage;
        }
        if arguments.list {
            let _ = libtest_mimic::run(&arguments, trials);
            return Ended::Holds;
        }
        if let Err(error) = Record::read(&place.testbed) {
            eprintln!("error: nothing was judged: {error}");
            return Ended::NothingJudged;
        }
        self.judge(suite, &arguments, trials)
    }

    fn judge(&self, suite: &Suite, arguments: &Arguments, trials: Vec<Trial>) -> Ended {
        reports::put_into(self.output.clone());
        let directory = self.output.join(suite.name);
        // The report of an earlier run must not be taken for that of a run that judged nothing.
        let _ = std::fs::remove_file(directory.join("report.json"));
        let conclusion = libtest_mimic::run(&suite.arguments(arguments.clone()), trials);
        let Ok(found) = reports::read(&directory) else {
            eprintln!("error: nothing was judged");
            return Ended::NothingJudged;
        };
        if let Err(error) = report::files(&directory, &found) {
            eprintln!("error: {error:#}");
            return Ended::DoesNotHold;
        }
        let ended = ended(&conclusion, &found);
        if ended == Ended::NothingJudged {
            eprintln!("error: nothing was judged: {} says why", directory.join("report.html").display());
        }
        ended
    }
}

/// How a run ended that left a report.
fn ended(conclusion: &Conclusion, found: &Report) -> Ended {
    let is_verdict = |verdict: Judgement| matches!(verdict, Judgement::Pass | Judgement::Fail);
    let judged = found.claims.iter().any(|claim| is_verdict(claim.verdict())) || !found.comparisons.is_empty();
    match (judged, conclusion.has_failed()) {
        (false, _) => Ended::NothingJudged,
        (true, true) => Ended::DoesNotHold,
        (true, false) => Ended::Holds,
    }
}

/// The arguments after the suite.
#[derive(Debug, PartialEq)]
struct Selected {
    names: Vec<String>,
    flags: Vec<String>,
}

impl Selected {
    /// Tells names from flags. The test harness itself takes one name only.
    fn of(rest: &[String]) -> Self {
        let (mut names, mut flags) = (Vec::new(), Vec::new());
        let mut rest = rest.iter();
        while let Some(argument) = rest.next() {
            if !argument.starts_with('-') {
                names.push(argument.clone());
            } else if argument != "--" {
                flags.push(argument.clone());
                if WITH_VALUE.contains(&argument.as_str()) {
                    flags.extend(rest.next().cloned());
                }
            }
        }
        Self { names, flags }
    }

    /// The tests that any of the names selects.
    fn trials(&self, suite: &Suite, exact: bool) -> Vec<Trial> {
        let matches = |trial: &Trial, name: &String| match exact {
            true => trial.name() == name,
            false => trial.name().contains(name.as_str()),
        };
        let mut trials = suite.trials();
        trials.retain(|trial| self.names.is_empty() || self.names.iter().any(|name| matches(trial, name)));
        trials
    }
}

/// The suites, and what each could judge in the attached mesh.
fn listed(place: &Place) -> String {
    let mut text = String::from("suites:\n");
    for Suite { name, about, .. } in SUITES {
        text.push_str(&format!("  {name:<13} {about}\n"));
    }
    match Record::read(&place.testbed) {
        Ok(record) => {
            let mut parts = attach::judgeable(&record);
            parts.push(analyze(&place.testbed));
            parts.retain(|part| meshproof_suites::suite(part.suite).is_some());
            text.push_str(&suites(&parts));
        }
        Err(error) => text.push_str(&format!("\n{error}\n")),
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use meshproof::report::{Claim, record_tables};

    use super::*;

    fn selected(arguments: &[&str]) -> Selected {
        Selected::of(&arguments.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn names_are_told_from_flags_and_select_tests() {
        let selected = selected(&["plaintext", "--test-threads", "2", "refused", "--exact", "--skip", "strict", "--"]);
        assert_eq!(selected.names, ["plaintext", "refused"]);
        assert_eq!(selected.flags, ["--test-threads", "2", "--exact", "--skip", "strict"]);
        let mtls = meshproof_suites::suite("mtls").unwrap();
        assert!(selected.trials(mtls, true).is_empty(), "exactly");
        let all = Selected::of(&[]).trials(mtls, false).len();
        let some = selected.trials(mtls, false);
        assert!(!some.is_empty() && some.len() < all);
        let is_named = |trial: &Trial| ["plaintext", "refused"].iter().any(|name| trial.name().contains(name));
        assert!(some.iter().all(is_named));
    }

    /// How a run ends that leaves these claims.
    fn ended_with(claims: Vec<Claim>, failed: u64) -> Ended {
        let directory = tempfile::tempdir().unwrap();
        record_tables(directory.path(), "s", BTreeMap::new(), claims, Vec::new()).unwrap();
        let trial = Trial::test("a_test", move || if failed > 0 { Err("it fails on purpose".into()) } else { Ok(()) });
        // Its words would stand among those of the unit tests.
        let arguments = Arguments::from_iter(["test", "--logfile", "/dev/null"]);
        let conclusion = libtest_mimic::run(&arguments, vec![trial]);
        ended(&conclusion, &reports::read(directory.path()).unwrap())
    }

    #[test]
    fn the_end_tells_what_holds_from_what_does_not_and_from_what_was_not_judged() {
        let holds = || Claim::about("a", "").equals(&1, &1);
        let fails = || Claim::about("b", "").equals(&1, &2);
        assert_eq!(ended_with(vec![holds()], 0), Ended::Holds);
        assert_eq!(ended_with(vec![holds(), fails()], 1), Ended::DoesNotHold);
        assert_eq!(ended_with(vec![holds(), Claim::error("c", "no answer")], 1), Ended::DoesNotHold);
        assert_eq!(ended_with(vec![Claim::error("c", "no answer")], 1), Ended::NothingJudged);
        assert_eq!(ended_with(vec![Claim::not_declared("d", "no probes")], 0), Ended::NothingJudged);
    }
}
