//! Failures that the command line tells apart, because what helps there is one of its options. No text
//! here names an option.

use std::fmt;
use std::path::PathBuf;

use super::locate::NoBpffs;
use crate::error::{Coded, Exit};
use crate::model::Mode;

/// Why something could not be attached or pinned.
#[derive(Debug)]
pub enum Error {
    /// No bpffs is mounted where the pin directory is to be.
    NoBpffs(NoBpffs),
    /// Nothing is attached in this network namespace, for this reason.
    NotAttached(NoBpffs),
    /// The kernel takes no such name on a bpffs.
    Dotted(PathBuf),
    /// Other users could change the directory.
    Untrusted { directory: PathBuf, uid: u32 },
    /// Members of a group cannot reach the pin directory.
    Impassable { above: PathBuf, root: PathBuf },
    /// Somebody else's program is on the device.
    Occupied { device: String, program: String },
    /// The device is attached in another mode than is asked for.
    OtherMode { device: String, mode: Mode },
    /// The device is a port of a bridge that has the program already.
    MasterFirst {
        device: String,
        master: String,
        why: String,
    },
    /// The device does not take the program in this mode.
    Refused {
        device: String,
        mode: Mode,
        exit: Exit,
        why: String,
    },
    /// The ledger cannot be started.
    Ledger { exit: Exit, why: String },
}

impl Coded for Error {
    fn exit(&self) -> Exit {
        match self {
            Error::NoBpffs(_) | Error::Impassable { .. } => Exit::Failed,
            Error::NotAttached(_) => Exit::NotFound,
            Error::Dotted(_) => Exit::Usage,
            Error::Untrusted { .. }
            | Error::Occupied { .. }
            | Error::OtherMode { .. }
            | Error::MasterFirst { .. } => Exit::Conflict,
            Error::Refused { exit, .. } | Error::Ledger { exit, .. } => *exit,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NoBpffs(why) => write!(f, "{why}"),
            Error::NotAttached(why) => {
                write!(f, "not attached in this network namespace: {why}")
            }
            Error::Dotted(root) => write!(
                f,
                "{}: a name on a bpffs cannot contain a dot: use a name without one",
                root.display()
            ),
            Error::Untrusted { directory, uid } => write!(
                f,
                "{}: belongs to uid {uid} or is writable for others, and is not trusted: remove it, or \
                 use another pin directory",
                directory.display()
            ),
            Error::Impassable { above, root } => write!(
                f,
                "members cannot pass {} to reach {}: use a directory on another bpffs",
                above.display(),
                root.display()
            ),
            Error::Occupied { device, program } => {
                write!(f, "{device} has another XDP {program}: detach that")
            }
            Error::OtherMode { device, mode } => {
                write!(f, "{device} is attached in {mode} mode")
            }
            Error::MasterFirst { device, why, .. } => {
                write!(f, "{device} cannot run XDP: {why}")
            }
            Error::Refused {
                device, mode, why, ..
            } => write!(f, "{device} cannot run XDP in {mode} mode: {why}"),
            Error::Ledger { why, .. } => write!(f, "cannot start the ledger: {why}"),
        }
    }
}
