//! What is there: asked of the kernel each time, kept nowhere.

use std::collections::HashMap;
use std::process::Command;

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::beds::Bed;
use super::beds::HOST;
use super::{commands, namespace};

const MARK: &str = "xdpredir lab ";

pub enum State {
    Absent,
    /// An `up` was interrupted, or something was taken away since.
    Incomplete,
    Up(Bed),
}

#[derive(Serialize)]
pub struct Report {
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
    pub mac: String,
    pub mtu: u32,
    pub addresses: Vec<String>,
    pub peer: Option<String>,
    pub master: Option<String>,
}

/// A device as `ip -j addr` has it.
#[derive(Deserialize)]
struct Link {
    ifname: String,
    ifindex: u32,
    address: String,
    mtu: u32,
    operstate: String,
    master: Option<String>,
    ifalias: Option<String>,
    /// The other end of a veth: its ifindex, and this namespace's id for the namespace it is in.
    link_index: Option<u32>,
    link_netnsid: Option<i32>,
    #[serde(default)]
    addr_info: Vec<Address>,
}

#[derive(Deserialize)]
struct Address {
    local: String,
    prefixlen: u8,
}

/// A namespace as `ip -j netns list-id` has it.
#[derive(Deserialize)]
struct NamespaceId {
    nsid: i32,
    name: Option<String>,
}

pub fn state() -> Result<State> {
    let hosts = namespace::present();
    if hosts.is_empty() {
        return Ok(State::Absent);
    }
    if !namespace::is_live(HOST) {
        return Ok(State::Incomplete);
    }
    let bed = links(HOST)?
        .iter()
        .find(|link| link.ifname == "lo")
        .and_then(|lo| lo.ifalias.as_deref()?.strip_prefix(MARK))
        .and_then(Bed::by_name);
    Ok(match bed {
        Some(bed) if bed.layout().hosts.iter().all(|h| namespace::is_live(h)) => State::Up(bed),
        _ => State::Incomplete,
    })
}

/// The command that tells a finished bed from one whose making was interrupted.
pub fn mark(bed: Bed) -> Command {
    let alias = format!("{MARK}{}", bed.name());
    namespace::command(HOST, &["ip", "link", "set", "lo", "alias", &alias])
}

/// The devices, `lo` apart, that don't carry packets (yet), as host:device.
pub fn down_devices(hosts: &[&str]) -> Result<Vec<String>> {
    let mut down = Vec::new();
    for host in hosts {
        let links = links(host)?;
        let is_down = |link: &&Link| link.ifname != "lo" && link.operstate != "UP";
        down.extend(
            links
                .iter()
                .filter(is_down)
                .map(|link| format!("{host}:{}", link.ifname)),
        );
    }
    Ok(down)
}

pub fn report(bed: Option<Bed>) -> Result<Report> {
    let mut hosts = namespace::present();
    hosts.retain(|host| namespace::is_live(host));
    let links: HashMap<&str, Vec<Link>> = hosts
        .iter()
        .map(|host| Ok((*host, links(host)?)))
        .collect::<Result<_>>()?;
    Ok(Report {
        bed: bed.map(Bed::name),
        hosts: hosts
            .into_iter()
            .map(|host| describe(host, &links))
            .collect::<Result<_>>()?,
    })
}

fn describe(host: &'static str, links: &HashMap<&str, Vec<Link>>) -> Result<Host> {
    let ids = namespace_ids(host)?;
    let devices = links[host]
        .iter()
        .filter(|link| link.ifname != "lo")
        .map(|link| Device {
            ifname: link.ifname.clone(),
            ifindex: link.ifindex,
            mac: link.address.clone(),
            mtu: link.mtu,
            addresses: link
                .addr_info
                .iter()
                .map(|address| format!("{}/{}", address.local, address.prefixlen))
                .collect(),
            peer: peer(link, &ids, links),
            master: link.master.clone(),
        })
        .collect();
    Ok(Host {
        host,
        netns: namespace::name(host),
        devices,
    })
}

fn peer(link: &Link, ids: &[NamespaceId], links: &HashMap<&str, Vec<Link>>) -> Option<String> {
    let (index, nsid) = (link.link_index?, link.link_netnsid?);
    let namespace = ids.iter().find(|id| id.nsid == nsid)?.name.as_deref()?;
    let host = namespace::host_of(namespace)?;
    let device = links.get(host)?.iter().find(|l| l.ifindex == index)?;
    Some(format!("{host}:{}", device.ifname))
}

fn links(host: &str) -> Result<Vec<Link>> {
    ask_json(namespace::command(host, &["ip", "-j", "-d", "addr"]))
}

fn namespace_ids(host: &str) -> Result<Vec<NamespaceId>> {
    let list = ["ip", "-j", "netns", "list-id"];
    ask_json(namespace::command(host, &list))
}

/// `ip -j` prints nothing at all for some empty lists.
fn ask_json<T: DeserializeOwned>(command: Command) -> Result<Vec<T>> {
    let text = commands::ask(command)?;
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_str(&text).context("cannot read the output of `ip -j`")
}
