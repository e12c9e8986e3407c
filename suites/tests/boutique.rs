//! The suite `boutique` of `meshproof-suites`, as a test: `cargo test --test boutique`.

use std::process::ExitCode;

fn main() -> ExitCode {
    meshproof_suites::main("boutique")
}
