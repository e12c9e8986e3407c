//! `cargo xtask image …`: the probe's image, for clusters that `up` did not make, and the image of `meshproof`.

mod push;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Subcommand;

use crate::artifacts::layout::{self, Layout, Variant};
use crate::artifacts::workload::{self, Program};
use crate::artifacts::{Architecture, Store, images};
use crate::progress::Progress;

/// Tag without another: the version of this program.
const TAG: &str = env!("CARGO_PKG_VERSION");

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Push the probe's image to a registry, for `testbed attach --probe-image`, or the image of `meshproof`
    ///
    /// Credentials are those of `docker login`: `config.json` in DOCKER_CONFIG or ~/.docker, credential helpers included.
    Push(push::Push),
    /// Write the probe's image, or that of `meshproof`, to a directory, as an OCI image layout, for machines that reach no registry
    Save(Save),
}

impl Command {
    pub(crate) async fn run(self) -> Result<()> {
        match self {
            Self::Push(push) => push.run().await,
            Self::Save(save) => save.run().await,
        }
    }
}

/// A program with an image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum Of {
    /// The probe, which suites deploy
    #[default]
    Probe,
    /// `meshproof`, which judges a mesh
    Program,
    /// The load driver, for `meshproof compare` and `meshproof load job`
    Load,
}

impl Of {
    /// Name of the executable.
    fn executable(self) -> &'static str {
        match self {
            Self::Probe => "probe",
            Self::Program => "meshproof",
            Self::Load => "load",
        }
    }

    /// Builds the executable, and returns its directory.
    async fn build(self, store: &Store, architecture: Architecture) -> Result<PathBuf> {
        match self {
            Self::Probe => workload::build(store, "probe", "meshproof-probe", "probe", architecture).await,
            Self::Program => workload::program(store, architecture).await,
            Self::Load => workload::build(store, "load", "meshproof-load", "load", architecture).await,
        }
    }
}

/// What an image has in it.
#[derive(Debug, clap::Args)]
struct Contents {
    /// The program whose image it is
    #[arg(long, value_enum, default_value_t)]
    of: Of,
    /// Architecture of the clusters' nodes; may be given several times. Default: all that this machine can build for
    #[arg(long = "arch", value_enum, value_name = "ARCH")]
    given: Vec<Architecture>,
}

#[derive(clap::Args)]
#[command(
    after_help = "Example: cargo xtask image save probe-image && skopeo copy oci:probe-image docker://REGISTRY/REPO"
)]
pub(crate) struct Save {
    /// Directory to write; must be empty or not exist
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Tag of the image in the layout
    #[arg(long, default_value = TAG)]
    tag: String,
    #[command(flatten)]
    contents: Contents,
}

impl Save {
    async fn run(self) -> Result<()> {
        must_be_free(&self.directory)?;
        let layout = build(&self.contents, &self.directory, &self.tag).await?;
        println!("{}: {} ({})", self.directory.display(), self.tag, layout.index.digest);
        Ok(())
    }
}

/// Fails if `directory` has an entry: an older image must not be mixed with this one.
fn must_be_free(directory: &Path) -> Result<()> {
    match std::fs::read_dir(directory) {
        Ok(entries) => match entries.count() {
            0 => Ok(()),
            _ => bail!("{} is not empty; name a directory that is empty or does not exist", directory.display()),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", directory.display())),
    }
}

impl Contents {
    /// The architectures to build for.
    ///
    /// # Errors
    /// Fails if this machine cannot build for an architecture that was asked for. The error has the commands that
    /// change that.
    async fn choose(&self, progress: &Progress) -> Result<Vec<Architecture>> {
        let asked = if self.given.is_empty() { &Architecture::ALL[..] } else { &self.given[..] };
        let mut chosen: Vec<Architecture> = Vec::new();
        for &architecture in asked {
            let missing = architecture.missing_toolchain().await?;
            match missing.is_empty() {
                true if chosen.contains(&architecture) => {}
                true => chosen.push(architecture),
                false if self.given.is_empty() => progress.say(format!(
                    "without {}: to build for it, run `{}`",
                    architecture.name(),
                    missing.join(" && ")
                )),
                false => bail!("this machine cannot build for {}: run `{}`", architecture.name(), missing.join(" && ")),
            }
        }
        if chosen.is_empty() {
            bail!("this machine can build for no architecture: it has neither an amd64 nor an arm64 toolchain");
        }
        Ok(chosen)
    }
}

/// Builds the program for each architecture, and writes its image into `directory`.
async fn build(contents: &Contents, directory: &Path, tag: &str) -> Result<Layout> {
    let (progress, store) = (Progress::new(), Store::open()?);
    let scratch = tempfile::tempdir()?;
    let mut variants = Vec::new();
    for architecture in contents.choose(&progress).await? {
        let executable = contents.of.executable();
        let name = format!("{executable} for {}", architecture.name());
        let built = contents.of.build(&store, architecture);
        let program = Program::read(executable, &progress.step(None, &name, built).await?)?;
        let layers = scratch.path().join(architecture.name());
        std::fs::create_dir(&layers)?;
        variants.push(Variant { architecture, image: images::workload(&program, &layers)? });
    }
    layout::write(directory, tag, &variants)
}
