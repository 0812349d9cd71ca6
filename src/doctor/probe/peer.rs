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
use crate::host::{device, peer, sysctl};
use crate::model::Remote;

const OURS: &str = "xdpredir";

/// The route back to where packets come from.
pub struct WayBack {
    pub way: ReturnRoute,
    gateway: Option<IpAddr>,
}

/// What is asked in a peer's namespace, of the peer and of the backends that it leads to. None where the
/// namespace can't be entered, or the peer has gone meanwhile.
pub fn probe(peer: &Remote, backends: &mut [&mut BackendFacts]) -> Option<PeerFacts> {
    let asked: Vec<(IpAddr, Vec<Source>)> = backends
        .iter()
        .map(|backend| (backend.server, backend.sources.clone()))
        .collect();
    let look_there = || {
        let facts = peer_facts(peer.ifindex)?;
        let answers = asked.iter().map(|(server, sources)| {
            let address = delivery(*server, peer.ifindex)?;
            let own = Some(*server).filter(|_| address == Delivery::Here);
            let back =
                |source: &Source| Ok((*source, back(own, sample(source.net), peer.ifindex)?));
            let back = sources.iter().map(back);
            let others = others(*server, peer.ifindex)?;
            Ok((address, others, back.collect::<Result<Vec<_>>>()?))
        });
        Ok((facts, answers.collect::<Result<Vec<_>>>()?))
    };
    let (facts, answers) = peer::within(peer, look_there).ok()?;
    if facts.is_port || facts.promiscuous {
        // The server may be elsewhere, behind that bridge or macvlan.
        return Some(facts);
    }
    for (backend, (address, mut others, back)) in backends.iter_mut().zip(answers) {
        others.shared = shared(&others);
        backend.namespace = Some(ServerFacts {
            address,
            others,
            replies: back.into_iter().map(reply).collect(),
        });
    }
    Some(facts)
}

fn peer_facts(ifindex: u32) -> Result<PeerFacts> {
    let own = device::by_index(ifindex)?.context("the peer is gone")?;
    let program = Foreign::find(ifindex)?;
    let redirects = program.as_ref().is_some_and(is_another_of_ours);
    Ok(PeerFacts {
        enabled: own.enabled,
        is_port: own.master.is_some(),
        promiscuous: own.promiscuous,
        tx_vlan: Ethtool::open()?.offloads(&own.name).tx_vlan,
        rp_filter: sysctl::rp_filter(&own.name),
        program: program
            .filter(|_| !redirects)
            .map(|program| program.describe()),
        redirects,
    })
}

/// Other people's XDP program on a device. Ours is a redirect after a redirect.
pub fn foreign_program(ifindex: u32) -> Result<Option<String>> {
    let program = Foreign::find(ifindex)?.filter(|program| !is_another_of_ours(program));
    Ok(program.map(|program| program.describe()))
}

fn is_another_of_ours(program: &Foreign) -> bool {
    program.name() == OURS
}

fn delivery(server: IpAddr, arrival: u32) -> Result<Delivery> {
    let forwards = || match device::name_of(arrival) {
        Some(device) => sysctl::forwards(server, &device),
        None => false,
    };
    Ok(match route::lookup(server, None)? {
        Route::Local => Delivery::Here,
        Route::Hop(hop) if forwards() && leads_on(server, &hop, arrival)? => Delivery::Onward,
        _ => Delivery::Nowhere,
    })
}

/// By the device of arrival, too, where a gateway or a neighbour is there to take it.
fn leads_on(server: IpAddr, hop: &NextHop, arrival: u32) -> Result<bool> {
    Ok(hop.ifindex != arrival || hop.addr != server || discovery::answers(server, arrival)?)
}

/// From the device of arrival; for an address of this namespace's own, as that one answers.
pub fn back(own: Option<IpAddr>, source: IpAddr, arrival: u32) -> Result<WayBack> {
    let route = match own {
        Some(own) => route::lookup_from(own, source)?,
        None => route::lookup(source, None)?,
    };
    let (way, gateway) = match route {
        Route::Hop(hop) if hop.ifindex == arrival => (ReturnRoute::ByArrival, Some(hop.addr)),
        Route::Hop(hop) => (ReturnRoute::ByAnother, Some(hop.addr)),
        // One of its own addresses stands for a network that it is in.
        Route::Local => (ReturnRoute::ByArrival, None),
        Route::None => (ReturnRoute::Missing, None),
    };
    let gateway = gateway.filter(|addr| *addr != source);
    Ok(WayBack { way, gateway })
}

/// ReturnRoute in the namespace that redirects.
fn reply((source, back): (Source, WayBack)) -> Reply {
    Reply {
        source,
        back: back.way,
        via_us: back.gateway.is_some_and(is_ours),
    }
}

/// One address that both namespaces have.
fn shared(others: &Others) -> Option<IpAddr> {
    let is_one = |net: &&IpNet| net.prefix_len() == net.max_prefix_len();
    let mut addresses = others.local.iter().filter(is_one).map(|net| net.addr());
    addresses.find(|addr| is_ours(*addr))
}

fn is_ours(addr: IpAddr) -> bool {
    matches!(route::lookup(addr, None), Ok(Route::Local))
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
fn others(server: IpAddr, arrival: u32) -> Result<Others> {
    let is_other = |net: &IpNet| {
        let addr = net.addr();
        let is_host = !addr.is_loopback() && !addr.is_multicast() && !route::is_link_local(addr);
        addr.is_ipv4() == server.is_ipv4() && is_host && *net != IpNet::from(server)
    };
    let mut local = route::local()?;
    local.retain(is_other);
    let addresses = address::all(None)?;
    let (local, near): (Vec<_>, Vec<_>) = local
        .into_iter()
        .partition(|net| stands_alone(net, &addresses));
    let any = if server.is_ipv4() { ANY_V4 } else { ANY_V6 };
    let sends_on = match route::lookup(any, None)? {
        Route::Hop(hop) if hop.ifindex != arrival => {
            device::name_of(arrival).is_some_and(|device| sysctl::forwards(server, &device))
        }
        _ => false,
    };
    Ok(Others {
        local,
        near: !near.is_empty(),
        sends_on,
        shared: None,
    })
}
