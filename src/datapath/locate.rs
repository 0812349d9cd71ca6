//! Finds the pin directory, and the bpffs that it needs.

use std::fs;
use std::io::ErrorKind;
use std::path::{self, Path, PathBuf};

use anyhow::{Context, Result};
use nix::unistd::geteuid;

use super::Pins;
use super::bpffs::is_bpffs;
use super::permissions::MEMBERS;
use crate::error::{Exit, failure};
use crate::host::netns;
use crate::model::{Command, Place, Refusal, Remedy, Tool};

const DEFAULT: &str = "/sys/fs/bpf/xdpredir";

/// The pins of the current network namespace. Fails with exit code 2 where no bpffs can have such a
/// directory.
pub fn locate(pin_dir: Option<&Path>) -> Result<Pins> {
    let root = match pin_dir {
        Some(named) => {
            path::absolute(named).with_context(|| format!("--pin-dir {}", named.display()))?
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
    let message = format!(
        "--pin-dir {}: a name on a bpffs cannot contain a dot: use a name without one",
        root.display()
    );
    Err(failure(Exit::Usage, message))
}

/// The deepest directory of the path that is there.
fn existing(root: &Path) -> &Path {
    root.ancestors().find(|path| path.exists()).unwrap_or(root)
}

pub(super) fn require_bpffs(pins: &Pins) -> Result<()> {
    match no_bpffs(pins) {
        None => Ok(()),
        Some(why) => Err(failure(Exit::Failed, why)),
    }
}

/// Why nothing can be pinned, and the remedy; None where a bpffs is mounted.
pub fn no_bpffs(pins: &Pins) -> Option<Refusal> {
    let root = pins.root();
    if is_bpffs(existing(root)) {
        return None;
    }
    let mount =
        || Remedy::from("run ") + Tool::new("mount -t bpf bpf /sys/fs/bpf").at(Place::Anywhere);
    let remedy = if !root.starts_with("/sys/fs/bpf") {
        "name a directory on a bpffs".into()
    } else if netns::was_entered() {
        mount()
    } else {
        mount() + "; inside " + Command::Name("ip netns exec") + ", use --netns instead"
    };
    let why = format!("{}: no bpffs is mounted there", root.display());
    Some((why, remedy).into())
}
