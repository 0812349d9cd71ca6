//! What the host has, and what this process may do.

use std::path::PathBuf;

use crate::model::{Refusal, Remedy};

#[derive(Default)]
pub struct HostFacts {
    /// Why nothing can be pinned.
    pub no_bpffs: Option<Refusal>,
    /// The capabilities that this process lacks to attach, and to look into other namespaces.
    pub lacks_to_attach: Vec<String>,
    pub lacks_to_look: Vec<String>,
    /// As root and the members of a group may.
    pub may_change_rules: bool,
    pub program: Trial,
    pub ledger: Trial,
    /// Whether the program can see the links of devices.
    pub links: Trial,
    /// How many run.
    pub cpus: u32,
    /// The kernel tells what drivers can do with XDP.
    pub tells_features: bool,
}

/// Whether the kernel loads a program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trial {
    #[default]
    NotTried,
    Loaded,
    Refused(Refusal),
    /// This process may not try it.
    Forbidden(Refusal),
}

/// Pins that serve nobody.
pub enum StalePins {
    OtherVersion {
        path: PathBuf,
        difference: String,
        /// What helps.
        remedy: Remedy,
    },
    /// Of a network namespace that nobody can see.
    OtherNamespace(PathBuf),
}
