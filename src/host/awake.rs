//! Processors that do not sleep while something is timed.
//!
//! An idle processor sleeps, and what wakes it has to wait for it: some microseconds where the machine is the processor's only one,
//! and milliseconds where it is a guest whose host has given the processor to another meanwhile. A request wakes several, one
//! after the other, and a slow one is the machine's, in whichever arm it happens.

use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Read, Result, Write};

/// The kernel's quality of service: the microseconds that an idle processor may take to wake, an `i32`, of which the lowest that
/// anybody asks for is in force; what asks does so for as long as it has this open (Documentation/power/pm_qos_interface.rst).
const LATENCY: &str = "/dev/cpu_dma_latency";

/// What lets idle processors sleep; `none` takes no notice of what is asked for.
const DRIVER: &str = "/sys/devices/system/cpu/cpuidle/current_driver";

/// Keeps the processors of this machine awake until it is dropped, or the process ends, however that is.
#[derive(Debug)]
pub struct Awake {
    _asked: File,
}

impl Awake {
    /// Begins to.
    ///
    /// # Errors
    /// Where this user may not ask for it, or the kernel cannot do it.
    pub fn keep() -> Result<Self> {
        if !can_be_kept(&driver()) {
            return Err(Error::new(ErrorKind::Unsupported, "this kernel does not manage how idle processors sleep"));
        }
        let ask = || {
            let mut asked = OpenOptions::new().write(true).open(LATENCY)?;
            asked.write_all(&0_i32.to_ne_bytes())?;
            Ok(Self { _asked: asked })
        };
        ask().map_err(|error: Error| Error::new(error.kind(), format!("{LATENCY}: {error}")))
    }

    /// Whether they are, whoever asked for it; not where it cannot be told.
    pub fn in_force() -> bool {
        let mut latency = [0; size_of::<i32>()];
        let read = File::open(LATENCY).and_then(|mut file| file.read_exact(&mut latency));
        read.is_ok() && i32::from_ne_bytes(latency) == 0 && can_be_kept(&driver())
    }
}

/// Empty where this kernel has none.
fn driver() -> String {
    std::fs::read_to_string(DRIVER).unwrap_or_default()
}

fn can_be_kept(driver: &str) -> bool {
    !matches!(driver.trim(), "" | "none")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_kept_awake_or_it_is_said_why_not() {
        match Awake::keep() {
            Ok(awake) => {
                assert!(
                    Awake::in_force(),
                    "0 µs were asked for with {awake:?}, and the kernel has another latency in force"
                );
            }
            Err(error) => {
                let said = error.to_string();
                assert!(said.contains(LATENCY) || said.contains("does not manage"), "{said}");
            }
        }
    }

    #[test]
    fn a_kernel_that_takes_no_notice_keeps_nothing_awake() {
        assert!(can_be_kept("haltpoll\n") && can_be_kept("intel_idle"));
        assert!(!can_be_kept("none\n") && !can_be_kept(""));
    }
}
