//! Freezes selected processes in nodes during a measurement.

use anyhow::{Context, Result, ensure};

use super::engine::{Attached, Engine};
use crate::provider::node::Hold;

/// Script that freezes parts of the control plane in a node.
const CONTROL_PLANE: &str = include_str!("hold-control-plane.sh");

/// Script that freezes all but a few pods in a node, on request.
const OTHERS: &str = include_str!("hold-others.sh");

/// The freezing commands, one per node. The frozen processes resume when the input of the command ends.
pub(crate) struct Held {
    nodes: Vec<Attached>,
}

impl Held {
    /// Starts the commands. For [`Hold::ControlPlane`], the processes are frozen when this returns.
    ///
    /// # Errors
    /// Fails if a node has no process to freeze, or a command cannot be started.
    pub(crate) async fn begin(engine: &Engine, nodes: &[String], hold: &Hold) -> Result<Self> {
        let command = command(hold);
        let mut held = Self { nodes: Vec::new() };
        for name in nodes {
            let mut node = engine.attach(name, &command).await?;
            if let Hold::ControlPlane = hold {
                let said = node.receive().await?;
                ensure!(said == "held", "what holds the control plane in {name} said `{said}`");
            }
            held.nodes.push(node);
        }
        Ok(held)
    }

    /// Freezes the processes on every node for `seconds`. Calls `held` with the number of processes, and returns when
    /// all run again.
    ///
    /// # Errors
    /// Fails if a command has ended or prints an unexpected line.
    pub(crate) async fn hold_for(&mut self, seconds: f64, held: impl FnOnce(u64)) -> Result<()> {
        for node in &mut self.nodes {
            node.send(&seconds.to_string()).await?;
        }
        let mut processes = 0;
        for node in &mut self.nodes {
            processes += count(&node.receive().await?)?;
        }
        held(processes);
        for node in &mut self.nodes {
            let said = node.receive().await?;
            ensure!(said == "over", "what holds the other processes said `{said}` in place of `over`");
        }
        Ok(())
    }
}

fn command(hold: &Hold) -> Vec<String> {
    let shell = |script: &str| ["sh", "-c", script, "hold"].map(str::to_owned).to_vec();
    match hold {
        Hold::ControlPlane => shell(CONTROL_PLANE),
        Hold::AllBut(uids) => shell(OTHERS).into_iter().chain(uids.iter().cloned()).collect(),
    }
}

/// Parses the number of frozen processes from a node's output line.
fn count(said: &str) -> Result<u64> {
    let number = said.strip_prefix("held ").and_then(|number| number.parse().ok());
    number.with_context(|| format!("what holds the other processes said `{said}` in place of `held` and their number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_says_how_many_it_holds_is_believed_and_another_word_is_an_error() {
        assert_eq!(count("held 27").unwrap(), 27);
        for said in ["over", "held", "held many", "held 27 processes"] {
            assert!(count(said).unwrap_err().to_string().contains(&format!("`{said}`")), "{said}");
        }
    }

    #[test]
    fn the_uids_to_spare_are_the_arguments_of_the_script() {
        let command = command(&Hold::AllBut(vec!["a-1".into(), "b-2".into()]));
        assert_eq!(command[..2], ["sh", "-c"]);
        assert_eq!(command[3..], ["hold", "a-1", "b-2"]);
    }
}
