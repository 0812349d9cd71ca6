//! Where state is pinned: paths alone, nothing here looks at what they name.
//!
//! ```text
//! <pin-dir>/netns-<cookie>/        locked by every run that changes something
//!     staged/                      state in the making
//!     state/                       the shared maps with their schemas' numbers: ports-1, …
//!     state/line-bank-<N>          the rules
//!     state/counter-bank-<N>       the counters of backends
//!     state/flows/<N>              banks of the entries of connections
//!     state/ledger/                links of the tracing programs, for XDP
//!     state/ledger-tc/             the same for the tc hook
//!     state/journal/               the journal of doctor's fixes
//!     state/passes/                links of the pass program, by network namespace and device
//!     state/if-<ifindex>/chain/<N> other people's programs that are asked before ours; N is the entry program's number
//!     state/if-<ifindex>/joined    the slot by which libxdp's dispatcher calls our program
//!     state/if-<ifindex>/          outcomes, config, policy; link or filter: attached by it, as far as policy says so
//! ```
//! An ifindex means something in one network namespace only, hence the cookie.

use std::path::{Path, PathBuf};

use super::ledger::Hook;
use super::schema::{JOURNAL, OWN, SHARED, Schema, pin_of};

/// The paths of one network namespace's state.
#[derive(Clone)]
pub struct Pins {
    root: PathBuf,
    namespace: PathBuf,
    is_default: bool,
}

impl Pins {
    pub(super) fn new(root: PathBuf, cookie: u64, is_default: bool) -> Self {
        Pins {
            namespace: root.join(format!("netns-{cookie}")),
            root,
            is_default,
        }
    }

    /// The pin directory, which all network namespaces share.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether nobody named the pin directory.
    pub(super) fn is_default(&self) -> bool {
        self.is_default
    }

    pub(super) fn namespace(&self) -> &Path {
        &self.namespace
    }

    /// What all interfaces of the network namespace share.
    pub(super) fn state(&self) -> PathBuf {
        self.namespace.join("state")
    }

    /// State in the making, which nobody reads before it is renamed to `state`.
    pub(super) fn staged(&self) -> PathBuf {
        self.namespace.join("staged")
    }

    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.state().join(pin(&SHARED, name))
    }

    /// What an interface has of its own.
    pub(super) fn interface(&self, ifindex: u32) -> PathBuf {
        self.state().join(format!("if-{ifindex}"))
    }

    pub(super) fn interface_map(&self, ifindex: u32, name: &str) -> PathBuf {
        self.interface(ifindex).join(pin(&OWN, name))
    }

    pub(super) fn link(&self, ifindex: u32) -> PathBuf {
        self.interface(ifindex).join("link")
    }

    /// Maps of an interface whose program is about to be replaced by that of another version.
    pub(super) fn new_maps(&self, ifindex: u32) -> PathBuf {
        self.interface(ifindex).join("new")
    }

    /// The chains of an interface: the one whose entry program is attached, and what killed runs have left.
    pub(super) fn chains(&self, ifindex: u32) -> PathBuf {
        self.interface(ifindex).join("chain")
    }

    /// The slot of the program that libxdp's dispatcher calls at an interface.
    pub(super) fn joined(&self, ifindex: u32) -> PathBuf {
        self.interface(ifindex).join("joined")
    }

    /// The program of an interface's filter, or the one that netlink attached there, or that a dispatcher calls.
    pub(super) fn filter(&self, ifindex: u32) -> PathBuf {
        self.interface(ifindex).join("filter")
    }

    /// The same, where it is the device that tells whether the interface is attached.
    pub(super) fn new_filter(&self, ifindex: u32) -> PathBuf {
        self.interface(ifindex).join("filter-new")
    }

    /// The links of the tracing programs for a hook.
    pub(super) fn ledger(&self, hook: Hook) -> PathBuf {
        self.state().join(match hook {
            Hook::Xdp => "ledger",
            Hook::Tc => "ledger-tc",
        })
    }

    /// The same, until they are renamed.
    pub(super) fn staged_ledger(&self, hook: Hook) -> PathBuf {
        self.state().join(match hook {
            Hook::Xdp => "ledger-new",
            Hook::Tc => "ledger-tc-new",
        })
    }

    /// The banks of the entries of connections.
    pub(super) fn flows(&self) -> PathBuf {
        self.state().join("flows")
    }

    /// The same, until they are renamed to `flows`.
    pub(super) fn staged_flows(&self) -> PathBuf {
        self.state().join("flows-new")
    }

    /// The links of the programs that fixes put at peers.
    pub(super) fn passes(&self) -> PathBuf {
        self.state().join("passes")
    }

    /// The journal's map. Its directory is never opened to a group: only root reverts fixes.
    pub(super) fn journal(&self) -> PathBuf {
        self.state().join("journal").join(pin(&JOURNAL, "journal"))
    }
}

fn pin(maps: &[Schema], name: &str) -> String {
    pin_of(maps, name).unwrap_or_else(|| name.into())
}
