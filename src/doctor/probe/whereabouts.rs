//! Where servers are by now, as far as the host knows without asking anyone. `rule list` and the checks
//! judge from the same facts.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::net::IpAddr;

use anyhow::Result;

use crate::doctor::facts::{BackendFacts, Neighbour, PeerAddress, Whereabouts};
use crate::host::device::{self, Device};
use crate::host::discovery;
use crate::host::neighbour::Neighbours;
use crate::host::route::{self, Route};
use crate::model::Mac;

/// What the host has learned of MAC addresses, read once for all backends.
pub struct LinkLayer {
    neighbours: Neighbours,
    /// Behind which port a bridge has seen a MAC address. Read where somebody asks for a port.
    ports: OnceCell<HashMap<(u32, Mac), u32>>,
}

impl LinkLayer {
    pub fn read() -> Result<Self> {
        Ok(LinkLayer {
            neighbours: Neighbours::read()?,
            ports: OnceCell::new(),
        })
    }

    /// The MAC address of a neighbour on a device.
    pub fn mac(&self, ifindex: u32, addr: IpAddr) -> Option<Mac> {
        self.neighbours.get(ifindex, addr)
    }

    /// The port behind which a bridge has seen a MAC address. Members of a group can't ask.
    pub fn port(&self, bridge: u32, mac: Mac) -> Option<u32> {
        let read = || device::bridge_ports().unwrap_or_default();
        self.ports.get_or_init(read).get(&(bridge, mac)).copied()
    }

    /// Finds out where a backend's server is, whose egress device is there.
    pub fn locate(&self, backend: &mut BackendFacts, egress: &Egress) -> Result<()> {
        let server = backend.server;
        let route = route::lookup(server, None)?;
        let Device {
            ifindex,
            master,
            link_nsid,
            ..
        } = egress.device;
        let other_port = |mac| {
            let port = self.port(master?, mac).filter(|port| *port != ifindex)?;
            device::name_of(port)
        };
        let next = self.neighbours.next_hop(server, ifindex, master)?;
        let neighbour = next.and_then(|next| {
            Some(Neighbour {
                mac: next.mac,
                device: device::name_of(next.ifindex)?,
                behind: other_port(next.mac),
                peer_has_address: next.mac == backend.mac
                    || !egress.device.is_pair()
                    || next.is_in(link_nsid, server),
            })
        });
        // A device that is down has no routes: its link is what is wrong.
        let other_device = match backend.locators.by_route && egress.device.enabled {
            true => discovery::other_device(server, ifindex, master, egress.nsid())?,
            false => None,
        };
        backend.whereabouts = Whereabouts {
            has_route: matches!(route, Route::Hop(_)),
            is_own: matches!(route, Route::Local),
            peer: egress.peer,
            neighbour,
            port: match egress.device.is_bridge() {
                true => self.port(ifindex, backend.mac),
                false => None,
            },
            other_port: other_port(backend.mac),
            other_device: other_device.and_then(device::name_of),
        };
        Ok(())
    }
}

/// An egress device, and what is at its other end.
pub struct Egress {
    pub device: Device,
    peer: Option<PeerAddress>,
}

impl Egress {
    pub fn of(device: Device) -> Self {
        // Members of a group can't ask.
        let peer = device::peer(&device).ok().flatten();
        let peer = peer.and_then(|peer| {
            Some(PeerAddress {
                mac: peer.mac?,
                takes_others: peer.promiscuous || peer.master.is_some(),
            })
        });
        Egress { device, peer }
    }

    /// The namespace at the other end, if the device is one of a pair.
    fn nsid(&self) -> Option<i32> {
        self.device.link_nsid.filter(|_| self.device.is_pair())
    }
}
