//! The suite `bench` of `meshproof-suites`, as a test: `cargo test --test bench`.

use std::process::ExitCode;

fn main() -> ExitCode {
    meshproof_suites::main("bench")
}
