//! The lock on a namespace's pins: one writer, or any number of readers.

use std::fs::{self, DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::bpffs::{entries, exists, mkdir, remove_directory, require_trusted};
use super::{Pins, abi};
use crate::error::{Exit, failure};

/// How long a run waits for the others.
const LOCK_WITHIN: Duration = Duration::from_secs(30);

/// The namespace's directory, locked until this is dropped.
#[must_use = "the lock is given up when this is dropped"]
pub struct Lock(#[allow(dead_code)] Flock<File>);

impl Pins {
    /// Locks state that must be there already: exit 3 where it isn't.
    pub fn lock(&self) -> Result<Lock> {
        match self.try_lock(FlockArg::LockExclusiveNonblock)? {
            Some(lock) if self.has_state()? => Ok(lock),
            _ => Err(self.not_attached()),
        }
    }

    /// As `lock`, and sweeps up what a run that was killed half-way has left of state that is gone.
    pub fn lock_to_detach(&self) -> Result<Lock> {
        let _ = match self.try_lock(FlockArg::LockExclusiveNonblock)? {
            Some(lock) if self.has_state()? => return Ok(lock),
            Some(_lock) => self.remove(),
            // Without the lock nothing more than an empty directory.
            None => remove_directory(&self.root).map(drop),
        };
        Err(self.nothing_attached(""))
    }

    /// Locks against writers; None where nothing is pinned.
    pub fn lock_shared(&self) -> Result<Option<Lock>> {
        match self.try_lock(FlockArg::LockSharedNonblock)? {
            Some(lock) if self.has_state()? => Ok(Some(lock)),
            _ => Ok(None),
        }
    }

    /// Makes the namespace's directory where it is missing, and locks it.
    pub fn lock_or_create(&self) -> Result<Lock> {
        self.require_bpffs()?;
        loop {
            match DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(&self.root)
            {
                // Another run has made it, or is removing it, at the same time.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                made => made.with_context(|| format!("cannot make {}", self.root.display()))?,
            }
            require_trusted(&self.root)?;
            match mkdir(&self.namespace, 0o700) {
                // Another run's last detach has just removed the root.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                made => {
                    made.with_context(|| format!("cannot make {}", self.namespace.display()))?
                }
            }
            if let Some(lock) = self.try_lock(FlockArg::LockExclusiveNonblock)? {
                return Ok(lock);
            }
        }
    }

    /// None where the directory is missing.
    fn try_lock(&self, how: FlockArg) -> Result<Option<Lock>> {
        loop {
            if !exists(&self.namespace)? {
                return Ok(None);
            }
            require_trusted(&self.root)?;
            require_trusted(&self.namespace)?;
            let directory = match File::open(&self.namespace) {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                opened => {
                    opened.with_context(|| format!("cannot open {}", self.namespace.display()))?
                }
            };
            let lock = self.wait_for_lock(directory, how)?;
            // While this run waited, another may have removed the directory and a third made it
            // anew: then this lock is on nothing.
            let same = fs::metadata(&self.namespace)
                .is_ok_and(|now| lock.metadata().is_ok_and(|held| now.ino() == held.ino()));
            if same {
                self.require_our_version()?;
                return Ok(Some(Lock(lock)));
            }
        }
    }

    /// Other runs are short; whoever holds the lock for longer hangs, and is not waited for.
    fn wait_for_lock(&self, mut directory: File, how: FlockArg) -> Result<Flock<File>> {
        let path = self.namespace.display();
        let deadline = Instant::now() + LOCK_WITHIN;
        loop {
            match Flock::lock(directory, how) {
                Ok(lock) => return Ok(lock),
                Err((back, Errno::EWOULDBLOCK | Errno::EINTR)) => directory = back,
                Err((_, errno)) => {
                    return Err(errno).with_context(|| format!("cannot lock {path}"));
                }
            }
            if Instant::now() > deadline {
                let seconds = LOCK_WITHIN.as_secs();
                let message = format!(
                    "{path}: locked by another run for over {seconds} s: `fuser -v {path}` shows by whom"
                );
                return Err(failure(Exit::Failed, message));
            }
            sleep(Duration::from_millis(5));
        }
    }

    fn require_our_version(&self) -> Result<()> {
        let ours = format!("abi-{}", abi::XDPREDIR_ABI);
        match entries(&self.namespace)?
            .into_iter()
            .find(|n| n.starts_with("abi-") && *n != ours)
        {
            Some(other) => Err(failure(
                Exit::Conflict,
                format!(
                    "{} was made by another version of xdpredir ({other}; this one is {ours}): \
                     detach with that version, or remove the directory to detach everything in it",
                    self.namespace.join(&other).display(),
                ),
            )),
            None => Ok(()),
        }
    }
}
