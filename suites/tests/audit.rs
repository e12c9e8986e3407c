//! The suite `audit` of `meshproof-suites`, as a test: `cargo test --test audit`.

use std::process::ExitCode;

fn main() -> ExitCode {
    meshproof_suites::main("audit")
}
