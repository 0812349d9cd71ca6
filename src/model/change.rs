//! A change that a mend made, and all that is needed to take it back.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Adjacency, Backend, Match};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// GRO was off.
    Gro(DeviceRef),
    /// It was administratively down.
    LinkUp(DeviceRef),
    Backend {
        matches: Match,
        before: Adjacency,
        after: Adjacency,
    },
}

/// A device, wherever it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRef {
    pub ifindex: u32,
    pub ifname: String,
    /// Of its network namespace.
    pub cookie: u64,
    /// The way there at that time; None: the namespace whose mends these are.
    pub netns: Option<PathBuf>,
}

impl fmt::Display for DeviceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.ifname)?;
        match self.netns.as_deref().map(std::path::Path::display) {
            Some(netns) => write!(f, " in {netns}"),
            None => Ok(()),
        }
    }
}

impl Change {
    /// The change of a backend's adjacency.
    pub fn backend(matches: Match, before: &Backend, after: &Backend) -> Self {
        Change::Backend {
            matches,
            before: Adjacency::of(before),
            after: Adjacency::of(after),
        }
    }

    /// As it is once the change is undone.
    pub fn undone(&self) -> String {
        match self {
            Change::Gro(place) => format!("GRO off at {place}"),
            Change::LinkUp(place) => format!("{place} down"),
            Change::Backend { before, after, .. } => moved(after, before),
        }
    }
}

/// As it is now.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Gro(place) => write!(f, "GRO on at {place}"),
            Change::LinkUp(place) => write!(f, "{place} up"),
            Change::Backend { before, after, .. } => f.write_str(&moved(before, after)),
        }
    }
}

fn moved(from: &Adjacency, to: &Adjacency) -> String {
    let devices = [from, to].map(|way| way.ifindex.to_string());
    let changes = from.changes(to, devices);
    if from.server == to.server {
        return format!("server {}: {changes}", from.server);
    }
    changes
}
