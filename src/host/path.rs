//! The way from this host to a backend: its MAC address and the device that leads to it.

use std::net::{Ipv4Addr, UdpSocket};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::device::{self, Device};
use super::route::{self, NextHop};
use crate::error::{Exit, failure};
use crate::model::Mac;

/// How long a neighbour has to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// RFC 863: what arrives here is thrown away.
const DISCARD_PORT: u16 = 9;

pub struct Path {
    pub device: Device,
    pub mac: Mac,
    /// What was found rather than told, for people.
    pub found: Vec<String>,
}

impl Path {
    pub fn told(device: Device, mac: Mac) -> Self {
        Path {
            device,
            mac,
            found: Vec::new(),
        }
    }

    /// Finds what wasn't told: the route names a device and a next hop, the neighbour table the hop's
    /// MAC address, and a bridge the port behind which that is.
    pub fn find(server: Ipv4Addr, device: Option<Device>, mac: Option<Mac>) -> Result<Self> {
        let hop = route::next_hop(server)?;
        let on = device::by_index(hop.ifindex)?
            .with_context(|| format!("the device of the route to {server} is gone"))?;
        let mut found = Vec::new();
        let mac = match mac {
            Some(mac) => mac,
            None => neighbour(server, &hop, &on, &mut found)?,
        };
        let device = match device {
            Some(device) => device,
            None => egress(server, on, mac, &mut found)?,
        };
        Ok(Path { device, mac, found })
    }
}

fn neighbour(server: Ipv4Addr, hop: &NextHop, on: &Device, found: &mut Vec<String>) -> Result<Mac> {
    let (addr, name) = (hop.addr, &on.name);
    let mac = ask(addr, || route::neighbour(addr, on.ifindex))?.ok_or_else(|| {
        let message = format!(
            "--server {server}: the neighbour {addr} doesn't answer on {name}: is it up? Or give --mac"
        );
        failure(Exit::NotFound, message)
    })?;
    found.push(format!(
        "mac {mac}: the neighbour table has it for {addr} on {name}"
    ));
    Ok(mac)
}

/// What the kernel knows of an address, if need be after sending something there, so that it asks
/// for the address, and learns from what comes back.
fn ask<T>(addr: Ipv4Addr, known: impl Fn() -> Result<Option<T>>) -> Result<Option<T>> {
    if let Some(known) = known()? {
        return Ok(Some(known));
    }
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).context("cannot open a socket")?;
    // Without a link nothing is sent, and nobody answers.
    let _ = socket.send_to(&[], (addr, DISCARD_PORT));
    let deadline = Instant::now() + ANSWER_WITHIN;
    while Instant::now() < deadline {
        if let Some(known) = known()? {
            return Ok(Some(known));
        }
        sleep(Duration::from_millis(10));
    }
    Ok(None)
}

/// The route's device or, where that is a bridge, the port behind which the MAC is.
fn egress(server: Ipv4Addr, on: Device, mac: Mac, found: &mut Vec<String>) -> Result<Device> {
    if !on.is_bridge() {
        let Device { name, ifindex, .. } = &on;
        found.push(format!(
            "dev {name} (ifindex {ifindex}): the route to {server} has it"
        ));
        return Ok(on);
    }
    let port = ask(server, || device::bridge_port(on.ifindex, mac))?
        .map(device::by_index)
        .transpose()?
        .flatten();
    let port = port.ok_or_else(|| {
        let bridge = &on.name;
        let message = format!(
            "--server {server}: bridge {bridge} has not seen {mac} on a port: is it up? Or give --dev"
        );
        failure(Exit::NotFound, message)
    })?;
    let Device { name, ifindex, .. } = &port;
    found.push(format!(
        "dev {name} (ifindex {ifindex}): bridge {} has seen {mac} there",
        on.name
    ));
    Ok(port)
}
