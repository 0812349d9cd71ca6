//! The way to a server in another network namespace of this host: by the pair of devices that has
//! one end there and one here. The other namespace is asked by the number that this one has for it.

use std::fs::File;
use std::net::IpAddr;

use anyhow::{Context, Result};

use super::next_hop::Resolved;
use crate::error::{Exit, failure};
use crate::host::address::{self, Address};
use crate::host::device::{self, Device};
use crate::host::{netlink, netns};

/// Which address is the server's.
#[derive(Clone, Copy)]
pub enum AddressHint {
    Exact(IpAddr),
    /// The one that it had or, where that is gone, its only one of the same family.
    Previous(IpAddr),
    /// Its only one; of the IPv6 ones, or of the IPv4 ones. Not told: of the IPv6 ones where there
    /// is no IPv4 one.
    Unique {
        ipv6: Option<bool>,
    },
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

/// The way to the server in a namespace. `what` is how the user named that.
pub fn within(what: &str, namespace: &File, wanted: AddressHint) -> Result<Resolved> {
    if netns::is_current(namespace)? {
        let message = format!("{what}: its network namespace is this one: give --server and --dev");
        return Err(failure(Exit::Usage, message));
    }
    // In this order: the kernel gives the peers' namespaces their numbers as it lists the devices.
    let mut devices = device::all()?;
    let nsid = nsid(what, namespace)?;
    devices.retain(|device| device.is_pair() && device.link_nsid.is_some());
    devices.retain(|device| device.link_nsid == nsid);
    let pairs = devices.into_iter().map(pair).collect::<Result<Vec<_>>>();
    let pairs: Vec<Pair> = pairs
        .with_context(|| what.to_string())?
        .into_iter()
        .flatten()
        .collect();
    if pairs.is_empty() {
        let message = format!(
            "{what}: no device there is the peer of a veth here: give --server with --mac and --dev"
        );
        return Err(failure(Exit::NotFound, message));
    }
    let mut path = choose(what, pairs, wanted)?;
    let Device { name, ifindex, .. } = &path.device;
    let found = format!("dev {name} (ifindex {ifindex}): its veth peer is there");
    path.found.push(found);
    Ok(path)
}

/// The way to the server at the other end of a device.
pub fn behind(here: Device, wanted: AddressHint) -> Result<Resolved> {
    let not_a_pair = format!(
        "--dev {}: not a veth whose peer is in another network namespace: give --server, too",
        here.name
    );
    let what = format!("{}'s peer", here.name);
    let elsewhere = Some(here).filter(|here| here.link_nsid.is_some());
    let pair = elsewhere.map(pair).transpose()?.flatten();
    let pair = pair.ok_or_else(|| failure(Exit::Usage, not_a_pair))?;
    choose(&what, vec![pair], wanted)
}

fn nsid(what: &str, namespace: &File) -> Result<Option<i32>> {
    netns::nsid(namespace).map_err(|error| match netlink::errno(&error) {
        Some(nix::libc::EINVAL) => failure(Exit::Usage, format!("{what}: not a network namespace")),
        _ => error.context(what.to_string()),
    })
}

/// None where the device is no pair's, or its peer has gone meanwhile.
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

fn choose(what: &str, pairs: Vec<Pair>, wanted: AddressHint) -> Result<Resolved> {
    let has = |pair: &Pair, addr| {
        pair.addresses
            .iter()
            .any(|address| address.net.addr() == addr)
    };
    let addr = match wanted {
        AddressHint::Exact(addr) | AddressHint::Previous(addr)
            if pairs.iter().any(|p| has(p, addr)) =>
        {
            addr
        }
        AddressHint::Exact(addr) => {
            let message = format!(
                "{what}: no device whose veth peer is here has {addr}; there is {}",
                names(&candidates(&pairs, None))
            );
            return Err(failure(Exit::NotFound, message));
        }
        AddressHint::Previous(addr) => only(what, &pairs, Some(addr.is_ipv6()))?,
        AddressHint::Unique { ipv6 } => only(what, &pairs, ipv6)?,
    };
    let pair = pairs.into_iter().find(|pair| has(pair, addr));
    let pair = pair.context("an address without a device")?;
    let told = matches!(wanted, AddressHint::Exact(_));
    path(what, pair, addr, told)
}

fn only(what: &str, pairs: &[Pair], ipv6: Option<bool>) -> Result<IpAddr> {
    let mut found = candidates(pairs, ipv6);
    if ipv6.is_none() && found.iter().any(|(addr, _)| addr.is_ipv4()) {
        found.retain(|(addr, _)| addr.is_ipv4());
    }
    match found.as_slice() {
        [(addr, _)] => Ok(*addr),
        [] => {
            let family = ipv6.map_or("", |ipv6| if ipv6 { "IPv6 " } else { "IPv4 " });
            let message =
                format!("{what}: no device whose veth peer is here has a global {family}address");
            Err(failure(Exit::NotFound, message))
        }
        several => {
            let message = format!(
                "{what}: has several addresses: say with --server which of {}",
                names(several)
            );
            Err(failure(Exit::Usage, message))
        }
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

fn path(what: &str, pair: Pair, server: IpAddr, told: bool) -> Result<Resolved> {
    let Pair { here, there, .. } = pair;
    let mac = there.mac.filter(|mac| mac.is_unicast()).ok_or_else(|| {
        let message = format!("{what}: {} has no Ethernet address", there.name);
        failure(Exit::Unsupported, message)
    })?;
    let mut found = Vec::new();
    if !told {
        found.push(format!(
            "server {server}: the address of {} in {what}",
            there.name
        ));
    }
    found.push(format!("mac {mac}: that of {} there", there.name));
    Ok(Resolved {
        server,
        device: here,
        mac,
        found,
    })
}
