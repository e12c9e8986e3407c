//! The suite `mtls` of `meshproof-suites`, as a test: `cargo test --test mtls`.

use std::process::ExitCode;

fn main() -> ExitCode {
    meshproof_suites::main("mtls")
}
