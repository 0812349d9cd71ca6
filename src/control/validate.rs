//! What a rule may say, the same for every caller.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Result, ensure};

use super::error::{Error, Field};
use crate::datapath;
use crate::model::{Locator, Prefix};

/// A server is another host.
pub fn server(addr: IpAddr) -> Result<()> {
    let why = "not the unicast address of another host";
    ensure!(is_host(addr), Error::value(Field::Server, addr, why));
    Ok(())
}

/// A locator must fit into the map that keeps it.
pub fn locator(field: Field, locator: &Locator) -> Result<()> {
    let text = locator.to_string();
    let over = text.len().saturating_sub(datapath::MAX_LOCATOR);
    let why = || {
        format!("the name or path is too long to be remembered, by {over} bytes: use a shorter one")
    };
    ensure!(over == 0, Error::value(field, locator, why()));
    Ok(())
}

/// A source prefix is of the server's family.
pub fn source(src: Prefix, server: IpAddr) -> Result<()> {
    same_family(Field::Src, src, src.addr(), server)
}

/// A new source address is another host's, of the server's family.
pub fn snat(snat: IpAddr, server: IpAddr) -> Result<()> {
    let wrong = |why: &str| Error::value(Field::Snat, snat, why);
    ensure!(is_host(snat), wrong("not a host's unicast address"));
    let own = "the server's own address, which it accepts from nobody else";
    ensure!(snat != server, wrong(own));
    same_family(Field::Snat, snat, snat, server)
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

fn same_family(field: Field, value: impl Display, addr: IpAddr, server: IpAddr) -> Result<()> {
    let why =
        || format!("server {server} is of the other family: give both as IPv4 or both as IPv6");
    ensure!(
        addr.is_ipv4() == server.is_ipv4(),
        Error::value(field, value, why())
    );
    Ok(())
}
