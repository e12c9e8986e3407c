//! Only one command at a time may change the testbed. A second `up` or `down` fails and names the holder of the lock.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};

use anyhow::{Context, Result, bail};

use crate::paths;

/// Held while the testbed is being changed. The kernel releases the lock when the process ends for any reason.
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock for `purpose`. Fails at once if the lock is held. The error has the holder's process, command and
    /// directory.
    pub(crate) fn take(purpose: &str) -> Result<Self> {
        let directory = paths::cache()?;
        std::fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        Self::take_at(&directory.join("testbed.lock"), purpose)
    }

    fn take_at(path: &std::path::Path, purpose: &str) -> Result<Self> {
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = file.read_to_string(&mut holder);
                bail!("the testbed is being changed by {}; wait for it to end, or end it", holder.trim());
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
        file.set_len(0)?;
        file.rewind()?;
        let directory = std::env::current_dir().unwrap_or_default();
        write!(file, "`{purpose}` (process {}, in {})", std::process::id(), directory.display())?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_taker_is_refused_and_told_who_holds_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let first = Lock::take_at(&path, "testbed up").unwrap();
        let refusal = Lock::take_at(&path, "testbed down").err().unwrap().to_string();
        assert!(refusal.contains("`testbed up`"), "{refusal}");
        assert!(refusal.contains(&format!("process {}", std::process::id())), "{refusal}");
        drop(first);
        Lock::take_at(&path, "testbed down").unwrap();
    }
}
