//! What a host is asked for backends.

use std::net::IpAddr;

use anyhow::Result;

use crate::control::ruleset_file::Devices;
use crate::model::{Adjacency, Locator, Mac};

/// A backend that is looked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sought {
    /// None: by the route, and the MAC address is given.
    pub locator: Option<Locator>,
    pub mac: Option<Mac>,
    /// Its address; None: the only one that is there.
    pub server: Option<IpAddr>,
    /// Whether that must be an IPv6 one; None: either will do.
    pub ipv6: Option<bool>,
}

/// What is asked of a host.
pub trait Host: Devices + Sync {
    /// How a backend is reached now.
    fn find(&self, sought: &Sought) -> Result<Adjacency>;

    /// When a process started.
    fn started(&self, pid: u32) -> Result<u64>;
}
