//! Sessions by which this host is administered.

use std::net::IpAddr;

/// An SSH session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SshSession {
    /// Who is connected.
    pub host: IpAddr,
    /// To which address of this host, and which port.
    pub addr: IpAddr,
    pub port: u16,
}
