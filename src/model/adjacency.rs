//! How a backend is reached: what the host knows of it, and what changes when a server moves.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Backend, Mac};

/// An address with the MAC addresses and the device by which it is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Adjacency {
    /// The server's address.
    pub server: IpAddr,
    /// The server's MAC address, or that of the next hop to it.
    pub mac: Mac,
    /// The egress device's own address.
    pub source_mac: Mac,
    /// The egress device.
    pub ifindex: u32,
    /// Whether the egress device completes partial checksums.
    pub completes_checksum: bool,
}

impl Adjacency {
    /// The adjacency of a backend.
    pub fn of(backend: &Backend) -> Self {
        Adjacency {
            server: backend.server,
            mac: backend.mac,
            source_mac: backend.source_mac,
            ifindex: backend.ifindex,
            completes_checksum: backend.completes_checksum,
        }
    }

    /// The backend, with this adjacency.
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

    /// What differs in the new adjacency, in words; `devices` are how the two devices are called.
    pub fn changes(&self, new: &Adjacency, devices: [String; 2]) -> String {
        let completes = |adjacency: &Adjacency| {
            if adjacency.completes_checksum {
                "yes"
            } else {
                "no"
            }
            .to_string()
        };
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
