//! Finds the MAC address of a backend, and the device that leads to it, as the host routes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use netlink_packet_route::link::InfoKind;

use super::Error;
use crate::error::Failure;
use crate::host::device::{self, Device};
use crate::host::route::{self, NextHop, Route};
use crate::host::{address, neighbour};
use crate::model::Mac;

/// How long a neighbour has to answer.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);
/// A neighbour entry that is about to fail takes the first question with it, so that one is not enough.
const QUESTIONS: u32 = 4;

/// RFC 863: the receiver discards what arrives at this port.
const DISCARD_PORT: u16 = 9;

/// How a server is reached.
pub struct Resolved {
    pub server: IpAddr,
    pub device: Device,
    pub mac: Mac,
    /// What was found, and where, for people; nothing of what the caller gave.
    pub found: Vec<String>,
}

/// When a neighbour is asked for its MAC address.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// Unless the neighbour table has a valid one.
    IfUnknown,
    /// Even so, because it may have another one by now.
    Always,
}

impl Resolved {
    /// Nothing has to be found.
    pub fn given(server: IpAddr, device: Device, mac: Mac) -> Self {
        Resolved {
            server,
            device,
            mac,
            found: Vec::new(),
        }
    }

    /// Finds what is not given: the route names a device and a next hop, the neighbour table the hop's
    /// MAC address, and a bridge the port behind which that is.
    pub fn find(
        server: IpAddr,
        device: Option<Device>,
        mac: Option<Mac>,
        probe: Probe,
    ) -> Result<Self> {
        let hop = next_hop(server, scope(server, device.as_ref())?)?;
        let on = device::by_index(hop.ifindex)?
            .with_context(|| format!("the device of the route to {server} is gone"))?;
        let mut found = Vec::new();
        let mac = match mac {
            Some(mac) => mac,
            None => neighbour(server, &hop, &on, probe, &mut found)?,
        };
        let device = match device {
            Some(device) => device,
            None => egress(server, on, mac, &mut found)?,
        };
        Ok(Resolved {
            server,
            device,
            mac,
            found,
        })
    }
}

/// The unicast route to another host's address; with an ifindex, the one by that device.
fn next_hop(to: IpAddr, ifindex: Option<u32>) -> Result<NextHop> {
    match route::lookup(to, ifindex)? {
        Route::Hop(hop) => Ok(hop),
        Route::Local => Err(Failure::new(Error::OwnAddress(to))),
        Route::None => Err(Failure::new(Error::NoRoute(to))),
    }
}

/// The device that a link-local address needs to mean anything; None for other addresses.
fn scope(server: IpAddr, device: Option<&Device>) -> Result<Option<u32>> {
    if !route::is_link_local(server) {
        return Ok(None);
    }
    let device = device.ok_or_else(|| Failure::new(Error::LinkLocal(server)))?;
    match device.master.map(device::by_index).transpose()?.flatten() {
        // A port has no addresses and neighbours of its own, unless a VRF is its master.
        Some(master) if master.kind != Some(InfoKind::Vrf) => Ok(Some(master.ifindex)),
        _ => Ok(Some(device.ifindex)),
    }
}

fn neighbour(
    server: IpAddr,
    hop: &NextHop,
    on: &Device,
    probe: Probe,
    found: &mut Vec<String>,
) -> Result<Mac> {
    let (addr, name) = (hop.addr, &on.name);
    require_ethernet(server, on)?;
    if probe == Probe::Always {
        // The kernel lets only root do it. Others go on with what the table has.
        let _ = neighbour::forget(addr, on.ifindex);
    }
    let mac = ask(addr, on.ifindex, QUESTIONS, || {
        neighbour::mac(addr, on.ifindex)
    })?;
    let mac = mac.ok_or_else(|| {
        Failure::new(Error::NoAnswer {
            server,
            hop: addr,
            device: name.clone(),
        })
    })?;
    found.push(format!(
        "mac {mac}: the neighbour table has it for {addr} on {name}"
    ));
    Ok(mac)
}

/// On a tun device, a tunnel and lo nobody has a MAC address, and nobody ever answers.
fn require_ethernet(server: IpAddr, on: &Device) -> Result<()> {
    let device = on.name.clone();
    let missing = |_| Failure::new(Error::NoEthernet { server, device });
    on.require_source_mac().map(drop).map_err(missing)
}

/// The device by which the host's route to a server leaves now, where that is neither the egress device
/// nor its master. None where the namespace at the egress device's other end, which this one calls
/// `nsid`, has the server's address still, or can't be asked.
pub fn other_device(
    server: IpAddr,
    egress: u32,
    master: Option<u32>,
    nsid: Option<i32>,
) -> Result<Option<u32>> {
    if route::is_link_local(server) {
        return Ok(None);
    }
    let Route::Hop(hop) = route::lookup(server, None)? else {
        return Ok(None);
    };
    if hop.ifindex == egress || Some(hop.ifindex) == master {
        return Ok(None);
    }
    let has_left = address::all(nsid).is_ok_and(|all| !all.iter().any(|a| a.net.addr() == server));
    Ok(Some(hop.ifindex).filter(|_| has_left))
}

/// Whether a neighbour is known, or answers when it is asked once.
pub fn answers(addr: IpAddr, ifindex: u32) -> Result<bool> {
    let mac = ask(addr, ifindex, 1, || neighbour::mac(addr, ifindex))?;
    Ok(mac.is_some())
}

/// What the kernel knows of an address. Where it knows nothing, a datagram makes it ask for the
/// address, and it learns from the answer.
fn ask<T>(
    addr: IpAddr,
    ifindex: u32,
    times: u32,
    known: impl Fn() -> Result<Option<T>>,
) -> Result<Option<T>> {
    if let Some(known) = known()? {
        return Ok(Some(known));
    }
    for _ in 0..times {
        send_nothing(addr, ifindex)?;
        let deadline = Instant::now() + ANSWER_WITHIN;
        while Instant::now() < deadline {
            if let Some(known) = known()? {
                return Ok(Some(known));
            }
            sleep(Duration::from_millis(10));
        }
    }
    Ok(None)
}

/// Sends an empty datagram. It is no error that it cannot be sent: then nobody answers.
fn send_nothing(addr: IpAddr, ifindex: u32) -> Result<()> {
    let (any, to): (IpAddr, _) = match addr {
        IpAddr::V4(_) => (
            Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::new(addr, DISCARD_PORT),
        ),
        IpAddr::V6(v6) => {
            let scope = if route::is_link_local(addr) {
                ifindex
            } else {
                0
            };
            let to = SocketAddrV6::new(v6, DISCARD_PORT, 0, scope);
            (Ipv6Addr::UNSPECIFIED.into(), to.into())
        }
    };
    let socket = UdpSocket::bind((any, 0)).context("cannot open a socket")?;
    let _ = socket.send_to(&[], to);
    Ok(())
}

/// The route's device or, where that is a bridge, the port behind which the MAC is.
fn egress(server: IpAddr, on: Device, mac: Mac, found: &mut Vec<String>) -> Result<Device> {
    if !on.is_bridge() {
        let Device { name, ifindex, .. } = &on;
        found.push(format!(
            "dev {name} (ifindex {ifindex}): the route to {server} has it"
        ));
        return Ok(on);
    }
    let port = ask(server, on.ifindex, QUESTIONS, || {
        device::bridge_port(on.ifindex, mac)
    })?
    .map(device::by_index)
    .transpose()?
    .flatten();
    let port = port.ok_or_else(|| {
        Failure::new(Error::UnknownPort {
            server,
            bridge: on.name.clone(),
            mac,
        })
    })?;
    let Device { name, ifindex, .. } = &port;
    found.push(format!(
        "dev {name} (ifindex {ifindex}): bridge {} has seen {mac} there",
        on.name
    ));
    Ok(port)
}
