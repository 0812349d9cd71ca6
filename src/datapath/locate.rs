//! Finds the pin directory, and the bpffs that it needs.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{self, Path, PathBuf};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::geteuid;

use super::Pins;
use super::bpffs::{entries, is_bpffs};
use super::permissions::MEMBERS;
use crate::error::{Exit, Failure, failure};
use crate::host::{mounts, netns};
use crate::model::{Place, Refusal, Remedy, Tool};

const BPFFS: &str = "/sys/fs/bpf";
const DEFAULT: &str = "/sys/fs/bpf/xdpredir";

/// The pins of the current network namespace. Fails with exit code 2 where no bpffs can have such a
/// directory.
pub fn locate(pin_dir: Option<&Path>) -> Result<Pins> {
    let root = match pin_dir {
        Some(named) => {
            path::absolute(named).with_context(|| format!("pin directory {}", named.display()))?
        }
        None => default_root(),
    };
    let pins = Pins::new(root, netns::cookie()?, pin_dir.is_none());
    require_no_dot(pins.root())?;
    Ok(pins)
}

fn default_root() -> PathBuf {
    let hidden = fs::metadata(DEFAULT).is_err_and(|e| e.kind() == ErrorKind::PermissionDenied);
    let root = if hidden && !geteuid().is_root() && Path::new(MEMBERS).exists() {
        MEMBERS
    } else {
        DEFAULT
    };
    root.into()
}

/// The kernel refuses a dot in a bpffs name, as if permission were missing.
fn require_no_dot(root: &Path) -> Result<()> {
    let existing = existing(root);
    let missing = root.strip_prefix(existing).unwrap_or(root);
    if !missing.to_string_lossy().contains('.') || !is_bpffs(existing) {
        return Ok(());
    }
    Err(Failure::new(super::Error::Dotted(root.to_path_buf())))
}

/// The deepest directory of the path that is there.
fn existing(root: &Path) -> &Path {
    root.ancestors().find(|path| path.exists()).unwrap_or(root)
}

/// Why nothing can be pinned, and the remedy; None where a bpffs is mounted.
pub fn no_bpffs(pins: &Pins) -> Option<Refusal> {
    let root = pins.root();
    if is_bpffs(existing(root)) {
        return None;
    }
    let why = format!("{}: no bpffs is mounted there", root.display());
    Some(if !root.starts_with(BPFFS) {
        (why, "name a directory on a bpffs").into()
    } else if mounts::are_short_lived() {
        let vanishes = "and what this run mounts would vanish with it, because it has a mount namespace of its \
                        own (as in ip netns exec)";
        let remedy = "run xdpredir outside of it, and let it enter the network namespace";
        (format!("{why}, {vanishes}"), remedy).into()
    } else {
        (why, Remedy::from("run ") + mount_command()).into()
    })
}

fn mount_command() -> Tool {
    Tool::new("mount -t bpf bpf /sys/fs/bpf").at(Place::Anywhere)
}

/// Whether `attach` would mount the bpffs that is missing.
pub fn mounts_bpffs(pins: &Pins) -> bool {
    let is_missing = || !is_bpffs(existing(pins.root()));
    let is_ours = pins.is_default() && pins.root().starts_with(BPFFS);
    is_ours && is_missing() && !mounts::are_short_lived()
}

/// A bpffs that this run has mounted, and that is unmounted again unless it is kept.
pub(super) struct Mounted(bool);

impl Mounted {
    /// Mounts a bpffs where the default pin directory lacks one, with the mode that bpftool and
    /// systemd give it.
    pub fn where_missing(pins: &Pins) -> Result<Self> {
        if no_bpffs(pins).is_none() {
            return Ok(Mounted(false));
        }
        // Of two runs at once, the second would mount over the first one's bpffs and hide its pins.
        let _alone = lock_mount_point();
        let Some(refusal) = no_bpffs(pins) else {
            return Ok(Mounted(false));
        };
        if !mounts_bpffs(pins) {
            return Err(failure(Exit::Failed, refusal));
        }
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        let mounted = mount(Some("bpf"), BPFFS, Some("bpf"), flags, Some("mode=0700"));
        mounted.map_err(|errno| {
            let exit = match errno {
                Errno::EPERM => Exit::Permission,
                _ => Exit::Failed,
            };
            let why = format!(
                "{}, and this process cannot mount one ({errno})",
                refusal.why
            );
            failure(
                exit,
                (why, Remedy::from("run ") + mount_command() + " as root"),
            )
        })?;
        Ok(Mounted(true))
    }

    /// Keeps it; where it is, if there is one.
    pub fn keep(mut self) -> Option<&'static str> {
        std::mem::take(&mut self.0).then_some(BPFFS)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // It is busy while another run uses it, and has the pins of one that has ended: then it stays.
        if self.0 && !has_pins() {
            let _ = umount2(BPFFS, MntFlags::empty());
        }
    }
}

/// Keeps other runs from mounting until it is dropped. None where that cannot be had, as on a file
/// system without locks.
fn lock_mount_point() -> Option<Flock<File>> {
    let directory = File::open(BPFFS).ok()?;
    Flock::lock(directory, FlockArg::LockExclusive).ok()
}

/// The kernel's own files in a bpffs have a dot, which no other name there can have.
fn has_pins() -> bool {
    entries(Path::new(BPFFS)).is_ok_and(|names| names.iter().any(|name| !name.contains('.')))
}
