//! The way to a backend: the part of it that the host tells, and that changes when a server moves.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Backend, Mac};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Adjacency {
    pub server: IpAddr,
    pub mac: Mac,
    pub source_mac: Mac,
    pub ifindex: u32,
    pub completes_checksum: bool,
}

impl Adjacency {
    pub fn of(backend: &Backend) -> Self {
        Adjacency {
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

    /// What is another in the new way, in words; `devices` are those of both.
    pub fn changes(&self, new: &Adjacency, devices: [String; 2]) -> String {
        let completes =
            |way: &Adjacency| if way.completes_checksum { "yes" } else { "no" }.to_string();
        let [device, new_device] = devices;
        if self == new {
            return format!("ifindex {device} is another device now");
        }
        let all = [
            ("server", self.server.to_string(), new.server.to_string()),
            ("mac", self.mac.to_string(), new.mac.to_string()),
            ("ifindex", device, new_device),
            (
                "source mac",
                self.source_mac.to_string(),
                new.source_mac.to_string(),
            ),
            ("completes checksums", completes(self), completes(new)),
        ];
        let changed = all.into_iter().filter(|(_, old, new)| old != new);
        let changed = changed.map(|(what, old, new)| format!("{what} {old} -> {new}"));
        changed.collect::<Vec<_>>().join(", ")
    }
}
