//! The suite `analyze` of `meshproof-suites`, as a test: `cargo test --test analyze`.

use std::process::ExitCode;

fn main() -> ExitCode {
    meshproof_suites::main("analyze")
}
