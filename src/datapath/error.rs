//! Failures that the command line tells apart, because what helps there is one of its options. No text
//! here names an option.

use std::fmt;
use std::path::PathBuf;

use crate::error::{Coded, Exit};
use crate::model::Refusal;

/// Why something could not be attached or pinned.
#[derive(Debug)]
pub enum Error {
    /// The kernel takes no such name on a bpffs.
    Dotted(PathBuf),
    /// Other users could change the directory.
    Untrusted { directory: PathBuf, uid: u32 },
    /// Members of a group cannot reach the pin directory.
    Impassable { above: PathBuf, root: PathBuf },
    /// The ledger cannot be started.
    Ledger { exit: Exit, refusal: Refusal },
}

impl Coded for Error {
    fn exit(&self) -> Exit {
        match self {
            Error::Dotted(_) => Exit::Usage,
            Error::Untrusted { .. } => Exit::Conflict,
            Error::Impassable { .. } => Exit::Failed,
            Error::Ledger { exit, .. } => *exit,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
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
            Error::Ledger { refusal, .. } => {
                write!(f, "cannot start the ledger: {}", refusal.why)
            }
        }
    }
}
