//! Keeps processors awake during measurements.
//!
//! An idle processor sleeps. Waking it takes some microseconds on dedicated hardware, and milliseconds if a hypervisor
//! has given the processor to another guest. A request wakes several processors in sequence. So a slow wake-up adds
//! latency that belongs to the machine, in either arm.

use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Read, Result, Write};

/// The kernel's PM QoS device. A user writes the tolerated wake-up latency in microseconds, as an `i32`, and the
/// request holds while the file is open. The lowest request applies (Documentation/power/pm_qos_interface.rst).
const LATENCY: &str = "/dev/cpu_dma_latency";

/// The kernel's idle driver. The driver `none` ignores latency requests.
const DRIVER: &str = "/sys/devices/system/cpu/cpuidle/current_driver";

/// Keeps this machine's processors awake until drop, or until the process ends, even by a crash.
#[derive(Debug)]
pub struct Awake {
    _asked: File,
}

impl Awake {
    /// Starts to keep processors awake.
    ///
    /// # Errors
    /// This user is not permitted to request it, or the kernel does not support it.
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

    /// Whether any process keeps the processors awake. `false` if unknown.
    pub fn in_force() -> bool {
        let mut latency = [0; size_of::<i32>()];
        let read = File::open(LATENCY).and_then(|mut file| file.read_exact(&mut latency));
        read.is_ok() && i32::from_ne_bytes(latency) == 0 && can_be_kept(&driver())
    }
}

/// Name of the idle driver. Empty if the kernel has none.
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
