//! All that the checks look at, gathered at one moment.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;

use crate::model::{
    Failures, Features, Fix, LinkState, Locator, Mac, Match, Mode, Outcomes, Refreshed, Remote,
    Rule,
};

#[derive(Default)]
pub struct Facts {
    pub host: HostFacts,
    /// Those that are looked at.
    pub interfaces: Vec<InterfaceFacts>,
    /// The indexes of all that are attached.
    pub attached: Vec<u32>,
    pub rules: Vec<Rule>,
    pub backends: Vec<BackendFacts>,
    /// The devices that are attached or redirected to, by ifindex.
    pub devices: BTreeMap<u32, DeviceFacts>,
    /// What is below those in this namespace: the ports of bridges, the devices that VLANs and macvlans
    /// stand on.
    pub below: BTreeMap<u32, Features>,
    /// Lost frames, by egress device.
    pub losses: BTreeMap<u32, Failures>,
    /// What became of the packets that arrived, by the index of the attached interface.
    pub outcomes: BTreeMap<u32, Outcomes>,
    pub remains: Vec<StalePins>,
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
pub struct HostFacts {
    /// Why nothing can be pinned.
    pub no_bpffs: Option<String>,
    /// The capabilities that this process lacks to attach, and to look into other namespaces.
    pub lacks_to_attach: Vec<&'static str>,
    pub lacks_to_look: Vec<&'static str>,
    /// As root and the members of a group may.
    pub may_change_rules: bool,
    pub program: Trial,
    pub ledger: Trial,
    /// The kernel tells what drivers can do with XDP.
    pub tells_features: bool,
}

/// Whether the kernel loads a program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trial {
    #[default]
    NotTried,
    Loaded,
    /// Why not, and the remedy after the last colon; so where this process may not try it.
    Refused(String),
    Forbidden(String),
}

/// An attached interface.
pub struct InterfaceFacts {
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
    /// Where its device is now, if that was moved and can be seen.
    pub elsewhere: Option<Remote>,
}

/// A device, as its own namespace and its peer's tell of it.
pub struct DeviceFacts {
    pub features: Features,
    pub enabled: bool,
    pub promiscuous: bool,
    /// Packets can be redirected to it.
    pub in_service: bool,
    /// Whether it completes partial checksums.
    pub completes_checksum: bool,
    /// None where it has no peer, or the peer's namespace can't be entered.
    pub there: Option<PeerFacts>,
    /// The ports of an interface that run other people's XDP programs, with these.
    pub below: Vec<(String, String)>,
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
    /// Somebody else's XDP program there.
    pub program: Option<String>,
    /// This program runs there, too.
    pub redirects: bool,
}

/// A backend, and all rules that have it alike.
#[derive(Clone)]
pub struct BackendFacts {
    pub server: IpAddr,
    pub mac: Mac,
    pub source_mac: Mac,
    pub completes_checksum: bool,
    pub ifindex: u32,
    pub keep_ip: bool,
    /// Its packets get a VLAN tag, and go to whoever takes that off, with addresses of his own.
    pub push_vlan: bool,
    /// Some of its rules know how to find it again.
    pub found: bool,
    /// And even if its address changes.
    pub followed: bool,
    /// Some of its rules found it by the host's route to it.
    pub by_route: bool,
    pub has_route: bool,
    /// This host has its address itself.
    pub is_own: bool,
    /// Where its egress device is a bridge: the port behind which that has seen the MAC.
    pub port: Option<u32>,
    /// The locators of its rules that lead nowhere any more, each once.
    pub lost: Vec<LostLocator>,
    /// It was told by hand in so many rules, and one of them.
    pub by_hand: (usize, Option<Match>),
    /// Some of the sources of its packets.
    pub sources: Vec<Source>,
    /// What the host's neighbour table has for it.
    pub neighbour: Option<Neighbour>,
    /// Where its egress device is a port: the other port behind which its bridge has seen the MAC.
    pub other_port: Option<String>,
    /// By which the host's route to it leaves now, where that leads past the egress device, and rules
    /// found it by that route.
    pub other_device: Option<String>,
    /// What its own namespace says of it.
    pub there: Option<ServerFacts>,
    /// Where this host gets what the server answers by way of it.
    pub answers: Option<ReplyArrival>,
}

/// Who has a server's address by what the host has learned, or its gateway's.
#[derive(Clone)]
pub struct Neighbour {
    pub mac: Mac,
    /// On which it is.
    pub device: String,
    /// Where the egress device is a port: the other port behind which its bridge has seen the MAC.
    pub behind: Option<String>,
    /// The namespace at the other end of the egress device has the address; true where it can't be
    /// asked.
    pub peer_has_address: bool,
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

/// Where packets come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    pub net: IpNet,
    pub known: Certainty,
}

/// How it is known that packets come from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certainty {
    /// The rule names it.
    Named,
    /// The rule takes any, and an attached interface leads there.
    Near,
    /// The rule takes any.
    Guessed,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.net.prefix_len() {
            0 => f.write_str("any other network"),
            len if len == self.net.max_prefix_len() => self.net.addr().fmt(f),
            _ => self.net.fmt(f),
        }
    }
}

/// A device at which packets arrive, and what becomes of them there.
#[derive(Clone)]
pub struct ReplyArrival {
    pub device: String,
    pub rp_filter: u32,
    pub forwards: bool,
    /// IPv4: takes what has this host's own addresses as its source.
    pub accept_local: bool,
    /// To where they come from.
    pub back: ReturnRoute,
}

/// The route back to a packet's source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReturnRoute {
    ByArrival,
    ByAnother,
    Missing,
}

impl ReturnRoute {
    /// Linux: ip-sysctl.rst: 1 wants the route back by the device of arrival, 2 any.
    pub fn is_refused(self, rp_filter: u32) -> bool {
        match rp_filter {
            1 => self != ReturnRoute::ByArrival,
            2 => self == ReturnRoute::Missing,
            _ => false,
        }
    }
}

impl fmt::Display for ReturnRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ReturnRoute::ByArrival => "by that device",
            ReturnRoute::ByAnother => "by another device",
            ReturnRoute::Missing => "missing",
        })
    }
}

#[derive(Clone)]
pub struct ServerFacts {
    pub address: Delivery,
    pub replies: Vec<Reply>,
    pub others: Others,
}

/// What the server's namespace takes beside packets to the server's address.
#[derive(Clone, Debug, Default)]
pub struct Others {
    /// Its further addresses of that family on lo or of full prefix length, and whole prefixes that it
    /// takes for its own, but for loopback and link-local ones.
    pub local: Vec<IpNet>,
    /// It has others, of networks that it is in.
    pub near: bool,
    /// It sends packets to other addresses on, by another device.
    pub sends_on: bool,
    /// The one that this host has, too.
    pub shared: Option<IpAddr>,
}

/// What the server's namespace does with a packet to the server's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    Here,
    /// Sends it on.
    Onward,
    Nowhere,
}

/// The server's way back to a source.
#[derive(Clone, Debug)]
pub struct Reply {
    pub source: Source,
    pub back: ReturnRoute,
    /// The gateway is an address of the namespace that redirects.
    pub via_us: bool,
}

/// Pins that serve nobody.
pub enum StalePins {
    OtherVersion(PathBuf),
    /// Of a network namespace that nobody can see.
    OtherNamespace(PathBuf),
}

impl Facts {
    pub fn matches(&self) -> impl Iterator<Item = &Match> {
        self.rules.iter().map(|rule| &rule.matches)
    }

    /// The attached interfaces in native mode that are there.
    pub fn native(&self) -> impl Iterator<Item = &InterfaceFacts> {
        self.live().filter(|i| i.mode == Mode::Native)
    }

    /// The attached interfaces that packets meet the program on.
    pub fn live(&self) -> impl Iterator<Item = &InterfaceFacts> {
        let attached = |i: &&InterfaceFacts| i.state == LinkState::Attached;
        self.interfaces.iter().filter(attached)
    }

    /// The devices of those interfaces.
    pub fn ingress(&self) -> impl Iterator<Item = &DeviceFacts> {
        self.live()
            .filter_map(|interface| self.devices.get(&interface.ifindex))
    }

    /// The devices that packets are redirected to.
    pub fn egress(&self) -> impl Iterator<Item = &DeviceFacts> {
        let mut used: Vec<u32> = self.backends.iter().map(|b| b.ifindex).collect();
        used.sort_unstable();
        used.dedup();
        used.into_iter().filter_map(|ifindex| self.serving(ifindex))
    }

    pub fn is_egress(&self, ifindex: u32) -> bool {
        let mut backends = self.backends.iter();
        backends.any(|b| b.ifindex == ifindex) && self.serving(ifindex).is_some()
    }

    /// The egress device with this index; None where it is gone.
    pub fn serving(&self, ifindex: u32) -> Option<&DeviceFacts> {
        self.devices.get(&ifindex).filter(|link| link.in_service)
    }

    /// Backends whose device is there, with it.
    pub fn served(&self) -> impl Iterator<Item = (&BackendFacts, &DeviceFacts)> {
        let with = |target| Some((target, self.serving(BackendFacts::ifindex(target))?));
        self.backends.iter().filter_map(with)
    }

    pub fn native_names(&self) -> Vec<&str> {
        self.native().map(|i| i.name.as_str()).collect()
    }
}

impl BackendFacts {
    fn ifindex(&self) -> u32 {
        self.ifindex
    }

    pub fn there(&self) -> Option<&ServerFacts> {
        self.there.as_ref()
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
