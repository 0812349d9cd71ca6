//! Interfaces, and the devices that they and the backends use.

use std::net::IpAddr;

use crate::model::{
    Features, LinkState, Mac, Mode, Policy, Purpose, Remote, RxQueues, SshSession, VlanId,
};

/// An attached interface.
pub struct InterfaceFacts {
    pub ifindex: u32,
    pub name: String,
    pub mode: Mode,
    /// What the program is attached to it for.
    pub purpose: Purpose,
    /// Frames that are redirected to it natively arrive, as the program has it.
    pub reachable: bool,
    /// Frames in several buffers come along.
    pub frags: bool,
    /// Backends whose link is down are skipped.
    pub sees_links: bool,
    /// The programs of its chain that were not asked about packets, and of how many.
    pub skipped: Vec<(String, u64)>,
    pub state: LinkState,
    /// The index of the device that has its name now.
    pub successor: Option<u32>,
    /// The program that is there in place of ours.
    pub foreign: Option<String>,
    /// Where its device is now, if that was moved and can be seen.
    pub elsewhere: Option<Remote>,
    /// This host's own, on it or on the bridge above it.
    pub addresses: Vec<IpAddr>,
    /// What the program sends back there arrives, as far as that was known when it was attached.
    pub answers: bool,
    /// Its MAC address then.
    pub mac: Option<Mac>,
    /// What becomes of frames that no rule matches.
    pub policy: Policy,
    /// The SSH sessions that come in by it, if its policy may cut them off.
    pub sessions: Vec<ArrivingSession>,
}

/// An SSH session, as its packets arrive at an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArrivingSession {
    pub session: SshSession,
    /// The VLAN tag that they have there.
    pub vlan: Option<VlanId>,
    /// Whom this host's answers go to, by which device, and with which MAC address, if that is known.
    pub next_hop: IpAddr,
    pub device: String,
    pub mac: Option<Mac>,
}

/// A device, as its own namespace and its peer's tell of it.
#[derive(Clone)]
pub struct DeviceFacts {
    pub features: Features,
    pub enabled: bool,
    pub promiscuous: bool,
    /// Packets can be redirected to it.
    pub in_service: bool,
    /// At the tc hook they are handed to its other end, which is in this network namespace again.
    pub other_end_is_back: bool,
    /// Whether it completes partial checksums.
    pub completes_checksum: bool,
    /// None where that is not known.
    pub rx_queues: Option<RxQueues>,
    /// None where it has no peer, or the peer's namespace can't be entered.
    pub peer_facts: Option<PeerFacts>,
    /// The ports of an interface that run other people's XDP programs, with these.
    pub foreign_below: Vec<(String, String)>,
}

/// At the other end of a veth.
#[derive(Clone, Default)]
pub struct PeerFacts {
    pub enabled: bool,
    /// It is a port of a bridge or a bond.
    pub is_port: bool,
    /// It takes frames for others: a macvlan above it, for one, that may be in any namespace.
    pub promiscuous: bool,
    /// What it sends has its VLAN tags beside the frames.
    pub tx_vlan: Option<bool>,
    pub rp_filter: u32,
    /// None where that is not known.
    pub rx_queues: Option<RxQueues>,
    /// Whether its GRO hands datagrams over in lists; None where that cannot be switched.
    pub gro_lists: Option<bool>,
    /// Somebody else's XDP program there.
    pub program: Option<String>,
    /// This program runs there, too.
    pub redirects: bool,
}

/// A source that its bridge has seen behind a port that is not attached, while others of its ports
/// are.
pub struct BridgeEntry {
    pub source: IpAddr,
    pub mac: Mac,
    pub bridge: String,
    pub port: String,
}

impl DeviceFacts {
    pub fn name(&self) -> &str {
        &self.features.ifname
    }

    pub fn is(&self, kind: &str) -> bool {
        self.features.kind.as_deref() == Some(kind)
    }

    pub fn peer(&self) -> Option<&Remote> {
        let peer = self.features.peer.as_ref()?;
        Some(&peer.device)
    }
}
