//! The lock on a namespace's pins: who writes has it. Who reads needs none, and waits for nobody.

use std::fs::{self, DirBuilder, File};
use std::io::{ErrorKind, Write, stderr};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::bpffs::{entries, exists, mkdir, remove_directory, require_trusted};
use super::cause::is_not_found;
use super::{Pins, abi};
use crate::error::{Exit, failure};
use crate::host::locks::Holder;

/// How long a run waits for the others.
const LOCK_WITHIN: Duration = Duration::from_secs(30);
/// How long it waits without a word.
const SILENT: Duration = Duration::from_secs(1);
/// How often is read again what others make or remove meanwhile.
const READS: usize = 10;

/// The namespace's directory, locked until this is dropped.
#[must_use = "the lock is given up when this is dropped"]
pub struct Lock(#[allow(dead_code)] Flock<File>);

impl Pins {
    /// Locks state that must be there already: exit 3 where it isn't.
    pub fn lock(&self) -> Result<Lock> {
        match self.try_lock()? {
            Some(lock) if self.has_state()? => Ok(lock),
            _ => Err(self.not_attached()),
        }
    }

    /// As `lock`, and sweeps up what a run that was killed half-way has left of state that is gone.
    pub fn lock_to_detach(&self) -> Result<Lock> {
        let _ = match self.try_lock()? {
            Some(lock) if self.has_state()? => return Ok(lock),
            Some(_lock) => self.remove(),
            // Without the lock nothing more than an empty directory.
            None => remove_directory(&self.root).map(drop),
        };
        Err(self.nothing_attached(""))
    }

    /// Reads what is pinned, while others may change it; None where nothing is. What was read is of
    /// one state, from its `attach` to its `detach`.
    pub fn read<T>(&self, read: impl Fn() -> Result<T>) -> Result<Option<T>> {
        for last in (0..READS).map(|attempt| attempt + 1 == READS) {
            let Some(before) = self.identity()? else {
                return Ok(None);
            };
            let result = read();
            let is_same = self.identity()? == Some(before);
            let has_vanished = || result.as_ref().is_err_and(is_not_found);
            if is_same && (last || !has_vanished()) {
                return result.map(Some);
            }
        }
        let path = self.namespace.display();
        bail!("{path}: others attach and detach too fast for it to be read: try again");
    }

    /// Of the state, another one after each `detach`; None where nothing is pinned.
    fn identity(&self) -> Result<Option<u64>> {
        let look = || {
            if !exists(&self.namespace)? {
                return Ok(None);
            }
            require_trusted(&self.root)?;
            require_trusted(&self.namespace)?;
            self.require_our_version()?;
            let state = self.state();
            let found = fs::metadata(&state);
            let found = found.with_context(|| format!("cannot look into {}", state.display()))?;
            Ok(Some(found.ino()))
        };
        match look() {
            Err(error) if is_not_found(&error) => Ok(None),
            looked => looked,
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
            if !is_trusted(&self.root)? {
                continue;
            }
            match mkdir(&self.namespace, 0o700) {
                // Another run's last detach has just removed the root.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                made => {
                    made.with_context(|| format!("cannot make {}", self.namespace.display()))?
                }
            }
            if let Some(lock) = self.try_lock()? {
                return Ok(lock);
            }
        }
    }

    /// None where the directory is missing.
    fn try_lock(&self) -> Result<Option<Lock>> {
        loop {
            if !is_trusted(&self.root)? || !is_trusted(&self.namespace)? {
                return Ok(None);
            }
            let directory = match File::open(&self.namespace) {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                opened => {
                    opened.with_context(|| format!("cannot open {}", self.namespace.display()))?
                }
            };
            let lock = self.wait_for_lock(directory)?;
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
    fn wait_for_lock(&self, mut directory: File) -> Result<Flock<File>> {
        let path = self.namespace.display();
        let start = Instant::now();
        let mut said = false;
        loop {
            match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(lock),
                Err((back, Errno::EWOULDBLOCK | Errno::EINTR)) => directory = back,
                Err((_, errno)) => {
                    return Err(errno).with_context(|| format!("cannot lock {path}"));
                }
            }
            let waited = start.elapsed();
            if waited > LOCK_WITHIN {
                let seconds = LOCK_WITHIN.as_secs();
                let by = by_whom(&directory);
                let message = format!("{path}: locked for over {seconds} s by {by}");
                return Err(failure(Exit::Failed, message));
            }
            if waited > SILENT && !said {
                said = true;
                let by = by_whom(&directory);
                let _ = writeln!(
                    stderr(),
                    "xdpredir: waiting for the lock on {path}, held by {by}"
                );
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

/// False where the directory is not there, or another run has just removed it.
fn is_trusted(directory: &Path) -> Result<bool> {
    match require_trusted(directory) {
        Err(error) if is_not_found(&error) => Ok(false),
        trusted => trusted.map(|()| true),
    }
}

fn by_whom(directory: &File) -> String {
    let unknown = || "a process that this one cannot see".to_string();
    Holder::of(directory).map_or_else(unknown, |holder| holder.to_string())
}
