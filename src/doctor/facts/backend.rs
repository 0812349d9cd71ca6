//! Backends, and where their servers are.

use std::net::IpAddr;
use std::ops::Deref;

use super::{ReplyArrival, ServerFacts, Source};
use crate::model::{Adjacency, Backend, BackendState, Fix, Locator, Mac, Match, Refreshed};

/// A backend, and all rules that have it alike.
#[derive(Clone)]
pub struct BackendFacts {
    pub adjacency: Adjacency,
    pub keep_ip: bool,
    /// The program translates its answers, for all rules that have it.
    pub translated: bool,
    /// One of the addresses that clients ask for it where its answers are translated.
    pub asked: Option<IpAddr>,
    /// Its packets get a VLAN tag, and go to whoever takes that off, with addresses of its own.
    pub push_vlan: bool,
    pub locators: Locators,
    /// Some of the sources of its packets.
    pub sources: Vec<Source>,
    pub whereabouts: Whereabouts,
    /// None: its network namespace can't be entered, or is not the one at the device's other end.
    pub namespace: Option<ServerFacts>,
    /// Where its answers come back to this host, if they do.
    pub answers: Option<ReplyArrival>,
}

/// The adjacency, whether the destination is kept, and whether packets get a tag.
pub type Identity = (Adjacency, bool, bool);

/// Its adjacency can be read like its own fields.
impl Deref for BackendFacts {
    type Target = Adjacency;

    fn deref(&self) -> &Adjacency {
        &self.adjacency
    }
}

/// How the rules of a backend find it again.
#[derive(Clone, Default)]
pub struct Locators {
    /// Some rules have a locator.
    pub any: bool,
    /// Some have a locator that finds it even if its address changes.
    pub followed: bool,
    /// Some found it by the host's route to it.
    pub by_route: bool,
    /// How many rules have no locator for it, and one of them.
    pub by_hand: (usize, Option<Match>),
    /// The locators that lead nowhere any more, each once.
    pub lost: Vec<LostLocator>,
}

/// Where a server is by now, as far as the host knows without asking anyone.
#[derive(Clone, Default)]
pub struct Whereabouts {
    pub has_route: bool,
    /// This host has its address itself.
    pub is_own: bool,
    /// The other end of the egress device, where that is one of a pair.
    pub peer: Option<PeerAddress>,
    /// What the neighbour table has for it, on the egress device or the bridge above.
    pub neighbour: Option<Neighbour>,
    /// Where the egress device is a bridge: the port behind which that has seen the MAC address.
    pub port: Option<u32>,
    /// Where the egress device is a port: the other port behind which its bridge has seen the MAC
    /// address.
    pub other_port: Option<String>,
    /// Rules found it by the host's route to it, which leaves by this other device now.
    pub other_device: Option<String>,
}

/// The link layer at the other end of a pair.
#[derive(Clone, Copy)]
pub struct PeerAddress {
    pub mac: Mac,
    /// It takes frames for other MAC addresses too, as a bridge's port does.
    pub takes_others: bool,
}

/// The neighbour that packets for the server go to: itself or a gateway.
#[derive(Clone)]
pub struct Neighbour {
    pub mac: Mac,
    /// The device that it is on.
    pub device: String,
    /// Where the egress device is a port: the other port behind which its bridge has seen the MAC.
    pub behind: Option<String>,
    /// The namespace at the other end of the egress device has the address; true where it can't be
    /// asked.
    pub peer_has_address: bool,
}

/// What shows that a server is not where its rules send packets.
pub enum Moved<'a> {
    /// The host's route to it leaves by this device.
    Device(&'a str),
    /// The bridge has seen its MAC address behind this port.
    Port(&'a str),
    /// The other end of the egress device has this MAC address.
    Peer(Mac),
    /// The neighbour table has another MAC address.
    Neighbour(&'a Neighbour),
}

/// A locator that leads nowhere any more.
#[derive(Clone)]
pub struct LostLocator {
    pub locator: Locator,
    /// How many rules have it.
    pub rules: usize,
    /// One of them.
    pub first: Match,
}

impl BackendFacts {
    /// What a rule has of a backend; nothing was asked yet.
    pub fn new(backend: &Backend) -> Self {
        BackendFacts {
            adjacency: backend.adjacency,
            keep_ip: backend.rewrite.keep_ip,
            translated: false,
            asked: None,
            push_vlan: backend.rewrite.push_vlan.is_some(),
            locators: Locators::default(),
            sources: Vec::new(),
            whereabouts: Whereabouts::default(),
            namespace: None,
            answers: None,
        }
    }

    /// What makes the backends of several rules one for the checks.
    pub fn identity(backend: &Backend) -> Identity {
        let rewrite = &backend.rewrite;
        let tagged = rewrite.push_vlan.is_some();
        (backend.adjacency, rewrite.keep_ip, tagged)
    }

    /// The state as `rule list` shows it: packets are redirected to this device.
    pub fn state(&self, egress_is_up: bool) -> BackendState {
        if !egress_is_up {
            BackendState::LinkDown
        } else if self.moved().is_some() {
            BackendState::StaleMac
        } else if self.has_lost_route() {
            BackendState::NoRoute
        } else {
            BackendState::Up
        }
    }

    /// Rules found the server by a route that is gone.
    pub fn has_lost_route(&self) -> bool {
        self.locators.by_route && !self.whereabouts.has_route
    }

    /// Whether the server is elsewhere by now. A rule's MAC address that the other end has may be
    /// wrong all the same: then the server's address has left that namespace.
    pub fn moved(&self) -> Option<Moved<'_>> {
        // Nobody else has an address of this host: there is no neighbour to compare with.
        if self.whereabouts.is_own && !self.keep_ip {
            return None;
        }
        let now = &self.whereabouts;
        if let Some(device) = &now.other_device {
            return Some(Moved::Device(device));
        }
        if let Some(port) = &now.other_port {
            return Some(Moved::Port(port));
        }
        // The MAC address of who takes the tag off can't be looked up.
        if self.push_vlan {
            return None;
        }
        let other = now.neighbour.as_ref().filter(|now| now.mac != self.mac);
        match now.peer {
            Some(peer) if peer.mac == self.mac => {
                let left = other.filter(|now| !now.peer_has_address);
                left.map(Moved::Neighbour)
            }
            Some(peer) if !peer.takes_others => Some(Moved::Peer(peer.mac)),
            _ => other.map(Moved::Neighbour),
        }
    }

    /// Whether the other end of the egress device is no longer the server's, so that what that end
    /// says of the server means nothing.
    pub fn has_left(&self) -> bool {
        let now = &self.whereabouts;
        let is_other = |now: &Neighbour| now.mac != self.mac && !now.peer_has_address;
        now.neighbour.as_ref().is_some_and(is_other)
            || now.other_port.is_some()
            || now.other_device.is_some()
    }

    /// In all rules that have the backend as it was gathered.
    pub fn refresh(&self, to: Refreshed) -> Fix {
        Fix::Refresh {
            server: self.server,
            ifindex: self.ifindex,
            mac: self.mac,
            to,
        }
    }
}
