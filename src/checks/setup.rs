//! All that the checks look at, gathered at one moment.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use crate::model::{Failures, Features, Fix, LinkState, Mac, Match, Mode, Proto, Refreshed};

#[derive(Default)]
pub struct Setup {
    pub host: Host,
    pub interfaces: Vec<Ingress>,
    pub matches: Vec<Match>,
    pub backends: Vec<Target>,
    /// The devices that are attached or redirected to, by ifindex.
    pub devices: BTreeMap<u32, Link>,
    /// Lost frames, by egress device.
    pub losses: BTreeMap<u32, Failures>,
    pub remains: Vec<Remains>,
    pub strays: Vec<Stray>,
}

/// A source that its bridge has seen behind a port that is not attached, while others of its ports
/// are.
pub struct Stray {
    pub source: IpAddr,
    pub mac: Mac,
    pub bridge: String,
    pub port: String,
}

#[derive(Default)]
pub struct Host {
    pub kernel: Option<(u32, u32)>,
    /// Why nothing can be pinned.
    pub no_bpffs: Option<String>,
    pub missing_capabilities: Vec<&'static str>,
    pub has_btf: bool,
    /// The kernel tells what drivers can do with XDP.
    pub tells_features: bool,
}

/// An attached interface.
pub struct Ingress {
    pub ifindex: u32,
    pub name: String,
    pub mode: Mode,
    /// Frames in several buffers come along.
    pub frags: bool,
    pub state: LinkState,
    /// The index of the device that has its name now.
    pub successor: Option<u32>,
    /// The program that is there in place of ours.
    pub foreign: Option<String>,
}

/// A device, as its own namespace and its peer's tell of it.
pub struct Link {
    pub features: Features,
    pub enabled: bool,
    pub promiscuous: bool,
    /// Packets can be redirected to it.
    pub in_service: bool,
    /// Whether it completes partial checksums.
    pub completes_checksum: bool,
    /// None where it has no peer, or the peer's namespace can't be entered.
    pub there: Option<There>,
}

/// At the other end of a veth.
#[derive(Clone, Default)]
pub struct There {
    pub enabled: bool,
    /// It is a port of a bridge or a bond.
    pub is_port: bool,
    /// It takes frames for others: a macvlan above it, for one, that may be in any namespace.
    pub promiscuous: bool,
    pub rp_filter: u32,
    /// The XDP program there.
    pub program: Option<String>,
}

/// A backend, and all rules that have it alike.
#[derive(Clone)]
pub struct Target {
    pub server: IpAddr,
    pub mac: Mac,
    pub source_mac: Mac,
    pub completes_checksum: bool,
    pub ifindex: u32,
    pub keep_ip: bool,
    /// Some of its rules know how to find it again if its address changes.
    pub followed: bool,
    pub protos: Vec<Proto>,
    /// Some of the source addresses that its packets bear.
    pub sources: Vec<IpAddr>,
    /// What the host's neighbour table has for it, and on which device.
    pub neighbour: Option<(Mac, String)>,
    /// Where its egress device is a port: the other port behind which its bridge has seen the MAC.
    pub other_port: Option<String>,
    /// What its own namespace says of it.
    pub there: Option<AtServer>,
    /// That host forwards what the server answers by way of it.
    pub host_forwards: bool,
}

#[derive(Clone)]
pub struct AtServer {
    pub address: Delivery,
    pub replies: Vec<Reply>,
}

/// What the server's namespace does with a packet to the server's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    Here,
    /// Sends it on by another device than it came.
    Onward,
    /// Sends it back, or nowhere.
    Nowhere,
}

/// The server's way back to a source.
#[derive(Clone, Debug)]
pub struct Reply {
    pub source: IpAddr,
    /// The device by which it leaves there; None: no route.
    pub ifindex: Option<u32>,
    pub by_arrival: bool,
    /// The gateway is an address of the namespace that redirects.
    pub via_us: bool,
}

/// Pins that serve nobody.
pub enum Remains {
    OtherVersion(PathBuf),
    /// Of a network namespace that nobody can see.
    OtherNamespace(PathBuf),
}

impl Setup {
    /// The attached interfaces in native mode that are there.
    pub fn native(&self) -> impl Iterator<Item = &Ingress> {
        self.live().filter(|i| i.mode == Mode::Native)
    }

    /// The attached interfaces that packets meet the program on.
    pub fn live(&self) -> impl Iterator<Item = &Ingress> {
        let attached = |i: &&Ingress| i.state == LinkState::Attached;
        self.interfaces.iter().filter(attached)
    }

    /// The devices that packets are redirected to.
    pub fn egress(&self) -> impl Iterator<Item = &Link> {
        let mut used: Vec<u32> = self.backends.iter().map(|b| b.ifindex).collect();
        used.sort_unstable();
        used.dedup();
        used.into_iter().filter_map(|ifindex| self.serving(ifindex))
    }

    /// The egress device with this index; None where it is gone.
    pub fn serving(&self, ifindex: u32) -> Option<&Link> {
        self.devices.get(&ifindex).filter(|link| link.in_service)
    }

    /// Backends whose device is there, with it.
    pub fn served(&self) -> impl Iterator<Item = (&Target, &Link)> {
        let with = |target| Some((target, self.serving(Target::ifindex(target))?));
        self.backends.iter().filter_map(with)
    }

    pub fn native_names(&self) -> String {
        let names: Vec<&str> = self.native().map(|i| i.name.as_str()).collect();
        names.join(" and ")
    }
}

impl Target {
    fn ifindex(&self) -> u32 {
        self.ifindex
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

impl Link {
    pub fn name(&self) -> &str {
        &self.features.ifname
    }

    pub fn is(&self, kind: &str) -> bool {
        self.features.kind.as_deref() == Some(kind)
    }

    /// The peer in words.
    pub fn peer(&self) -> Option<String> {
        let peer = self.features.peer.as_ref()?;
        Some(peer.device.to_string())
    }
}
