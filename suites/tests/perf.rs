//! The suite `perf` of `meshproof-suites`, as a test: `cargo test --test perf`.

use std::process::ExitCode;

fn main() -> ExitCode {
    meshproof_suites::main("perf")
}
