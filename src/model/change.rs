//! A change that a fix made, with all that is needed to revert it.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Adjacency, Match};

/// A change that a fix made. Its JSON is what the journal has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// GRO of the device was off, and is on.
    Gro(DeviceRef),
    /// The device had no XDP program, and has one that passes all.
    Pass(DeviceRef),
    /// The device was down, and is up.
    LinkUp(DeviceRef),
    Backend {
        matches: Match,
        before: Adjacency,
        after: Adjacency,
    },
}

/// A device of any network namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRef {
    /// Its index there.
    pub ifindex: u32,
    pub ifname: String,
    /// The cookie of its network namespace.
    pub cookie: u64,
    /// The path of that namespace when the device was changed; None: the namespace of the journal.
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
    /// What is so once the change is reverted.
    pub fn undone(&self) -> String {
        match self {
            Change::Gro(device) => format!("GRO off at {device}"),
            Change::Pass(device) => format!("no pass program on {device}"),
            Change::LinkUp(device) => format!("{device} down"),
            Change::Backend { before, after, .. } => moved(after, before),
        }
    }
}

/// What is so since the change.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Gro(device) => write!(f, "GRO on at {device}"),
            Change::Pass(device) => write!(f, "pass program on {device}"),
            Change::LinkUp(device) => write!(f, "{device} up"),
            Change::Backend { before, after, .. } => f.write_str(&moved(before, after)),
        }
    }
}

fn moved(from: &Adjacency, to: &Adjacency) -> String {
    let devices = [from, to].map(|adjacency| adjacency.ifindex.to_string());
    let changes = from.changes(to, devices);
    if from.server == to.server {
        return format!("server {}: {changes}", from.server);
    }
    changes
}
