//! What is compared: where each arm is measured, and what load is made there.

use super::Bench;
use super::bench::ECHO;
use crate::judge::Arm;

/// Where each arm is measured. Both benches exist for as long as the comparison takes, so that a pair of runs lies
/// within seconds.
#[derive(Debug, Clone)]
pub struct Arms {
    /// Without the treatment.
    pub control: Bench,
    /// With it.
    pub treatment: Bench,
}

impl Arms {
    /// For arms that differ only in what is asked for.
    pub fn same(bench: Bench) -> Self {
        Self { control: bench.clone(), treatment: bench }
    }

    /// The bench of an arm.
    pub fn bench(&self, arm: Arm) -> &Bench {
        match arm {
            Arm::Control => &self.control,
            Arm::Treatment => &self.treatment,
        }
    }
}

/// The load of a run, beside what the bounds say of it (length, connections, rate).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Load {
    /// The load driver, with these arguments of its command line.
    Driver(Vec<String>),
    /// k6, which asks the gateway for this server name.
    K6 {
        /// In SNI and `Host`.
        server_name: String,
    },
}

impl Load {
    /// The driver's request for one kilobyte.
    pub fn echo() -> Self {
        Self::Driver(vec![format!("--path={ECHO}")])
    }

    /// The driver's arguments for one request of the same kind.
    pub(super) fn driver_arguments(&self) -> Vec<String> {
        match self {
            Self::Driver(arguments) => arguments.clone(),
            Self::K6 { server_name } => gateway_arguments(server_name),
        }
    }
}

/// The driver's arguments for a request over TLS to the gateway, by server name.
pub fn gateway_arguments(server_name: &str) -> Vec<String> {
    // The certificate signs itself. The judge compares the certificates of both arms.
    let mut arguments = vec!["--tls".into(), "--insecure".into(), format!("--path={ECHO}")];
    arguments.extend([format!("--server-name={server_name}"), format!("--host={server_name}")]);
    arguments
}

/// A comparison that is to be made.
#[derive(Debug, Clone)]
pub struct Case {
    /// Its id in the bounds.
    pub id: String,
    /// Where each arm is measured.
    pub arms: Arms,
    control: Load,
    treatment: Load,
}

impl Case {
    /// The comparison of that id, with the same [echo request](Load::echo) in both arms.
    pub fn new(id: impl Into<String>, arms: &Arms) -> Self {
        Self { id: id.into(), arms: arms.clone(), control: Load::echo(), treatment: Load::echo() }
    }

    /// With another load in each arm.
    #[must_use]
    pub fn with_load(self, load: impl Fn(Arm) -> Load) -> Self {
        Self { control: load(Arm::Control), treatment: load(Arm::Treatment), ..self }
    }

    /// The load of an arm.
    pub fn load(&self, arm: Arm) -> &Load {
        match arm {
            Arm::Control => &self.control,
            Arm::Treatment => &self.treatment,
        }
    }

    /// Waits until both arms answer: what is frozen during runs no longer learns of new pods.
    pub(super) async fn answers(&self) -> super::Result<()> {
        for arm in [Arm::Control, Arm::Treatment] {
            self.arms.bench(arm).answers(&self.load(arm).driver_arguments()).await?;
        }
        Ok(())
    }

    /// The namespaces of all of its pods.
    pub(super) fn namespaces(&self) -> impl Iterator<Item = String> {
        [&self.arms.control, &self.arms.treatment].into_iter().flat_map(Bench::namespaces)
    }

    /// The clusters of its benches.
    pub(super) fn clusters(&self) -> impl Iterator<Item = &str> {
        [&self.arms.control, &self.arms.treatment].into_iter().map(|bench| bench.cluster.name())
    }
}
