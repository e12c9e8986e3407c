//! The suite `modes` of `meshproof-suites`, as a test: `cargo test --test modes`.

use std::process::ExitCode;

fn main() -> ExitCode {
    meshproof_suites::main("modes")
}
