//! Finds a server in another network namespace of this host, by the pair of devices that has one end
//! there and one here. The other namespace is asked by the number that this one has for it.

use std::fs::File;
use std::net::IpAddr;

use anyhow::{Context, Result};

use super::{Error, Resolved};
use crate::error::{Exit, Failure, failure};
use crate::host::address::{self, Address};
use crate::host::device::{self, Device};
use crate::host::{netlink, netns};

/// Which address is the server's.
#[derive(Clone, Copy)]
pub enum AddressHint {
    /// This one.
    Exact(IpAddr),
    /// The one that it had or, where that is gone, its only one of the same family.
    Previous(IpAddr),
    /// Its only one of a family. With no family given, the IPv6 ones count only where there is no IPv4
    /// one.
    Unique { ipv6: Option<bool> },
}

impl AddressHint {
    /// The address to look for, where one is known.
    pub fn address(self) -> Option<IpAddr> {
        match self {
            AddressHint::Exact(addr) | AddressHint::Previous(addr) => Some(addr),
            AddressHint::Unique { .. } => None,
        }
    }
}

/// A pair of devices: one here, one in the server's namespace.
struct Pair {
    here: Device,
    there: Device,
    addresses: Vec<Address>,
}

/// Finds the server in a namespace. `place` is how the user named the namespace.
pub fn within(place: &str, namespace: &File, hint: AddressHint) -> Result<Resolved> {
    let named = || place.to_string();
    if netns::is_current(namespace)? {
        return Err(Failure::new(Error::OwnNamespace { place: named() }));
    }
    // The devices first: the kernel numbers the namespaces of their peers as it lists them.
    let mut devices = device::all()?;
    let nsid = nsid(place, namespace)?;
    devices.retain(|device| device.is_pair() && device.link_nsid.is_some());
    devices.retain(|device| device.link_nsid == nsid);
    let pairs = devices.into_iter().map(pair).collect::<Result<Vec<_>>>();
    let pairs: Vec<Pair> = pairs.with_context(named)?.into_iter().flatten().collect();
    if pairs.is_empty() {
        return Err(Failure::new(Error::NoPeer { place: named() }));
    }
    let mut resolved = choose(place, pairs, hint)?;
    let Device { name, ifindex, .. } = &resolved.device;
    let found = format!("dev {name} (ifindex {ifindex}): its veth peer is there");
    resolved.found.push(found);
    Ok(resolved)
}

/// Finds the server at the other end of a device.
pub fn behind(here: Device, hint: AddressHint) -> Result<Resolved> {
    let device = here.name.clone();
    let place = format!("the namespace of {device}'s peer");
    let elsewhere = Some(here).filter(|here| here.link_nsid.is_some());
    let pair = elsewhere.map(pair).transpose()?.flatten();
    let pair = pair.ok_or_else(|| Failure::new(Error::NotAPair { device }))?;
    choose(&place, vec![pair], hint)
}

fn nsid(place: &str, namespace: &File) -> Result<Option<i32>> {
    netns::nsid(namespace).map_err(|error| match netlink::errno(&error) {
        Some(nix::libc::EINVAL) => {
            failure(Exit::Usage, format!("{place}: not a network namespace"))
        }
        _ => error.context(place.to_string()),
    })
}

/// None where the device has no peer, or lost it meanwhile.
fn pair(here: Device) -> Result<Option<Pair>> {
    let Some(there) = device::peer(&here)? else {
        return Ok(None);
    };
    let addresses = address::of(there.ifindex, here.link_nsid)
        .with_context(|| format!("cannot read the addresses of {}'s peer", here.name))?;
    Ok(Some(Pair {
        here,
        there,
        addresses,
    }))
}

fn choose(place: &str, pairs: Vec<Pair>, hint: AddressHint) -> Result<Resolved> {
    let has = |pair: &Pair, addr| {
        pair.addresses
            .iter()
            .any(|address| address.net.addr() == addr)
    };
    let addr = match hint {
        AddressHint::Exact(addr) | AddressHint::Previous(addr)
            if pairs.iter().any(|p| has(p, addr)) =>
        {
            addr
        }
        AddressHint::Exact(addr) => {
            let message = format!(
                "{place}: no device whose veth peer is here has {addr}; there is {}",
                names(&candidates(&pairs, None))
            );
            return Err(failure(Exit::NotFound, message));
        }
        AddressHint::Previous(addr) => only(place, &pairs, Some(addr.is_ipv6()))?,
        AddressHint::Unique { ipv6 } => only(place, &pairs, ipv6)?,
    };
    let pair = pairs.into_iter().find(|pair| has(pair, addr));
    let pair = pair.context("an address without a device")?;
    let is_given = matches!(hint, AddressHint::Exact(_));
    resolved(place, pair, addr, is_given)
}

fn only(place: &str, pairs: &[Pair], ipv6: Option<bool>) -> Result<IpAddr> {
    let mut found = candidates(pairs, ipv6);
    if ipv6.is_none() && found.iter().any(|(addr, _)| addr.is_ipv4()) {
        found.retain(|(addr, _)| addr.is_ipv4());
    }
    match found.as_slice() {
        [(addr, _)] => Ok(*addr),
        [] => {
            let family = ipv6.map_or("", |ipv6| if ipv6 { "IPv6 " } else { "IPv4 " });
            let message =
                format!("{place}: no device whose veth peer is here has a global {family}address");
            Err(failure(Exit::NotFound, message))
        }
        several => Err(Failure::new(Error::SeveralAddresses {
            place: place.to_string(),
            addresses: names(several),
        })),
    }
}

/// The global addresses, with the devices that have them.
fn candidates(pairs: &[Pair], ipv6: Option<bool>) -> Vec<(IpAddr, &str)> {
    let mut all = Vec::new();
    for pair in pairs {
        let global = pair.addresses.iter().filter(|address| address.global);
        let wanted = global.filter(|a| ipv6.is_none_or(|ipv6| a.net.addr().is_ipv6() == ipv6));
        all.extend(wanted.map(|address| (address.net.addr(), pair.there.name.as_str())));
    }
    all
}

fn names(candidates: &[(IpAddr, &str)]) -> String {
    if candidates.is_empty() {
        return "none".into();
    }
    let name = |(addr, device): &(IpAddr, &str)| format!("{addr} ({device})");
    candidates.iter().map(name).collect::<Vec<_>>().join(", ")
}

fn resolved(place: &str, pair: Pair, server: IpAddr, is_given: bool) -> Result<Resolved> {
    let Pair { here, there, .. } = pair;
    let mac = there.mac.filter(|mac| mac.is_unicast()).ok_or_else(|| {
        let message = format!("{place}: {} has no Ethernet address", there.name);
        failure(Exit::Unsupported, message)
    })?;
    let mut found = Vec::new();
    if !is_given {
        found.push(format!(
            "server {server}: the address of {} in {place}",
            there.name
        ));
    }
    found.push(format!(
        "mac {mac}: the MAC address of {} there",
        there.name
    ));
    Ok(Resolved {
        server,
        device: here,
        mac,
        found,
    })
}
