//! The way to a backend: the part of it that the host tells, and that changes when a server moves.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Backend, Mac};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Way {
    pub server: IpAddr,
    pub mac: Mac,
    pub source_mac: Mac,
    pub ifindex: u32,
    pub completes_checksum: bool,
}

impl Way {
    pub fn of(backend: &Backend) -> Self {
        Way {
            server: backend.server,
            mac: backend.mac,
            source_mac: backend.source_mac,
            ifindex: backend.ifindex,
            completes_checksum: backend.completes_checksum,
        }
    }

    /// The backend, reached this way.
    pub fn given_to(self, backend: &Backend) -> Backend {
        Backend {
            server: self.server,
            mac: self.mac,
            source_mac: self.source_mac,
            ifindex: self.ifindex,
            completes_checksum: self.completes_checksum,
            ..backend.clone()
        }
    }
}
