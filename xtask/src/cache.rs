//! `cargo xtask cache`: what is kept of earlier builds.

use anyhow::Result;
use clap::Subcommand;

use crate::artifacts::{Kept, Store};
use crate::paths;

/// The artifacts that are kept in the user's cache directory.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// List artifacts with their sizes, and the checkouts that use them
    List,
    /// Remove the artifacts that the sources of no checkout name
    Prune {
        /// Only say what would be removed
        #[arg(long)]
        dry_run: bool,
    },
}

impl Command {
    /// # Errors
    /// Fails if the cache cannot be read, or it is not known what this checkout uses.
    pub(crate) fn run(self) -> Result<()> {
        let store = Store::open()?;
        match self {
            Self::List => {
                let kept = store.kept()?;
                print!("{}", table(&kept));
                println!("{} in {}", total(&kept), paths::cache()?.join("artifacts").display());
            }
            Self::Prune { dry_run } => {
                let removed = store.prune(paths::root(), dry_run)?;
                print!("{}", table(&removed));
                println!("{} {}", total(&removed), if dry_run { "would be removed" } else { "removed" });
            }
        }
        Ok(())
    }
}

fn table(kept: &[Kept]) -> String {
    let line = |one: &Kept| {
        let users: Vec<String> = one.used_by.iter().map(|user| user.display().to_string()).collect();
        let users = if users.is_empty() { "–".to_owned() } else { users.join(", ") };
        format!("{:>9}  {:<44}  {users}\n", mebibytes(one.bytes), one.name)
    };
    kept.iter().map(line).collect()
}

fn total(kept: &[Kept]) -> String {
    format!("{} artifacts, {}", kept.len(), mebibytes(kept.iter().map(|one| one.bytes).sum()))
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / 1_048_576.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_size_and_who_uses_it() {
        let kept = |name: &str, bytes, used_by: &[&str]| Kept {
            name: name.into(),
            bytes,
            used_by: used_by.iter().map(Into::into).collect(),
        };
        let all = [kept("istio-1", 3 << 20, &["/a", "/b"]), kept("probe-1", 1 << 19, &[])];
        let text = table(&all);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines, [vec!["3.0", "MiB", "istio-1", "/a,", "/b"], vec!["0.5", "MiB", "probe-1", "–"]]);
        assert_eq!(total(&all), "2 artifacts, 3.5 MiB");
    }
}
