//! What a peer's network namespace knows of the peer and of servers.

use std::net::IpAddr;

use anyhow::{Context, Result};
use ipnet::IpNet;

use super::sources::{ANY_V4, ANY_V6, sample};
use crate::datapath::Foreign;
use crate::doctor::facts::{
    BackendFacts, Delivery, Others, PeerFacts, Reply, ReturnRoute, ServerFacts, Source,
};
use crate::host::address::{self, Address};
use crate::host::discovery;
use crate::host::ethtool::Ethtool;
use crate::host::route::{self, NextHop, Route};
use crate::host::{device, device_features, peer, queues, sysctl};
use crate::model::Remote;

/// What is asked in a peer's namespace, of the peer and of the backends that it leads to. None where the
/// namespace can't be entered, or the peer has gone meanwhile.
pub fn probe(peer: &Remote, backends: &mut [&mut BackendFacts]) -> Option<PeerFacts> {
    // Of the namespace that redirects: the peer's has others.
    let ours = route::local().ok()?;
    let backend = |backend: &&mut BackendFacts| (backend.server, backend.sources.clone());
    let asked: Vec<(IpAddr, Vec<Source>)> = backends.iter().map(backend).collect();
    let look_there = || {
        let facts = peer_facts(peer.ifindex)?;
        let servers = asked.iter();
        let servers =
            servers.map(|(server, sources)| server_facts(*server, sources, peer.ifindex, &ours));
        Ok((facts, servers.collect::<Result<Vec<_>>>()?))
    };
    let (facts, servers) = peer::within(peer, look_there).ok()?;
    // Behind a bridge's port or a macvlan's device, the server may be elsewhere.
    if !facts.is_port && !facts.promiscuous {
        for (backend, server) in backends.iter_mut().zip(servers) {
            backend.namespace = Some(server);
        }
    }
    Some(facts)
}

fn peer_facts(ifindex: u32) -> Result<PeerFacts> {
    let own = device::by_index(ifindex)?.context("the peer is gone")?;
    let program = Foreign::find(ifindex)?.filter(|program| !program.passes());
    let redirects = program.as_ref().is_some_and(Foreign::redirects);
    Ok(PeerFacts {
        enabled: own.enabled,
        is_port: own.master.is_some(),
        promiscuous: own.promiscuous,
        tx_vlan: Ethtool::open()?.offloads(&own.name).tx_vlan,
        rp_filter: sysctl::rp_filter(&own.name),
        rx_queues: queues::of(&own.name),
        gro_lists: gro_lists(&own.name),
        program: program
            .filter(|_| !redirects)
            .map(|program| program.describe()),
        redirects,
    })
}

fn gro_lists(device: &str) -> Option<bool> {
    const FEATURE: &str = "rx-gro-list";
    let can_be_switched = device_features::can_be_switched(device, FEATURE);
    can_be_switched
        .filter(|can| *can)
        .and_then(|_| device_features::is_active(device, FEATURE))
}

/// Other people's XDP program on a device. Ours is a redirect after a redirect.
pub fn foreign_program(ifindex: u32) -> Result<Option<String>> {
    let program =
        Foreign::find(ifindex)?.filter(|program| !program.redirects() && !program.passes());
    Ok(program.map(|program| program.describe()))
}

fn server_facts(
    server: IpAddr,
    sources: &[Source],
    arrival: u32,
    ours: &[IpNet],
) -> Result<ServerFacts> {
    let arrives_at = device::name_of(arrival);
    let forwards = arrives_at.is_some_and(|device| sysctl::forwards(server, &device));
    let address = match route::lookup(server, None)? {
        Route::Local => Delivery::Here,
        Route::Hop(hop) if forwards && leads_on(server, &hop, arrival)? => Delivery::Onward,
        _ => Delivery::Nowhere,
    };
    let own = Some(server).filter(|_| address == Delivery::Here);
    let reply = |source: &Source| {
        let (back, gateway) = back(own, sample(source.net), arrival)?;
        Ok(Reply {
            source: *source,
            back,
            via_us: gateway.is_some_and(|gateway| has(ours, gateway)),
        })
    };
    Ok(ServerFacts {
        address,
        replies: sources.iter().map(reply).collect::<Result<_>>()?,
        others: others(server, arrival, forwards, ours)?,
    })
}

fn has(networks: &[IpNet], addr: IpAddr) -> bool {
    networks.iter().any(|net| net.contains(&addr))
}

/// By the device of arrival, too, where a gateway or a neighbour is there to take it.
fn leads_on(server: IpAddr, hop: &NextHop, arrival: u32) -> Result<bool> {
    Ok(hop.ifindex != arrival || hop.addr != server || discovery::answers(server, arrival)?)
}

/// The route back to where packets come from, and its gateway: from the device of arrival, or for an address
/// of this namespace's own as that one answers.
pub fn back(
    own: Option<IpAddr>,
    source: IpAddr,
    arrival: u32,
) -> Result<(ReturnRoute, Option<IpAddr>)> {
    let route = match own {
        Some(own) => route::lookup_from(own, source)?,
        None => route::lookup(source, None)?,
    };
    let gateway = |hop: &NextHop| Some(hop.addr).filter(|addr| *addr != source);
    Ok(match route {
        Route::Hop(hop) if hop.ifindex == arrival => (ReturnRoute::ByArrival, gateway(&hop)),
        Route::Hop(hop) => (ReturnRoute::ByAnother, gateway(&hop)),
        // One of its own addresses stands for a network that it is in.
        Route::Local => (ReturnRoute::ByArrival, None),
        Route::None => (ReturnRoute::Missing, None),
    })
}

/// Whether a local route is there for itself, or for an address that clients may ask. One of a network
/// that the server is in says nothing of what they ask.
fn stands_alone(net: &IpNet, addresses: &[Address]) -> bool {
    let mut of = addresses
        .iter()
        .filter(|a| IpNet::from(a.net.addr()) == *net);
    let first = of.next();
    first.is_none_or(|first| first.stands_alone() || of.any(Address::stands_alone))
}

/// What a namespace takes beside packets to the server's address.
fn others(server: IpAddr, arrival: u32, forwards: bool, ours: &[IpNet]) -> Result<Others> {
    let is_other = |net: &IpNet| {
        let addr = net.addr();
        let is_host = !addr.is_loopback() && !addr.is_multicast() && !route::is_link_local(addr);
        addr.is_ipv4() == server.is_ipv4() && is_host && *net != IpNet::from(server)
    };
    let all = route::local()?.into_iter().filter(is_other);
    let addresses = address::all(None)?;
    let (local, near): (Vec<IpNet>, Vec<IpNet>) =
        all.partition(|net| stands_alone(net, &addresses));
    let any = if server.is_ipv4() { ANY_V4 } else { ANY_V6 };
    let leads_away = matches!(route::lookup(any, None)?, Route::Hop(hop) if hop.ifindex != arrival);
    let single = local
        .iter()
        .filter(|net| net.prefix_len() == net.max_prefix_len());
    let shared = single.map(IpNet::addr).find(|addr| has(ours, *addr));
    Ok(Others {
        near: !near.is_empty(),
        sends_on: leads_away && forwards,
        shared,
        local,
    })
}
