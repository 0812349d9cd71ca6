//! What is wrong with a request.

use std::fmt;

use crate::doctor::announce::Taken;
use crate::error::{Coded, Exit, Failure};
use crate::model::{Match, Place, Proto, Remedy, Tool, Verb};

/// A part of a request. Its text is the key of a file; a command line has options for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    Server,
    Dst,
    Src,
    Proto,
    Port,
    InnerVlan,
    /// The device that frames are forwarded to.
    Forward,
    Snat,
    Reply,
    /// The destination that is answered for.
    Announce,
    /// What chooses the backend.
    Hash,
    /// How the backend is found, as a file has it.
    Origin,
    Device,
    Pid,
    Netns,
    Container,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Field::Server => "server",
            Field::Dst => "dst",
            Field::Src => "src",
            Field::Proto => "proto",
            Field::Port => "port",
            Field::InnerVlan => "inner_vlan",
            Field::Forward => "ifindex",
            Field::Snat => "snat",
            Field::Reply => "reply",
            Field::Announce => "announce",
            Field::Hash => "hash",
            Field::Origin => "origin",
            Field::Device => "device",
            Field::Pid => "pid",
            Field::Netns => "netns",
            Field::Container => "container",
        })
    }
}

/// Why a request is refused.
#[derive(Debug)]
pub enum Error {
    Value {
        field: Field,
        value: String,
        /// What is wrong with it, and what would be right.
        why: String,
    },
    WhichBackend,
    /// A backend of a rule whose source nobody has said.
    WhichSource,
    /// Another host has an address that is to be announced.
    Taken(Taken),
    /// Packets of the protocol are redirected as they are, or not at all.
    KeepsIp(Proto),
    /// The rule has backends, which another action would lose.
    HasBackends(Match, String),
    NoDevice(u32),
    /// No group of users has this name.
    NoGroup(String),
    /// No rule or backend is like this.
    NoRule(String),
    /// There is no connection, or none that is selected.
    NoConnection(&'static str),
}

impl Error {
    /// A value that cannot be used, as the error that functions return.
    pub fn value(field: Field, value: impl fmt::Display, why: impl Into<String>) -> anyhow::Error {
        Failure::new(Error::Value {
            field,
            value: value.to_string(),
            why: why.into(),
        })
    }
}

impl Coded for Error {
    fn exit(&self) -> Exit {
        match self {
            Error::Value { .. }
            | Error::WhichBackend
            | Error::WhichSource
            | Error::KeepsIp(_)
            | Error::NoGroup(_) => Exit::Usage,
            Error::HasBackends(..) | Error::Taken(_) => Exit::Conflict,
            Error::NoDevice(_) | Error::NoRule(_) | Error::NoConnection(_) => Exit::NotFound,
        }
    }

    fn remedy(&self) -> Remedy {
        match self {
            Error::NoDevice(_) => Remedy::from(Tool::new("ip link")) + " lists them",
            Error::NoGroup(name) => {
                let groupadd = Tool::new("groupadd").arg(name).at(Place::Anywhere);
                Remedy::from(groupadd) + " makes it"
            }
            Error::NoRule(_) => Remedy::from(Verb::Plain("rule list")) + " shows what there is",
            Error::HasBackends(matches, _) => {
                Remedy::from(Verb::RuleDel(Some(*matches), None)) + " first"
            }
            Error::Taken(_) => "take the address from that host, or announce another one".into(),
            Error::Value { .. }
            | Error::WhichBackend
            | Error::WhichSource
            | Error::KeepsIp(_)
            | Error::NoConnection(_) => Remedy::default(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Value { field, value, why } => write!(f, "{field} {value}: {why}"),
            Error::Taken(Taken {
                addr,
                mac,
                interface,
            }) => write!(
                f,
                "announce {addr}: another host has this address, {mac} behind {interface}"
            ),
            Error::WhichBackend => f.write_str("which backend? Its address is missing"),
            Error::WhichSource => f.write_str("for which source? src is missing"),
            Error::KeepsIp(proto) => write!(f, "proto {proto}: {}; set keep_ip", reason(*proto)),
            Error::HasBackends(_, rule) => {
                write!(f, "{rule}: redirects to backends, which would be lost")
            }
            Error::NoDevice(ifindex) => write!(
                f,
                "ifindex {ifindex}: no such device in this network namespace"
            ),
            Error::NoGroup(name) => write!(f, "group {name}: no such group"),
            Error::NoRule(what) => f.write_str(what),
            Error::NoConnection(what) => f.write_str(what),
        }
    }
}

/// Why packets of a protocol cannot be rewritten.
pub fn reason(proto: Proto) -> &'static str {
    match proto {
        Proto::Sctp => {
            "SCTP packets are not rewritten, because their CRC32c covers the ports and all data, and end \
             points tell each other their addresses in them"
        }
        Proto::Icmp => {
            "ICMP packets are not rewritten, because errors quote the packets that they are about, and \
             the checksum of ICMPv6 covers the addresses"
        }
        _ => {
            "packets of any protocol are not rewritten, because the checksums of most protocols are not \
             known"
        }
    }
}
