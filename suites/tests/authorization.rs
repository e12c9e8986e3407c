//! The suite `authorization` of `meshproof-suites`, as a test: `cargo test --test authorization`.

use std::process::ExitCode;

fn main() -> ExitCode {
    meshproof_suites::main("authorization")
}
