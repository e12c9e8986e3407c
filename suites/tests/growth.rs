//! The suite `growth` of `meshproof-suites`, as a test: `cargo test --test growth`.

use std::process::ExitCode;

fn main() -> ExitCode {
    meshproof_suites::main("growth")
}
