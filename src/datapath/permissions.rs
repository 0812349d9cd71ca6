//! Maps that members of a group may use.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{Gid, chown};

use super::bpffs::{At, entries, is_bpffs, mkdir, passable};
use super::state::interface_directories;
use super::{Error, Pins, chain};
use crate::error::Failure;
use crate::host::mounts::is_same_file;

/// A second way to the default directory, for members of `attach --group`: systemd mounts
/// /sys/fs/bpf with mode 0700, which nobody but root can pass.
pub const MEMBERS: &str = "/run/xdpredir";

/// The pins that attach, which stay root's.
const ATTACH: [&str; 4] = ["link", "filter", "filter-new", "slots"];

/// Lets members of a group read and write the maps; links stay root's.
pub fn open_to_group(pins: &Pins, gid: Gid) -> Result<()> {
    require_passable(pins)?;
    if !passable(pins.root()) {
        fs::set_permissions(pins.root(), Permissions::from_mode(0o755))?;
    }
    let state = pins.state();
    let mut directories = vec![pins.namespace().to_path_buf(), state.clone()];
    // Also those of interfaces that have no link yet, because this run is attaching them.
    for ifindex in interface_directories(pins)? {
        directories.push(pins.interface(ifindex));
        directories.extend(chain::directories(pins, ifindex)?);
    }
    directories.extend(Some(pins.flows()).filter(|path| path.is_dir()));
    for directory in directories {
        share_pins_of(&directory, gid)?;
    }
    if pins.is_default() {
        make_members_door(pins)
    } else {
        Ok(())
    }
}

/// A directory of pins that members can't reach because of one above it is refused, unless it
/// is the default one, for which there is another way.
fn require_passable(pins: &Pins) -> Result<()> {
    if pins.is_default() {
        return Ok(());
    }
    match pins
        .root()
        .ancestors()
        .skip(1)
        .find(|above| !passable(above))
    {
        Some(above) => Err(Failure::new(Error::Impassable {
            above: above.to_path_buf(),
            root: pins.root().to_path_buf(),
        })),
        None => Ok(()),
    }
}

/// Mounts the default directory a second time where members can pass.
fn make_members_door(pins: &Pins) -> Result<()> {
    let parent = pins.root().parent().unwrap_or(pins.root());
    let door = Path::new(MEMBERS);
    if passable(parent) || is_same_file(pins.root(), door) {
        return Ok(());
    }
    mkdir(door, 0o755)?;
    if is_bpffs(door) {
        // It shows a directory that is gone.
        umount2(door, MntFlags::MNT_DETACH).with_context(|| format!("cannot unmount {MEMBERS}"))?;
    }
    let nothing: Option<&str> = None;
    mount(Some(pins.root()), door, nothing, MsFlags::MS_BIND, nothing)
        .with_context(|| format!("cannot mount {} at {MEMBERS}", pins.root().display()))
}
pub fn close_members_door() {
    if is_bpffs(Path::new(MEMBERS)) {
        let _ = umount2(MEMBERS, MntFlags::MNT_DETACH);
        let _ = fs::remove_dir(MEMBERS);
    }
}

/// A directory and the maps in it for the group; what attaches stays as it is.
pub fn share_pins_of(directory: &Path, gid: Gid) -> Result<()> {
    for name in entries(directory)? {
        let path = directory.join(&name);
        if !ATTACH.contains(&&*name) && !path.is_dir() {
            share_pin(&path, gid)?;
        }
    }
    share(directory, gid, 0o750)
}

pub fn share_pin(path: &Path, gid: Gid) -> Result<()> {
    share(path, gid, 0o660)
}

fn share(path: &Path, gid: Gid, mode: u32) -> Result<()> {
    chown(path, None, Some(gid))
        .map_err(std::io::Error::from)
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(mode)))
        .at("cannot share", path)
}

/// The group whose members may change rules.
pub fn group(pins: &Pins) -> Option<Gid> {
    group_of(&pins.state())
}

/// The group that a directory of pins was opened to.
pub fn group_of(directory: &Path) -> Option<Gid> {
    let metadata = fs::metadata(directory).ok()?;
    (metadata.mode() & 0o070 != 0).then(|| Gid::from_raw(metadata.gid()))
}
