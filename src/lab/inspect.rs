//! What is there: asked of the kernel each time, kept nowhere.

use std::collections::HashMap;
use std::process::Command;

use anyhow::Result;
use serde::Serialize;

use super::beds::{Bed, HOST};
use super::namespace;
use crate::host::address::{self, Address};
use crate::host::{device, netns};
use crate::model::Mac;

const MARK: &str = "xdpredir lab ";

/// How much of a bed is there.
#[derive(Clone, Copy)]
pub enum State {
    /// No namespace of any bed.
    Absent,
    /// An `up` was interrupted, or something was taken away since.
    Incomplete,
    /// All of a bed.
    Up(&'static Bed),
}

/// What there is of a bed.
#[derive(Serialize)]
pub struct Status {
    #[serde(skip)]
    pub(super) state: State,
    /// The name of the bed, where all of it is there.
    pub bed: Option<&'static str>,
    pub hosts: Vec<Host>,
}

#[derive(Serialize)]
pub struct Host {
    pub host: &'static str,
    pub netns: String,
    pub devices: Vec<Device>,
}

#[derive(Serialize)]
pub struct Device {
    pub ifname: String,
    pub ifindex: u32,
    /// None where it has no Ethernet address.
    pub mac: Option<Mac>,
    pub mtu: u32,
    /// With their prefix lengths.
    pub addresses: Vec<String>,
    /// The other end of a veth, as host:device.
    pub peer: Option<String>,
    /// The bridge that it is a port of.
    pub master: Option<String>,
}

/// A host's network, as its own namespace has it.
struct Network {
    devices: Vec<device::Device>,
    addresses: Vec<Address>,
    /// The hosts by the numbers that the namespace has given to theirs.
    numbers: HashMap<i32, &'static str>,
}

pub fn state() -> Result<State> {
    let hosts = namespace::present();
    if hosts.is_empty() {
        return Ok(State::Absent);
    }
    if !namespace::is_live(HOST) {
        return Ok(State::Incomplete);
    }
    let devices = devices(HOST)?;
    let lo = devices.iter().find(|device| is_loopback(device));
    let bed = lo
        .and_then(|lo| lo.alias.as_deref()?.strip_prefix(MARK))
        .and_then(Bed::by_name);
    Ok(match bed {
        Some(bed) if bed.hosts.iter().all(|h| namespace::is_live(h)) => State::Up(bed),
        _ => State::Incomplete,
    })
}

/// The command that tells a finished bed from one whose making was interrupted.
pub fn mark(bed: &Bed) -> Command {
    let alias = format!("{MARK}{}", bed.name);
    namespace::command(HOST, &["ip", "link", "set", "lo", "alias", &alias])
}

/// The devices, `lo` apart, that don't carry packets (yet), as host:device.
pub fn down_devices(hosts: &[&str]) -> Result<Vec<String>> {
    let mut down = Vec::new();
    for host in hosts {
        let devices = devices(host)?;
        let is_down = |device: &&device::Device| !is_loopback(device) && !device.running;
        let name = |device: &device::Device| format!("{host}:{}", device.name);
        down.extend(devices.iter().filter(is_down).map(name));
    }
    Ok(down)
}

pub fn status() -> Result<Status> {
    let state = state()?;
    let mut hosts = namespace::present();
    hosts.retain(|host| namespace::is_live(host));
    let networks: HashMap<&str, Network> = hosts
        .iter()
        .map(|host| Ok((*host, network(host, &hosts)?)))
        .collect::<Result<_>>()?;
    Ok(Status {
        state,
        bed: match state {
            State::Up(bed) => Some(bed.name),
            State::Absent | State::Incomplete => None,
        },
        hosts: hosts.iter().map(|host| describe(host, &networks)).collect(),
    })
}

fn describe(host: &'static str, networks: &HashMap<&str, Network>) -> Host {
    let network = &networks[host];
    let devices = network.devices.iter().filter(|device| !is_loopback(device));
    Host {
        host,
        netns: namespace::name(host),
        devices: devices
            .map(|device| Device {
                ifname: device.name.clone(),
                ifindex: device.ifindex,
                mac: device.mac,
                mtu: device.mtu,
                addresses: network.addresses_of(device.ifindex),
                peer: peer(device, network, networks),
                master: device.master.and_then(|master| network.name_of(master)),
            })
            .collect(),
    }
}

fn peer(
    device: &device::Device,
    network: &Network,
    networks: &HashMap<&str, Network>,
) -> Option<String> {
    let host = network.numbers.get(&device.link_nsid?)?;
    let name = networks.get(host)?.name_of(device.link?)?;
    Some(format!("{host}:{name}"))
}

impl Network {
    fn name_of(&self, ifindex: u32) -> Option<String> {
        let mut devices = self.devices.iter();
        let device = devices.find(|device| device.ifindex == ifindex)?;
        Some(device.name.clone())
    }

    fn addresses_of(&self, ifindex: u32) -> Vec<String> {
        let its = self.addresses.iter().filter(|a| a.ifindex == ifindex);
        its.map(|address| address.net.to_string()).collect()
    }
}

fn is_loopback(device: &device::Device) -> bool {
    device.name == "lo"
}

fn devices(host: &str) -> Result<Vec<device::Device>> {
    netns::within(&namespace::path(host), device::all)
}

fn network(host: &str, hosts: &[&'static str]) -> Result<Network> {
    netns::within(&namespace::path(host), || {
        // The devices first: the kernel numbers the namespaces of their peers as it lists them.
        let devices = device::all()?;
        let mut numbers = HashMap::new();
        for host in hosts {
            let number = netns::nsid(&netns::file(&namespace::path(host))?)?;
            numbers.extend(number.map(|number| (number, *host)));
        }
        Ok(Network {
            devices,
            addresses: address::all(None)?,
            numbers,
        })
    })
}
