//! Processor architectures that the project's own programs are built for.

use anyhow::Result;

use crate::command::{on_path, run};

/// A processor architecture, by the name that Kubernetes and OCI use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Architecture {
    Amd64,
    Arm64,
}

impl Architecture {
    /// All architectures.
    pub(crate) const ALL: [Self; 2] = [Self::Amd64, Self::Arm64];

    /// Name in an image's configuration and in a node's `status.nodeInfo.architecture`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// The compiler's target. It has glibc instead of musl for its allocator.
    pub(crate) fn target(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-unknown-linux-gnu",
            Self::Arm64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// Whether this machine has the architecture.
    fn is_native(self) -> bool {
        self.target().starts_with(std::env::consts::ARCH)
    }

    /// Debian's C compiler for the architecture.
    fn compiler(self) -> String {
        format!("{}-linux-gnu-gcc", self.target().split('-').next().unwrap_or_default())
    }

    /// Environment variables that let cargo link for the architecture. Empty on a machine of that architecture.
    pub(super) fn linker(self) -> Vec<(&'static str, String)> {
        if self.is_native() {
            return Vec::new();
        }
        let (linker, compiler) = match self {
            Self::Amd64 => ("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER", "CC_x86_64_unknown_linux_gnu"),
            Self::Arm64 => ("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", "CC_aarch64_unknown_linux_gnu"),
        };
        vec![(linker, self.compiler()), (compiler, self.compiler())]
    }

    /// The commands that install what this machine needs to build for the architecture. Empty if nothing is missing.
    ///
    /// # Errors
    /// Fails if there is no Rust compiler.
    pub(crate) async fn missing_toolchain(self) -> Result<Vec<String>> {
        let mut missing = Vec::new();
        let library = run("rustc").args(["--print", "target-libdir", "--target", self.target()]).stdout().await?;
        if !std::path::Path::new(library.trim()).is_dir() {
            missing.push(format!("rustup target add {}", self.target()));
        }
        if !self.is_native() && !on_path(&self.compiler()) {
            let package = self.name();
            missing.push(format!("apt-get install {} libc6-dev-{package}-cross", self.package()));
        }
        Ok(missing)
    }

    /// Debian's package with [`Self::compiler`].
    fn package(self) -> &'static str {
        match self {
            Self::Amd64 => "gcc-x86-64-linux-gnu",
            Self::Arm64 => "gcc-aarch64-linux-gnu",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_toolchain_of_this_machine_is_complete_and_needs_no_linker_of_its_own() {
        let native = Architecture::ALL.into_iter().find(|architecture| architecture.is_native());
        let native = native.expect("the tests run on a supported architecture");
        assert_eq!(native.missing_toolchain().await.unwrap(), Vec::<String>::new());
        assert!(native.linker().is_empty());
    }

    #[test]
    fn a_cross_build_names_debians_compiler() {
        let foreign = Architecture::ALL.into_iter().find(|architecture| !architecture.is_native()).unwrap();
        let (_, compiler) = foreign.linker().swap_remove(0);
        assert!(compiler.ends_with("-linux-gnu-gcc"), "{compiler}");
    }
}
