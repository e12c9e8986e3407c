//! The suite `traffic` of `meshproof-suites`, as a test: `cargo test --test traffic`.

use std::process::ExitCode;

fn main() -> ExitCode {
    meshproof_suites::main("traffic")
}
