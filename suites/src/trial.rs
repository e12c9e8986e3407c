//! Tests as values, so that a program can list and run them as cargo does.

use std::panic::resume_unwind;

use libtest_mimic::{Failed, Trial};
use meshproof::Verdict;

/// Stack of a test's thread, in bytes. The unoptimized future of a test is large.
const STACK: usize = 8 << 20;

/// Lists the tests of a module, in the order in which they run:
///
/// ```text
/// trials! {
///     a_test,
///     #[ignore = "why it runs by name only"]
///     another_test,
///     a_test_of_cases {
///         first_case(1, "one"),
///         second_case(2, "two"),
///     },
///     mod part,
/// }
/// ```
///
/// A case is the arguments of the function, and becomes the test `a_test_of_cases::first_case`. `mod part` adds the tests
/// that the module `part` lists.
macro_rules! trials {
    (@ $list:ident) => {};
    (@ $list:ident mod $part:ident, $($rest:tt)*) => {
        $list.extend($part::trials());
        $crate::trials!(@ $list $($rest)*);
    };
    (@ $list:ident #[ignore = $why:literal] $test:ident, $($rest:tt)*) => {
        $list.extend([$crate::trial::new(module_path!(), stringify!($test), $test).with_ignored_flag(true)]);
        $crate::trials!(@ $list $($rest)*);
    };
    (@ $list:ident $test:ident { $($case:ident($($argument:expr),*)),+ $(,)? }, $($rest:tt)*) => {
        $(
            let name = concat!(stringify!($test), "::", stringify!($case));
            $list.extend([$crate::trial::new(module_path!(), name, || $test($($argument),*))]);
        )+
        $crate::trials!(@ $list $($rest)*);
    };
    (@ $list:ident $test:ident, $($rest:tt)*) => {
        $list.extend([$crate::trial::new(module_path!(), stringify!($test), $test)]);
        $crate::trials!(@ $list $($rest)*);
    };
    ($($all:tt)*) => {
        pub(crate) fn trials() -> Vec<libtest_mimic::Trial> {
            let mut list = Vec::new();
            $crate::trials!(@ list $($all)*);
            list
        }
    };
}
pub(crate) use trials;

/// The test `name` of a module of a suite. `test` runs on a thread of its own.
pub(crate) fn new<F>(module: &str, name: &'static str, test: impl FnOnce() -> F + Send + 'static) -> Trial
where
    F: Future<Output = Verdict>,
{
    // `meshproof_suites::boutique::loss` is the module `loss` of a suite.
    let parts = module.split("::").skip(2).chain([name]);
    Trial::test(parts.collect::<Vec<_>>().join("::"), move || run(name, test))
}

fn run<F>(name: &str, test: impl FnOnce() -> F + Send + 'static) -> Result<(), Failed>
where
    F: Future<Output = Verdict>,
{
    let work = move || -> Result<(), Failed> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(runtime.block_on(test())?)
    };
    let thread = std::thread::Builder::new().name(name.to_owned()).stack_size(STACK).spawn(work)?;
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}

#[cfg(test)]
mod tests {
    use libtest_mimic::{Arguments, Conclusion};

    use super::*;

    /// Runs one test in place of a suite, with the harness's arguments.
    fn conclusion<F: Future<Output = Verdict>>(
        arguments: &[&str],
        test: impl FnOnce() -> F + Send + 'static,
    ) -> Conclusion {
        let arguments = Arguments {
            // Its words would stand among those of the unit tests.
            logfile: Some("/dev/null".into()),
            ..Arguments::from_iter(["suite"].iter().chain(arguments))
        };
        libtest_mimic::run(&arguments, vec![new("meshproof_suites::a_suite::part", "a_test", test)])
    }

    #[test]
    fn a_test_passes_unless_it_fails_or_panics() {
        let passes = || std::future::ready(Ok(()));
        assert_eq!(conclusion(&[], passes).num_passed, 1);
        assert_eq!(conclusion(&["part::a_test", "--exact"], passes).num_passed, 1);
        assert_eq!(conclusion(&["a_test", "--exact"], passes).num_filtered_out, 1);
        let panics = conclusion(&[], || async { panic!("the test panics on purpose") });
        assert_eq!((panics.num_failed, panics.num_passed), (1, 0));
        let fails = conclusion(&[], || std::future::ready(Err(meshproof::Error::suite("on purpose").into())));
        assert_eq!((fails.num_failed, fails.num_passed), (1, 0));
    }
}
