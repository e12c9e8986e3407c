//! The suite `identity` of `meshproof-suites`, as a test: `cargo test --test identity`.

use std::process::ExitCode;

fn main() -> ExitCode {
    meshproof_suites::main("identity")
}
