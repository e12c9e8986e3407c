//! The suite `diagnosis` of `meshproof-suites`, as a test: `cargo test --test diagnosis`.

use std::process::ExitCode;

fn main() -> ExitCode {
    meshproof_suites::main("diagnosis")
}
