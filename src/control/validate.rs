//! What a rule may say, the same on the command line and in a file. `what` is the name that the user
//! gave it by.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Result, ensure};
use ipnet::IpNet;

use crate::datapath;
use crate::error::{Exit, failure};
use crate::model::Locator;

fn usage(message: String) -> anyhow::Error {
    failure(Exit::Usage, message)
}

/// A server is another host.
pub fn server(what: &str, addr: IpAddr) -> Result<()> {
    ensure!(
        is_host(addr),
        usage(format!(
            "{what} {addr}: not the unicast address of another host"
        ))
    );
    Ok(())
}

/// What is remembered has to fit.
pub fn origin(what: &str, origin: &Locator) -> Result<()> {
    let text = origin.to_string();
    let over = text.len().saturating_sub(datapath::MAX_LOCATOR);
    ensure!(
        over == 0,
        usage(format!(
            "{what}: the name or path is too long to be remembered, by {over} bytes: use a shorter one"
        ))
    );
    Ok(())
}

fn is_host(addr: IpAddr) -> bool {
    let broadcast = IpAddr::V4(Ipv4Addr::BROADCAST);
    let mapped = matches!(addr, IpAddr::V6(addr) if addr.to_ipv4_mapped().is_some());
    !(addr.is_unspecified()
        || addr.is_loopback()
        || addr.is_multicast()
        || addr == broadcast
        || mapped)
}

pub fn source(what: &str, src: IpNet, server: IpAddr) -> Result<()> {
    same_family(what, &src, src.addr(), server)
}

pub fn snat(what: &str, snat: IpAddr, server: IpAddr) -> Result<()> {
    ensure!(
        is_host(snat),
        usage(format!("{what} {snat}: not a host's unicast address"))
    );
    ensure!(
        snat != server,
        usage(format!(
            "{what} {snat}: the server's own address, which it takes from nobody else"
        ))
    );
    same_family(what, &snat, snat, server)
}

fn same_family(
    what: &str,
    value: &dyn std::fmt::Display,
    addr: IpAddr,
    server: IpAddr,
) -> Result<()> {
    ensure!(
        addr.is_ipv4() == server.is_ipv4(),
        usage(format!(
            "{what} {value} and server {server}: give both as IPv4 or both as IPv6"
        ))
    );
    Ok(())
}
