//! The subjects of a comparison: the bench of each arm, and the load there.

use super::Bench;
use super::bench::ECHO;
use crate::judge::Arm;

/// The benches of both arms. Both exist during the whole comparison, so that the runs of a pair are seconds apart.
#[derive(Debug, Clone)]
pub struct Arms {
    /// Bench without the treatment.
    pub control: Bench,
    /// Bench with the treatment.
    pub treatment: Bench,
}

impl Arms {
    /// One bench for both arms: the arms differ only in their load.
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

/// The load of a run, apart from the values in the bounds (length, connections, rate).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Load {
    /// The load driver, with these command line arguments.
    Driver(Vec<String>),
    /// k6 at the gateway.
    K6 {
        /// Server name, for SNI and `Host`.
        server_name: String,
    },
}

impl Load {
    /// The driver's request for 1 KiB.
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
    // The certificate is self-signed. The judge compares the certificates of both arms.
    let mut arguments = vec!["--tls".into(), "--insecure".into(), format!("--path={ECHO}")];
    arguments.extend([format!("--server-name={server_name}"), format!("--host={server_name}")]);
    arguments
}

/// A comparison to make.
#[derive(Debug, Clone)]
pub struct Case {
    /// The comparison's id in the bounds.
    pub id: String,
    /// The bench of each arm.
    pub arms: Arms,
    control: Load,
    treatment: Load,
}

impl Case {
    /// A comparison with this id, with the same [echo request](Load::echo) in both arms.
    pub fn new(id: impl Into<String>, arms: &Arms) -> Self {
        Self { id: id.into(), arms: arms.clone(), control: Load::echo(), treatment: Load::echo() }
    }

    /// The case with a load for each arm.
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

    /// Waits until both arms answer: components frozen during runs do not learn of new pods.
    pub(super) async fn answers(&self) -> super::Result<()> {
        for arm in [Arm::Control, Arm::Treatment] {
            self.arms.bench(arm).answers(&self.load(arm).driver_arguments()).await?;
        }
        Ok(())
    }

    /// The namespaces of all pods of the case.
    pub(super) fn namespaces(&self) -> impl Iterator<Item = String> {
        [&self.arms.control, &self.arms.treatment].into_iter().flat_map(Bench::namespaces)
    }

    /// The clusters of the case's benches.
    pub(super) fn clusters(&self) -> impl Iterator<Item = &str> {
        [&self.arms.control, &self.arms.treatment].into_iter().map(|bench| bench.cluster.name())
    }
}
