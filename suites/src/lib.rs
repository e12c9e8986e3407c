//! The suites of meshproof that judge any mesh: as tests of `cargo test`, and in the program `meshproof`.
//!
//! A suite is a module. Its tests are private functions, and `trials!` lists them at the end of the file: the
//! compiler warns of a function that is not listed.

mod analyze;
mod audit;
mod authorization;
mod bench;
mod boutique;
mod diagnosis;
mod growth;
mod hidden;
mod identity;
mod modes;
mod mtls;
mod perf;
mod traffic;
mod trial;

use std::process::ExitCode;

pub use libtest_mimic;
use libtest_mimic::{Arguments, Trial};
pub(crate) use trial::trials;

/// A suite.
#[derive(Debug, Clone, Copy)]
pub struct Suite {
    /// Its name, as in `cargo test --test NAME`.
    pub name: &'static str,
    /// What it judges, in a line.
    pub about: &'static str,
    trials: fn() -> Vec<Trial>,
}

/// Tests that run at the same time. They mostly wait: for pods, for proxies and for their logs.
const AT_ONCE: usize = 4;

impl Suite {
    /// All tests of the suite, by their names, in the order in which they begin.
    pub fn trials(&self) -> Vec<Trial> {
        (self.trials)()
    }

    /// The harness's arguments, with the number of this suite's tests that run at the same time if they do not say it.
    pub fn arguments(&self, arguments: Arguments) -> Arguments {
        let at_once = match self.name {
            "authorization" => authorization::AT_ONCE,
            "traffic" => traffic::AT_ONCE,
            _ => AT_ONCE,
        };
        Arguments { test_threads: arguments.test_threads.or(Some(at_once)), ..arguments }
    }
}

/// All suites, by name.
pub const SUITES: [Suite; 13] = [
    Suite { name: "analyze", about: "`istioctl analyze` reports nothing unexpected", trials: analyze::trials },
    Suite { name: "audit", about: "every port of every workload takes mutual TLS only", trials: audit::trials },
    Suite {
        name: "authorization",
        about: "policies and tokens decide about calls as the reference says",
        trials: authorization::trials,
    },
    Suite { name: "bench", about: "measurements are isolated from all else that runs", trials: bench::trials },
    Suite { name: "boutique", about: "an online shop across the clusters", trials: boutique::trials },
    Suite { name: "diagnosis", about: "a red claim names what is broken: breaks the mesh", trials: diagnosis::trials },
    Suite { name: "growth", about: "what one more service, policy or connection costs", trials: growth::trials },
    Suite { name: "hidden", about: "what hides a fault, each part by itself", trials: hidden::trials },
    Suite { name: "identity", about: "certificates and authorities over time", trials: identity::trials },
    Suite { name: "modes", about: "how each call ends under each mode of mutual TLS", trials: modes::trials },
    Suite { name: "mtls", about: "who is authenticated, and who is refused, and how", trials: mtls::trials },
    Suite { name: "perf", about: "whether p99 latency moved", trials: perf::trials },
    Suite { name: "traffic", about: "routing does what its configuration says", trials: traffic::trials },
];

/// The suite with this name.
pub fn suite(name: &str) -> Option<&'static Suite> {
    SUITES.iter().find(|suite| suite.name == name)
}

/// Runs the suite `name` as a test binary of cargo, whose arguments are those of the test harness.
///
/// # Panics
/// There is no such suite.
pub fn main(name: &str) -> ExitCode {
    let suite = suite(name).unwrap_or_else(|| panic!("there is no suite `{name}`"));
    let arguments = suite.arguments(Arguments::from_args());
    libtest_mimic::run(&arguments, suite.trials()).exit_code()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_suite_has_tests_with_names_of_their_own() {
        for suite in SUITES {
            let trials = suite.trials();
            let names: BTreeSet<&str> = trials.iter().map(Trial::name).collect();
            assert!(!names.is_empty() && names.len() == trials.len(), "{}: {names:?}", suite.name);
        }
    }

    #[test]
    fn a_test_is_named_by_its_module_its_function_and_its_case() {
        let trials = suite("boutique").unwrap().trials();
        let has = |name: &str| trials.iter().any(|trial| trial.name() == name);
        assert!(has("two_shoppers_have_two_carts"));
        assert!(has("a_card_is_refused_and_the_cart_stays::that_has_expired"));
        assert!(has("loss::a_lost_service_is_missed_only_by_what_needs_it::redis_cart"));
        let placements = suite("perf").unwrap().trials().into_iter();
        let ignored: Vec<bool> = placements
            .filter(|trial| trial.name().starts_with("placement::"))
            .map(|trial| trial.has_ignored_flag())
            .collect();
        assert_eq!(ignored, [true; 4]);
    }

    #[test]
    fn the_command_line_says_how_many_tests_run_at_once_before_the_suite_does() {
        let at_once = |name: &str, flags: &[&str]| {
            let flags = Arguments::from_iter(["suite"].iter().chain(flags));
            suite(name).unwrap().arguments(flags).test_threads
        };
        assert_eq!(at_once("hidden", &[]), Some(AT_ONCE));
        assert_eq!(at_once("traffic", &[]), Some(traffic::AT_ONCE));
        assert_eq!(at_once("traffic", &["--test-threads=1"]), Some(1));
    }

    #[test]
    fn every_suite_is_a_test_of_cargo() {
        for suite in SUITES {
            let path = format!("{}/tests/{}.rs", env!("CARGO_MANIFEST_DIR"), suite.name);
            let source = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
            assert!(source.contains(&format!("meshproof_suites::main(\"{}\")", suite.name)), "{path}");
        }
    }
}
