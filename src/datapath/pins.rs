//! Where state is pinned, who may touch it, and the lock on it.
//!
//! ```text
//! <pin-dir>/netns-<cookie>/        locked by every run
//!     abi-<N>/                     rules, backends, maglev, counters, egress
//!     abi-<N>/if-<ifindex>/        actions, config, link; attached if, and only if, link is there
//! ```
//! An ifindex means something in one network namespace only, hence the cookie.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use nix::unistd::{Gid, chown, geteuid};

use super::abi;
use crate::error::{Exit, failure};
use crate::host::netns;

/// How long a run waits for the others.
const LOCK_WITHIN: Duration = Duration::from_secs(30);

const DEFAULT: &str = "/sys/fs/bpf/xdpredir";

/// A second way to the default directory, for members of `attach --group`: systemd mounts
/// /sys/fs/bpf with mode 0700, which nobody but root can pass.
const MEMBERS: &str = "/run/xdpredir";

pub struct Pins {
    root: PathBuf,
    namespace: PathBuf,
    is_default: bool,
}

/// The namespace's directory, locked until this is dropped.
#[must_use = "the lock is given up when this is dropped"]
pub struct Lock(#[allow(dead_code)] Flock<File>);

impl Pins {
    /// Where pins of the current network namespace belong; touches nothing.
    pub fn locate(pin_dir: Option<&Path>) -> Result<Self> {
        let root = pin_dir.map_or_else(default_root, Path::to_path_buf);
        let namespace = root.join(format!("netns-{}", netns::cookie()?));
        Ok(Pins {
            root,
            namespace,
            is_default: pin_dir.is_none(),
        })
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn state(&self) -> PathBuf {
        self.namespace.join(format!("abi-{}", abi::XDPREDIR_ABI))
    }

    pub fn map(&self, name: &str) -> PathBuf {
        self.state().join(name)
    }

    pub fn interface(&self, ifindex: u32) -> PathBuf {
        self.state().join(format!("if-{ifindex}"))
    }

    /// The indexes of the attached interfaces.
    pub fn interfaces(&self) -> Result<Vec<u32>> {
        let mut found = Vec::new();
        for name in entries(&self.state())? {
            if let Some(ifindex) = name.strip_prefix("if-").and_then(|n| n.parse().ok())
                && exists(&self.interface(ifindex).join("link"))?
            {
                found.push(ifindex);
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    pub fn has_state(&self) -> Result<bool> {
        exists(&self.state())
    }

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
        Err(self.nothing_to_detach())
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

    fn require_bpffs(&self) -> Result<()> {
        match self.no_bpffs() {
            None => self.require_no_dot(),
            Some(why) => Err(failure(Exit::Failed, why)),
        }
    }

    /// Why nothing can be pinned here, and the remedy; None where a bpffs is mounted.
    pub fn no_bpffs(&self) -> Option<String> {
        if is_bpffs(self.existing()) {
            return None;
        }
        let advice = if self.root.starts_with("/sys/fs/bpf") {
            "run `mount -t bpf bpf /sys/fs/bpf`; inside `ip netns exec`, use --netns instead"
        } else {
            "name a directory on a bpffs"
        };
        let root = self.root.display();
        Some(format!("{root}: no bpffs is mounted there: {advice}"))
    }

    /// The kernel refuses a dot in a bpffs name, as if permission were missing.
    fn require_no_dot(&self) -> Result<()> {
        let missing = self
            .root
            .strip_prefix(self.existing())
            .unwrap_or(&self.root);
        if !missing.to_string_lossy().contains('.') {
            return Ok(());
        }
        let root = self.root.display();
        let message = format!("--pin-dir {root}: a name on a bpffs cannot contain a dot");
        Err(failure(Exit::Usage, message))
    }

    /// The deepest directory of the root's path that is there.
    fn existing(&self) -> &Path {
        self.root
            .ancestors()
            .find(|path| path.exists())
            .unwrap_or(&self.root)
    }

    pub fn not_attached(&self) -> anyhow::Error {
        let why = self.no_bpffs().unwrap_or_else(|| {
            let root = self.root.display();
            format!("no pins under {root}: run `xdpredir attach IFACE` first")
        });
        failure(
            Exit::NotFound,
            format!("not attached in this network namespace: {why}"),
        )
    }

    fn nothing_to_detach(&self) -> anyhow::Error {
        let why = self
            .no_bpffs()
            .unwrap_or_else(|| format!("no pins under {}", self.root.display()));
        failure(
            Exit::NotFound,
            format!("not attached in this network namespace: {why}"),
        )
    }

    /// Lets members of a group read and write the maps; links stay root's.
    pub fn open_to_group(&self, gid: Gid) -> Result<()> {
        self.require_passable()?;
        if !passable(&self.root) {
            fs::set_permissions(&self.root, Permissions::from_mode(0o755))?;
        }
        let state = self.state();
        let mut directories = vec![self.namespace.clone(), state.clone()];
        // Also those that this run has yet to give their link.
        let interfaces = entries(&state)?
            .into_iter()
            .filter(|name| name.starts_with("if-"));
        directories.extend(interfaces.map(|name| state.join(name)));
        for directory in directories {
            share_pins_of(&directory, gid)?;
        }
        if self.is_default {
            self.make_members_door()
        } else {
            Ok(())
        }
    }

    /// A directory of pins that members can't reach because of one above it is refused, unless it
    /// is the default one, for which there is another way.
    fn require_passable(&self) -> Result<()> {
        if self.is_default {
            return Ok(());
        }
        match self.root.ancestors().skip(1).find(|above| !passable(above)) {
            Some(above) => Err(failure(
                Exit::Failed,
                format!(
                    "--group: members cannot pass {} to reach {}: leave --pin-dir out or name a directory on another bpffs",
                    above.display(),
                    self.root.display()
                ),
            )),
            None => Ok(()),
        }
    }

    /// Mounts the default directory a second time where members can pass.
    fn make_members_door(&self) -> Result<()> {
        let parent = self.root.parent().unwrap_or(&self.root);
        let door = Path::new(MEMBERS);
        if passable(parent) || same_file(&self.root, door) {
            return Ok(());
        }
        mkdir(door, 0o755)?;
        if is_bpffs(door) {
            // It shows a directory that is gone.
            umount2(door, MntFlags::MNT_DETACH)
                .with_context(|| format!("cannot unmount {MEMBERS}"))?;
        }
        let nothing: Option<&str> = None;
        mount(Some(&self.root), door, nothing, MsFlags::MS_BIND, nothing)
            .with_context(|| format!("cannot mount {} at {MEMBERS}", self.root.display()))
    }

    /// Removes what an interrupted run has left: staged state, interfaces without a link.
    pub fn sweep(&self) -> Result<()> {
        remove_tree(&self.staged())?;
        let attached = self.interfaces()?;
        for name in entries(&self.state())? {
            if let Some(ifindex) = name.strip_prefix("if-").and_then(|n| n.parse().ok())
                && !attached.contains(&ifindex)
            {
                remove_tree(&self.interface(ifindex))?;
            }
        }
        Ok(())
    }

    /// State in the making, which nobody reads before it is renamed to `state`.
    pub fn staged(&self) -> PathBuf {
        self.namespace.join("staged")
    }

    /// Removes all state of the namespace, and the directories that are then empty.
    pub fn remove(&self) -> Result<()> {
        // Renamed first, so that a run that is killed here leaves all or nothing to be seen.
        remove_tree(&self.staged())?;
        if exists(&self.state())? {
            fs::rename(self.state(), self.staged())?;
        }
        remove_tree(&self.staged())?;
        remove_directory(&self.namespace)?;
        if remove_directory(&self.root)? && self.is_default && is_bpffs(Path::new(MEMBERS)) {
            let _ = umount2(MEMBERS, MntFlags::MNT_DETACH);
            let _ = fs::remove_dir(MEMBERS);
        }
        Ok(())
    }
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

/// Where /sys/fs/bpf is writable for all, anybody may have made a directory of our name first, and
/// could lead a run of root's astray: it must be root's or this user's own, and nobody else's to
/// change.
fn require_trusted(directory: &Path) -> Result<()> {
    let metadata = fs::symlink_metadata(directory)
        .with_context(|| format!("cannot look at {}", directory.display()))?;
    let ours = metadata.uid() == 0 || metadata.uid() == geteuid().as_raw();
    // Sticky: others may add names, which are looked at in their turn, but not replace ours.
    let closed = metadata.mode() & 0o022 == 0 || metadata.mode() & 0o1000 != 0;
    if metadata.is_dir() && ours && closed {
        return Ok(());
    }
    let path = directory.display();
    let message = format!(
        "{path}: belongs to uid {} or is writable for others, and is not trusted: remove it, or name another directory with --pin-dir",
        metadata.uid()
    );
    Err(failure(Exit::Conflict, message))
}

fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|stat| stat.filesystem_type() == BPF_FS_MAGIC)
}

fn passable(directory: &Path) -> bool {
    fs::metadata(directory).is_ok_and(|metadata| metadata.mode() & 0o001 != 0)
}

fn same_file(a: &Path, b: &Path) -> bool {
    match (fs::metadata(a), fs::metadata(b)) {
        (Ok(a), Ok(b)) => a.dev() == b.dev() && a.ino() == b.ino(),
        _ => false,
    }
}

/// A directory and the maps in it for the group; what is named "link" stays as it is.
pub fn share_pins_of(directory: &Path, gid: Gid) -> Result<()> {
    let share = |path: &Path, mode| {
        chown(path, None, Some(gid))?;
        fs::set_permissions(path, Permissions::from_mode(mode))
    };
    for name in entries(directory)? {
        let path = directory.join(&name);
        if name != "link" && !path.is_dir() {
            share(&path, 0o660).with_context(|| format!("cannot share {}", path.display()))?;
        }
    }
    share(directory, 0o750).with_context(|| format!("cannot share {}", directory.display()))
}

/// The group that a directory of pins was opened to.
pub fn group_of(directory: &Path) -> Option<Gid> {
    let metadata = fs::metadata(directory).ok()?;
    (metadata.mode() & 0o070 != 0).then(|| Gid::from_raw(metadata.gid()))
}

fn exists(path: &Path) -> Result<bool> {
    path.try_exists()
        .with_context(|| format!("cannot look into {}", path.display()))
}

/// Names in a directory; none where it is missing.
fn entries(directory: &Path) -> Result<Vec<String>> {
    match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        listed => listed
            .and_then(|entries| {
                entries
                    .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
                    .collect()
            })
            .with_context(|| format!("cannot read {}", directory.display())),
    }
}

/// Makes a directory where it is missing.
pub fn mkdir(path: &Path, mode: u32) -> io::Result<()> {
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

pub fn remove_tree(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// True where it was removed; false where it is not empty, not there, or a mount point.
fn remove_directory(path: &Path) -> Result<bool> {
    match fs::remove_dir(path) {
        Ok(()) => Ok(true),
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty | ErrorKind::ResourceBusy
            ) =>
        {
            Ok(false)
        }
        Err(error) => Err(error).with_context(|| format!("cannot remove {}", path.display())),
    }
}
