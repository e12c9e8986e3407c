//! The suite `hidden` of `meshproof-suites`, as a test: `cargo test --test hidden`.

use std::process::ExitCode;

fn main() -> ExitCode {
    meshproof_suites::main("hidden")
}
