//! Interfaces, and the devices around them.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use anyhow::Result;

use super::peer;
use super::whereabouts::LinkLayer;
use crate::datapath::{Foreign, Ids, Interface, Pins, RuleStore, runs};
use crate::doctor::facts::{ArrivingSession, BridgeEntry, DeviceFacts, Facts, InterfaceFacts};
use crate::host::address;
use crate::host::device::{self, Device};
use crate::host::features::Survey;
use crate::host::namespaces::Namespaces;
use crate::host::neighbour;
use crate::host::queues;
use crate::host::route::{self, Route};
use crate::host::ssh;
use crate::model::{Features, LinkState, Policy, Related, Remote, Rule, VlanId};

pub fn interface(interface: &Interface, pins: &Pins, survey: &Survey) -> Result<InterfaceFacts> {
    let (ifindex, name) = (interface.ifindex, interface.name());
    let policy = interface.policy;
    // Members of a group can't ask.
    let ids = interface.ids(pins).ok();
    let state = ids.as_ref().map_or(LinkState::Attached, |ids| ids.state);
    let moved = ids.filter(|_| state == LinkState::Moved);
    let namesake = survey.devices().iter().find(|device| device.name == name);
    let foreign = Some(ifindex)
        .filter(|_| state == LinkState::Detached)
        .and_then(|ifindex| Foreign::find(ifindex).ok().flatten());
    Ok(InterfaceFacts {
        ifindex,
        mode: interface.mode,
        purpose: interface.purpose,
        reachable: interface.reachable,
        frags: interface.frags,
        sees_links: interface.sees_links,
        skipped: skipped(interface, pins)?,
        answers: interface.answers,
        mac: interface.mac,
        state,
        successor: namesake.map(|d| d.ifindex).filter(|&now| now != ifindex),
        foreign: foreign.map(|foreign| foreign.describe()),
        elsewhere: moved.as_ref().and_then(elsewhere),
        addresses: own_addresses(ifindex, survey)?,
        sessions: match policy {
            Policy::Pass => Vec::new(),
            Policy::Drop | Policy::Forward { .. } => sessions(ifindex, survey)?,
        },
        policy,
        name,
    })
}

/// The programs of the chain, and ours at its end, that were not asked about packets.
fn skipped(interface: &Interface, pins: &Pins) -> Result<Vec<(String, u64)>> {
    let stats = interface.chain_stats(pins, false)?.into_iter();
    let others = stats.map(|stats| (stats.name, stats.counts.skipped));
    let ours = interface.not_reached(pins)?;
    let ours = ours.map(|packets| ("ours".to_string(), packets));
    Ok(others
        .chain(ours)
        .filter(|(_, packets)| *packets > 0)
        .collect())
}

/// Those of an interface, and of the bridge above it, which has them in its stead.
fn own_addresses(ifindex: u32, survey: &Survey) -> Result<Vec<IpAddr>> {
    let mut devices = survey.devices().iter();
    let master = devices
        .find(|device| device.ifindex == ifindex)
        .and_then(|d| d.master);
    let mut addresses = Vec::new();
    for ifindex in [Some(ifindex), master].into_iter().flatten() {
        let all = address::of(ifindex, None)?.into_iter();
        addresses.extend(all.filter(|a| a.global).map(|a| a.net.addr()));
    }
    Ok(addresses)
}

/// The SSH sessions whose hosts this host reaches by an interface: by itself, by the bridge or bond above
/// it, or by a VLAN or macvlan on it.
fn sessions(ifindex: u32, survey: &Survey) -> Result<Vec<ArrivingSession>> {
    let devices = survey.devices();
    let this = devices.iter().find(|device| device.ifindex == ifindex);
    let mut arriving = Vec::new();
    for session in ssh::sessions() {
        let Route::Hop(hop) = route::lookup_from(session.addr, session.host)? else {
            continue;
        };
        let Some(device) = devices.iter().find(|device| device.ifindex == hop.ifindex) else {
            continue;
        };
        let is_above =
            device.link == Some(ifindex) && device.link_nsid.is_none() && !device.is_pair();
        let has_port = this.is_some_and(|this| this.master == Some(device.ifindex));
        if device.ifindex == ifindex || is_above || has_port {
            arriving.push(ArrivingSession {
                session,
                vlan: device.vlan.and_then(VlanId::new).filter(|_| is_above),
                next_hop: hop.addr,
                device: device.name.clone(),
                mac: neighbour::mac(hop.addr, device.ifindex)?,
            });
        }
    }
    Ok(arriving)
}

/// The device that has the program of a moved interface, where its namespace can be entered.
fn elsewhere(ids: &Ids) -> Option<Remote> {
    let ifindex = ids.ifindex;
    let has_it = || Ok(runs(ids.program, ifindex).then(|| device::name_of(ifindex)));
    if let Ok(Some(ifname)) = has_it() {
        return Some(Remote::here(ifindex, &ifname?));
    }
    let (netns, ifname) = Namespaces::first(has_it)?;
    Some(Remote {
        ifindex,
        ifname,
        nsid: None,
        netns: Some(netns),
    })
}

/// The live interfaces and the bridges above them, which have the addresses in their stead.
pub fn leading(facts: &Facts, survey: &Survey) -> BTreeSet<u32> {
    let live: BTreeSet<u32> = facts.live().map(|interface| interface.ifindex).collect();
    let devices = survey.devices().iter();
    let ports = devices.filter(|device| live.contains(&device.ifindex));
    let masters: BTreeSet<u32> = ports.filter_map(|port| port.master).collect();
    &live | &masters
}

pub fn device(device: &Device, store: &RuleStore, survey: &Survey) -> Result<DeviceFacts> {
    Ok(DeviceFacts {
        features: survey.features(device),
        enabled: device.enabled,
        promiscuous: device.promiscuous,
        in_service: store.has_egress(device.ifindex)?,
        other_end_is_back: device.link_nsid.is_none() && store.is_paired(device.ifindex)?,
        completes_checksum: device.completes_checksum()?,
        rx_queues: queues::of(&device.name),
        peer_facts: None,
        foreign_below: Vec::new(),
    })
}

/// All devices below those that are looked at, as far as they are in this namespace.
pub fn below(facts: &Facts, survey: &Survey) -> BTreeMap<u32, Features> {
    let mut below = BTreeMap::new();
    let mut next: Vec<u32> = facts
        .devices
        .values()
        .flat_map(|l| under(&l.features))
        .collect();
    while let Some(ifindex) = next.pop() {
        let device = survey.devices().iter().find(|d| d.ifindex == ifindex);
        if let (Some(device), Entry::Vacant(new)) = (device, below.entry(ifindex)) {
            next.extend(under(new.insert(survey.features(device))));
        }
    }
    below
}

fn under(features: &Features) -> Vec<u32> {
    let lower = features.lower.iter().filter(|lower| lower.nsid.is_none());
    let ports = features.ports.iter().map(|port| port.ifindex);
    ports.chain(lower.map(|lower| lower.ifindex)).collect()
}

/// Other people's programs at the ports of a device. Members of a group can't ask.
pub fn foreign_below(device: &DeviceFacts) -> Vec<(String, String)> {
    let program = |port: &Related| {
        let program = peer::foreign_program(port.ifindex).ok().flatten()?;
        Some((port.ifname.clone(), program))
    };
    device.features.ports.iter().filter_map(program).collect()
}

/// Where all attached interfaces are ports of one bridge, the sources that it has elsewhere.
pub fn bridge_entries(facts: &Facts, rules: &[Rule], links: &LinkLayer) -> Vec<BridgeEntry> {
    let attached: Vec<u32> = facts.live().map(|interface| interface.ifindex).collect();
    let master = |ifindex: &u32| facts.devices.get(ifindex)?.features.master.as_ref();
    let Some(bridge) = attached.first().and_then(master) else {
        return Vec::new();
    };
    if bridge.kind.as_deref() != Some("bridge")
        || !attached.iter().all(|port| master(port) == Some(bridge))
    {
        return Vec::new();
    }
    let of = |source: IpAddr| {
        let mac = links.mac(bridge.ifindex, source)?;
        let port = links.port(bridge.ifindex, mac)?;
        Some(BridgeEntry {
            source,
            mac,
            bridge: bridge.ifname.clone(),
            port: device::name_of(port).filter(|_| !attached.contains(&port))?,
        })
    };
    let hosts = rules.iter().map(|rule| rule.matches.src);
    let hosts = hosts.filter(|src| src.prefix_len() == src.max_prefix_len());
    let sources: BTreeSet<IpAddr> = hosts.map(|src| src.addr()).collect();
    sources.into_iter().filter_map(of).collect()
}
