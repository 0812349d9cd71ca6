//! Why a backend was not found.

use std::fmt;
use std::net::IpAddr;

use crate::error::{Coded, Exit};
use crate::model::Mac;

/// What keeps a backend from being found, and more input could help. Places are named as the caller
/// named them.
#[derive(Debug)]
pub enum Error {
    /// The address is this host's own.
    OwnAddress(IpAddr),
    /// The host has no route to the address.
    NoRoute(IpAddr),
    /// A link-local address without a device.
    LinkLocal(IpAddr),
    /// The route leaves by a device on which nobody has a MAC address.
    NoEthernet { server: IpAddr, device: String },
    /// The next hop does not answer.
    NoAnswer {
        server: IpAddr,
        hop: IpAddr,
        device: String,
    },
    /// The bridge does not know behind which port the MAC address is.
    UnknownPort {
        server: IpAddr,
        bridge: String,
        mac: Mac,
    },
    /// The backend's network namespace is the current one.
    OwnNamespace { place: String },
    /// No device of the namespace has its peer here.
    NoPeer { place: String },
    /// The device is no veth, or its peer is in this namespace.
    NotAPair { device: String },
    /// Which of the addresses is the backend's is not known.
    SeveralAddresses { place: String, addresses: String },
    /// No container engine can be asked.
    NoEngine { container: String },
}

impl Coded for Error {
    fn exit(&self) -> Exit {
        match self {
            Error::OwnAddress(_)
            | Error::LinkLocal(_)
            | Error::OwnNamespace { .. }
            | Error::NotAPair { .. }
            | Error::SeveralAddresses { .. } => Exit::Usage,
            Error::NoRoute(_)
            | Error::NoAnswer { .. }
            | Error::UnknownPort { .. }
            | Error::NoPeer { .. }
            | Error::NoEngine { .. } => Exit::NotFound,
            Error::NoEthernet { .. } => Exit::Unsupported,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::OwnAddress(server) => write!(f, "{server} is an address of this host"),
            Error::NoRoute(server) => write!(f, "{server}: this host has no route to it"),
            Error::LinkLocal(server) => write!(
                f,
                "{server} is a link-local address, which is not complete without a device"
            ),
            Error::NoEthernet { server, device } => write!(
                f,
                "{server}: the host's route to it leaves by {device}, which leads to no other host over Ethernet"
            ),
            Error::NoAnswer {
                server,
                hop,
                device,
            } => write!(
                f,
                "{server}: the neighbour {hop} doesn't answer on {device}"
            ),
            Error::UnknownPort {
                server,
                bridge,
                mac,
            } => write!(f, "{server}: bridge {bridge} has not seen {mac} on a port"),
            Error::OwnNamespace { place } => {
                write!(f, "{place}: its network namespace is this one")
            }
            Error::NoPeer { place } => {
                write!(f, "{place}: no device there is the peer of a veth here")
            }
            Error::NotAPair { device } => write!(
                f,
                "{device} is not a veth whose peer is in another network namespace"
            ),
            Error::SeveralAddresses { place, addresses } => {
                write!(f, "{place} has several addresses, {addresses}")
            }
            Error::NoEngine { container } => write!(
                f,
                "container {container}: neither docker nor podman is installed"
            ),
        }
    }
}
