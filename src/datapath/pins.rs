//! Where state is pinned.
//!
//! ```text
//! <pin-dir>/netns-<cookie>/        locked by every run
//!     abi-<N>/                     rules, services, members, counters, …: see load.rs
//!     abi-<N>/ledger/              links of the tracing programs
//!     abi-<N>/if-<ifindex>/        outcomes, config, link; attached if, and only if, link is there
//! ```
//! An ifindex means something in one network namespace only, hence the cookie.

use std::fs;
use std::io::ErrorKind;
use std::path::{self, Path, PathBuf};

use anyhow::{Context, Result};
use nix::unistd::geteuid;

use super::abi;
use super::bpffs::{entries, exists, is_bpffs, remove_directory, remove_tree};
use super::interface::{Interface, interfaces};
use super::permissions::{self, MEMBERS};
use crate::error::{Exit, failure};
use crate::host::netns;
use crate::model::LedgerState;

const DEFAULT: &str = "/sys/fs/bpf/xdpredir";

#[derive(Clone)]
pub struct Pins {
    pub(super) root: PathBuf,
    pub(super) namespace: PathBuf,
    pub(super) is_default: bool,
}

impl Pins {
    /// Where pins of the current network namespace belong; touches nothing. Exit 2 where no bpffs
    /// can have such a directory.
    pub fn locate(pin_dir: Option<&Path>) -> Result<Self> {
        let root = match pin_dir {
            Some(named) => {
                path::absolute(named).with_context(|| format!("--pin-dir {}", named.display()))?
            }
            None => default_root(),
        };
        let namespace = root.join(format!("netns-{}", netns::cookie()?));
        let pins = Pins {
            root,
            namespace,
            is_default: pin_dir.is_none(),
        };
        pins.require_no_dot()?;
        Ok(pins)
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

    pub(super) fn require_bpffs(&self) -> Result<()> {
        match self.no_bpffs() {
            None => Ok(()),
            Some(why) => Err(failure(Exit::Failed, why)),
        }
    }

    /// Why nothing can be pinned here, and the remedy; None where a bpffs is mounted.
    pub fn no_bpffs(&self) -> Option<String> {
        if is_bpffs(self.existing()) {
            return None;
        }
        let advice = if !self.root.starts_with("/sys/fs/bpf") {
            "name a directory on a bpffs"
        } else if netns::was_entered() {
            "run `mount -t bpf bpf /sys/fs/bpf`"
        } else {
            "run `mount -t bpf bpf /sys/fs/bpf`; inside `ip netns exec`, use --netns instead"
        };
        let root = self.root.display();
        Some(format!("{root}: no bpffs is mounted there: {advice}"))
    }

    /// The kernel refuses a dot in a bpffs name, as if permission were missing.
    fn require_no_dot(&self) -> Result<()> {
        let existing = self.existing();
        let missing = self.root.strip_prefix(existing).unwrap_or(&self.root);
        if !missing.to_string_lossy().contains('.') || !is_bpffs(existing) {
            return Ok(());
        }
        let root = self.root.display();
        let message = format!(
            "--pin-dir {root}: a name on a bpffs cannot contain a dot: use a name without one"
        );
        Err(failure(Exit::Usage, message))
    }

    /// The deepest directory of the root's path that is there.
    fn existing(&self) -> &Path {
        self.root
            .ancestors()
            .find(|path| path.exists())
            .unwrap_or(&self.root)
    }

    /// Where state is needed and there is none.
    pub fn not_attached(&self) -> anyhow::Error {
        self.nothing_attached(": run `xdpredir attach IFACE` first")
    }

    pub(super) fn nothing_attached(&self, remedy: &str) -> anyhow::Error {
        let root = self.root.display();
        let why = self
            .no_bpffs()
            .unwrap_or_else(|| format!("no pins under {root}{remedy}"));
        let message = format!("not attached in this network namespace: {why}");
        failure(Exit::NotFound, message)
    }

    /// Removes what an interrupted run has left: staged state, interfaces without a link.
    pub fn sweep(&self) -> Result<()> {
        remove_tree(&self.staged())?;
        let attached = self.interfaces()?;
        if !self.is_ledger_wanted() {
            self.end_ledger()?;
        }
        for name in entries(&self.state())? {
            if let Some(ifindex) = name.strip_prefix("if-").and_then(|n| n.parse().ok())
                && !attached.contains(&ifindex)
            {
                remove_tree(&self.interface(ifindex))?;
            }
        }
        Ok(())
    }

    /// What can't be read is no reason to end it.
    fn is_ledger_wanted(&self) -> bool {
        let keeps_one = |interface: &Interface| interface.ledger == LedgerState::On;
        interfaces(self).map_or(true, |all| all.iter().any(keeps_one))
    }

    /// State in the making, which nobody reads before it is renamed to `state`.
    pub fn staged(&self) -> PathBuf {
        self.namespace.join("staged")
    }

    /// Removes all state of the namespace, and the directories that are then empty.
    pub fn remove(&self) -> Result<()> {
        self.remove_state()?;
        self.remove_directories()
    }

    pub(super) fn remove_state(&self) -> Result<()> {
        // Renamed first, so that a run that is killed here leaves all or nothing to be seen.
        remove_tree(&self.staged())?;
        if exists(&self.state())? {
            fs::rename(self.state(), self.staged())?;
        }
        remove_tree(&self.staged())
    }

    /// Those that are empty.
    pub(super) fn remove_directories(&self) -> Result<()> {
        remove_directory(&self.namespace)?;
        if remove_directory(&self.root)? && self.is_default {
            permissions::close_members_door();
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
