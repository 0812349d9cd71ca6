//! A change that a mend made, and all that is needed to take it back.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Backend, Mac, Match};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// GRO was off.
    Gro(Place),
    /// It was administratively down.
    LinkUp(Place),
    Backend {
        matches: Match,
        server: IpAddr,
        before: Way,
        after: Way,
    },
}

/// A device, wherever it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub ifindex: u32,
    pub ifname: String,
    /// Of its network namespace.
    pub cookie: u64,
    /// The way there at that time; None: the namespace whose mends these are.
    pub netns: Option<PathBuf>,
}

/// The part of a backend that a mend changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Way {
    pub mac: Mac,
    pub source_mac: Mac,
    pub ifindex: u32,
    pub completes_checksum: bool,
}

impl Way {
    pub fn of(backend: &Backend) -> Self {
        Way {
            mac: backend.mac,
            source_mac: backend.source_mac,
            ifindex: backend.ifindex,
            completes_checksum: backend.completes_checksum,
        }
    }

    pub fn give(self, backend: &mut Backend) {
        backend.mac = self.mac;
        backend.source_mac = self.source_mac;
        backend.ifindex = self.ifindex;
        backend.completes_checksum = self.completes_checksum;
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.ifname)?;
        match self.netns.as_deref().map(std::path::Path::display) {
            Some(netns) => write!(f, " in {netns}"),
            None => Ok(()),
        }
    }
}

impl Change {
    /// As it is once the change is undone.
    pub fn undone(&self) -> String {
        match self {
            Change::Gro(place) => format!("GRO off at {place}"),
            Change::LinkUp(place) => format!("{place} down"),
            Change::Backend { server, before, .. } => {
                format!(
                    "server {server} {} via ifindex {}",
                    before.mac, before.ifindex
                )
            }
        }
    }
}

/// As it is now.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Gro(place) => write!(f, "GRO on at {place}"),
            Change::LinkUp(place) => write!(f, "{place} up"),
            Change::Backend { server, after, .. } => write!(
                f,
                "server {server} {} via ifindex {}",
                after.mac, after.ifindex
            ),
        }
    }
}
