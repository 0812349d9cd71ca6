//! How a backend is reached: what the host knows of it, and what changes when a server moves.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::Mac;

/// An address with the MAC addresses and the device by which it is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Adjacency {
    pub server: IpAddr,
    /// The server's MAC address, or that of the next hop to it.
    pub mac: Mac,
    /// The egress device's own address.
    pub source_mac: Mac,
    pub ifindex: u32,
    /// Whether the egress device completes partial checksums.
    pub completes_checksum: bool,
}

impl Adjacency {
    /// Some adjacency, for tests.
    #[cfg(test)]
    pub fn example(server: impl Into<IpAddr>) -> Self {
        Adjacency {
            server: server.into(),
            mac: Mac([2, 0, 0, 0, 0, 1]),
            source_mac: Mac([2, 0, 0, 0, 0, 2]),
            ifindex: 1,
            completes_checksum: true,
        }
    }

    /// What differs in the new adjacency, in words; `devices` are how the two devices are called.
    pub fn changes(&self, new: &Adjacency, devices: [String; 2]) -> String {
        let completes = |adjacency: &Adjacency| {
            let completes = adjacency.completes_checksum;
            if completes { "yes" } else { "no" }.to_string()
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
