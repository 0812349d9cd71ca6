//! What becomes of packets where they arrive, and of the answers to them.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

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
    /// What translated answers have as their source.
    pub asked: Option<Asked>,
}

/// An address that clients ask, which translated answers come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    pub addr: IpAddr,
    /// It is one of this host's own.
    pub is_own: bool,
    /// To that address.
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
