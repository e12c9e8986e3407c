//! `meshproof`: judges a service mesh, without a checkout of its repository.

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use meshproof_cli::{
    Attach, Audit, Compare, Detach, Ended, Gate, Judge, Ledger, Load, Place, Report, Test, Wanted, exit_code, log,
};

/// Judges a service mesh that you have: who is authenticated, who reaches what, and what answers without mutual TLS
///
/// Exit codes: 0 all holds, 1 something does not hold, 2 the command line, 3 nothing was judged.
#[derive(Parser)]
#[command(name = "meshproof", version, disable_help_subcommand = true, after_help = FIRST)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// What to do first.
const FIRST: &str = "\
Examples:
  meshproof plan --context east --context west --probe-image REGISTRY/PROBE@DIGEST
  meshproof attach --context east --context west --probe-image REGISTRY/PROBE@DIGEST
  meshproof test mtls
  meshproof detach

The record of the mesh is in ./meshproof/testbed, or in $MESHPROOF_TESTBED.";

#[derive(Subcommand)]
enum Command {
    /// Find out what a mesh is, by reading, and write its record
    #[command(after_help = "\
Examples:
  meshproof attach --context east --context west --probe-image REGISTRY/PROBE@DIGEST
  meshproof attach --context east --read-only
  meshproof attach --context east --probe-image REGISTRY/PROBE:1 --image-pull-secret team/registry")]
    Attach(Box<Attach>),
    /// Touch nothing: print what would be created, what would be called, and the rights that are needed
    #[command(after_help = "\
Examples:
  meshproof plan --context east --probe-image REGISTRY/PROBE@DIGEST > plan.yaml
  meshproof plan --context east --read-only --grant-to team/meshproof")]
    Plan(Box<Wanted>),
    #[command(after_help = "\
Examples:
  meshproof audit
  meshproof audit --context east --context west --probe-image REGISTRY/PROBE@DIGEST
  meshproof audit --namespace shop --namespace payments
  meshproof audit --expected expected.toml --rate-per-pod 5")]
    Audit(Box<Audit>),
    #[command(after_help = "\
Examples:
  meshproof compare --control control --treatment treatment
  meshproof compare --control git:main:mesh --treatment mesh --minutes 6 --bounds bounds.toml
  meshproof compare --control mesh/base --treatment mesh/next --service cart --port 7070 --path /healthz
  meshproof compare --control control --treatment treatment --cluster east --load-image REGISTRY/LOAD")]
    Compare(Box<Compare>),
    /// Judge the mesh by a suite, and write JSON, HTML, JUnit and Markdown
    #[command(after_help = "\
Examples:
  meshproof test
  meshproof test mtls
  meshproof test mtls plaintext certificate
  meshproof test --output reports mtls --test-threads 1
  meshproof test boutique --list")]
    Test(Test),
    /// Make load on an address, serve a known latency to test load with, or make load from pods
    #[command(
        subcommand,
        after_help = "\
Examples:
  meshproof load run http://127.0.0.1:8080 --rate 100 --duration 30s
  meshproof load job grpc://echo.shop:80 --cluster east --parallelism 4 --image REGISTRY/LOAD"
    )]
    Load(Load),
    #[command(after_help = "\
Examples:
  meshproof judge meshproof/perf
  meshproof judge meshproof/perf --bounds bounds.toml --json")]
    Judge(Judge),
    #[command(after_help = "\
Examples:
  meshproof report meshproof/mtls meshproof/audit
  meshproof report meshproof/mtls --summary summary.md
  meshproof report meshproof/mtls meshproof/audit --against earlier/meshproof --summary changes.md")]
    Report(Report),
    #[command(after_help = "\
Examples:
  meshproof gate meshproof/mtls meshproof/audit
  meshproof gate meshproof/mtls --quarantine quarantine.toml --ledger ledger.jsonl
  meshproof gate meshproof/mtls --against earlier/meshproof --summary summary.md")]
    Gate(Gate),
    #[command(
        subcommand,
        after_help = "\
Examples:
  meshproof ledger add --ledger ledger.jsonl meshproof/mtls meshproof/audit
  meshproof ledger add --ledger ledger.jsonl --commit 4c1d0b6 --attempt 2 meshproof/mtls
  meshproof ledger show ledger.jsonl --days 30"
    )]
    Ledger(Ledger),
    /// Remove what suites have created in the mesh, and its record
    #[command(after_help = "\
Examples:
  meshproof detach
  meshproof detach --context east --force")]
    Detach(Detach),
    /// Print the completions of a shell
    #[command(after_help = "\
Examples:
  meshproof completions bash > /etc/bash_completion.d/meshproof
  meshproof completions fish > ~/.config/fish/completions/meshproof.fish")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Default log filter without `RUST_LOG`: warnings of the project's own crates.
const LOGGED: &str = "meshproof=warn,meshproof_cli=warn,meshproof_load=warn,meshproof_suites=warn";

fn main() -> ExitCode {
    let cli = Cli::parse();
    log(LOGGED);
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    // The tests of a suite have runtimes of their own.
    if let Command::Test(test) = cli.command {
        return test.run(&Place::here()).into();
    }
    let runtime = tokio::runtime::Runtime::new().map_err(anyhow::Error::from);
    let ended = runtime.and_then(|runtime| runtime.block_on(Box::pin(run(cli.command))));
    // Whatever stopped a command before its end, nothing was judged.
    ended.map_or_else(|error| exit_code(&error, Ended::NothingJudged.into()), ExitCode::from)
}

async fn run(command: Command) -> anyhow::Result<Ended> {
    match command {
        Command::Attach(attach) => attach.run(&Place::to_attach()).await?,
        Command::Plan(wanted) => wanted.plan(&Place::to_attach()).await?,
        Command::Audit(audit) => return Ok(audit.run(&Place::here()).await),
        Command::Compare(compare) => return Ok(compare.run(&Place::here()).await),
        Command::Test(test) => return Ok(test.run(&Place::here())),
        Command::Load(load) => load.run().await?,
        Command::Judge(judge) => return judge.run(None),
        Command::Report(report) => report.run()?,
        Command::Gate(gate) => return Ok(gate.run()),
        Command::Ledger(ledger) => ledger.run()?,
        Command::Detach(detach) => detach.run(&Place::here()).await?,
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "meshproof", &mut std::io::stdout());
        }
    }
    Ok(Ended::Holds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_help_with_examples_that_are_read_as_they_are_written() {
        let mut all = Cli::command();
        all.build();
        for command in all.get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let examples: Vec<&str> = help.lines().filter_map(|line| line.strip_prefix("  meshproof ")).collect();
            assert!(!examples.is_empty(), "{} has no example", command.get_name());
            for example in examples {
                let words = example.split(" > ").next().unwrap_or_default().split_whitespace();
                let parsed = Cli::try_parse_from(std::iter::once("meshproof").chain(words));
                assert!(parsed.is_ok(), "meshproof {example}: {}", parsed.err().unwrap());
            }
        }
    }
}
