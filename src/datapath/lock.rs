//! The lock on a network namespace's pins. A run that writes holds it; a run that reads needs none, and
//! waits for nobody.

use std::fs::{self, DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::bpffs::{At, mkdir, remove_directory, require_trusted};
use super::cause::is_not_found;
use super::log::{Notice, say};
use super::state::{has_state, not_attached, nothing_attached};
use super::version::{require_heir, require_our_version};
use super::{Pins, detach};
use crate::error::{Exit, failure};
use crate::host::locks::Holder;
use crate::model::Remedy;

/// How long a run waits for the others.
const LOCK_WITHIN: Duration = Duration::from_secs(30);
/// How long it waits before it says so.
const SILENT: Duration = Duration::from_secs(1);

/// The network namespace's directory, locked until this is dropped.
#[must_use = "the lock is given up when this is dropped"]
pub struct Lock(#[allow(dead_code)] Flock<File>);

impl Lock {
    /// Locks state that must be there already: exit code 3 where it isn't.
    pub fn take(pins: &Pins) -> Result<Self> {
        Self::take_if(pins, require_our_version)
    }

    /// The same, where another version may have made it that this one can take over.
    pub fn take_over(pins: &Pins) -> Result<Self> {
        Self::take_if(pins, require_heir)
    }

    fn take_if(pins: &Pins, is_usable: fn(&Pins) -> Result<()>) -> Result<Self> {
        match try_lock(pins, is_usable)? {
            Some(lock) if has_state(pins)? => Ok(lock),
            _ => Err(not_attached(pins)),
        }
    }

    /// As `take`; where there is no state, removes what a run that was killed half-way has left of it.
    pub fn take_to_detach(pins: &Pins) -> Result<Self> {
        let _ = match try_lock(pins, require_heir)? {
            Some(lock) if has_state(pins)? => return Ok(lock),
            Some(_lock) => detach::remove(pins),
            // Without the lock nothing more than an empty directory.
            None => remove_directory(pins.root()).map(drop),
        };
        Err(nothing_attached(pins, Remedy::default()))
    }

    /// Makes the network namespace's directory where it is missing, and locks it.
    pub(super) fn take_or_create(pins: &Pins) -> Result<Self> {
        let (root, namespace) = (pins.root(), pins.namespace());
        loop {
            match DirBuilder::new().recursive(true).mode(0o755).create(root) {
                // Another run has made it, or is removing it, at the same time.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                made => made.at("cannot make", root)?,
            }
            if !is_trusted(root)? {
                continue;
            }
            match mkdir(namespace, 0o700) {
                // Another run's last detach has just removed the root.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                made => made.at("cannot make", namespace)?,
            }
            if let Some(lock) = try_lock(pins, require_heir)? {
                return Ok(lock);
            }
        }
    }
}

/// None where the directory is missing.
fn try_lock(pins: &Pins, is_usable: fn(&Pins) -> Result<()>) -> Result<Option<Lock>> {
    let path = pins.namespace();
    loop {
        if !is_trusted(pins.root())? || !is_trusted(path)? {
            return Ok(None);
        }
        let directory = match File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            opened => opened.at("cannot open", path)?,
        };
        let lock = wait_for_lock(path, directory)?;
        // While this run waited, another may have removed the directory and a third may have made a
        // new one: then this lock keeps nobody out.
        let is_same =
            |held: fs::Metadata| fs::metadata(path).is_ok_and(|now| now.ino() == held.ino());
        if lock.metadata().is_ok_and(is_same) {
            is_usable(pins)?;
            return Ok(Some(Lock(lock)));
        }
    }
}

/// Other runs are short. One that holds the lock for longer hangs, and this one gives up.
fn wait_for_lock(path: &Path, mut directory: File) -> Result<Flock<File>> {
    let path = path.display();
    let start = Instant::now();
    let mut said = false;
    loop {
        match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((back, Errno::EWOULDBLOCK | Errno::EINTR)) => directory = back,
            Err((_, errno)) => return Err(errno).with_context(|| format!("cannot lock {path}")),
        }
        let waited = start.elapsed();
        if waited > LOCK_WITHIN {
            let (seconds, by) = (LOCK_WITHIN.as_secs(), holder(&directory));
            let message = format!("{path}: locked for over {seconds} s by {by}");
            return Err(failure(Exit::Failed, message));
        }
        if waited > SILENT && !said {
            said = true;
            let by = holder(&directory);
            let waiting = format!("waiting for the lock on {path}, held by {by}");
            say(Notice::Warning(waiting));
        }
        sleep(Duration::from_millis(5));
    }
}

/// False where the directory is not there, or another run has just removed it.
fn is_trusted(directory: &Path) -> Result<bool> {
    match require_trusted(directory) {
        Err(error) if is_not_found(&error) => Ok(false),
        trusted => trusted.map(|()| true),
    }
}

fn holder(directory: &File) -> String {
    let unknown = || "a process that this one cannot see".to_string();
    Holder::of(directory).map_or_else(unknown, |holder| holder.to_string())
}
