//! Asks the kernel, the host and the peers' namespaces.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use anyhow::Result;

use super::sources::Networks;
use super::{probe_peer, trials};
use crate::datapath::{self, Foreign, Ids, Interface, Pins, RuleStore, runs};
use crate::doctor::facts::{
    BackendFacts, DeviceFacts, Facts, HostFacts, InterfaceFacts, LostLocator, Neighbour,
    ReplyArrival, StalePins, Stray,
};
use crate::host::device::{self, Device};
use crate::host::discovery;
use crate::host::features::Survey;
use crate::host::namespaces::Namespaces;
use crate::host::neighbour::Neighbours;
use crate::host::route::{self, Route};
use crate::host::{capability, sysctl};
use crate::model::{
    Backend, Failures, Features, LinkState, Locator, Mac, Outcomes, Related, Remote, Rule,
};

/// Of a backend's rules, how many are asked for their way back.
pub(super) const SOURCES: usize = 16;

type Ports = HashMap<(u32, Mac), u32>;

/// The whole setup of this network namespace.
pub fn whole(pins: &Pins) -> Result<Facts> {
    let survey = Survey::take()?;
    let host = host(pins, &survey);
    let mut setup = Facts {
        remains: remains(pins, &host)?,
        host,
        ..Facts::default()
    };
    let is_ours = |remains: &StalePins| matches!(remains, StalePins::OtherVersion(_));
    if setup.remains.iter().any(is_ours) {
        return Ok(setup);
    }
    let read = || {
        let store = RuleStore::open(pins)?;
        let interfaces = datapath::interfaces(pins)?;
        let rules = store.list()?;
        let mut found = Facts {
            losses: losses(&store, &rules)?,
            outcomes: outcomes(pins, &interfaces)?,
            ..Facts::default()
        };
        live(&mut found, pins, &store, &survey, &interfaces, rules)?;
        Ok((found, interfaces))
    };
    let Some((found, interfaces)) = datapath::read(pins, read)? else {
        trials::make(&mut setup.host, &[]);
        return Ok(setup);
    };
    setup.host.may_change_rules = true;
    let is_live = |interface: &&Interface| found.live().any(|l| l.ifindex == interface.ifindex);
    let running: Vec<&Interface> = interfaces.iter().filter(is_live).collect();
    trials::make(&mut setup.host, &running);
    Ok(Facts {
        host: setup.host,
        remains: setup.remains,
        ..found
    })
}

/// What concerns one backend of a rule.
pub fn of_backend(pins: &Pins, store: &RuleStore, rule: &Rule, backend: &Backend) -> Result<Facts> {
    let rule = rule.with(vec![backend.clone()]);
    let interfaces = datapath::interfaces(pins)?;
    let mut setup = Facts::default();
    let survey = Survey::take()?;
    live(&mut setup, pins, store, &survey, &interfaces, vec![rule])?;
    Ok(setup)
}

/// What concerns some rules.
pub(super) fn of_rules(pins: &Pins, rules: &[Rule]) -> Result<Facts> {
    let setup = datapath::read(pins, || {
        let mut setup = Facts::default();
        let store = RuleStore::open(pins)?;
        let interfaces = datapath::interfaces(pins)?;
        let survey = Survey::take()?;
        live(
            &mut setup,
            pins,
            &store,
            &survey,
            &interfaces,
            rules.to_vec(),
        )?;
        Ok(setup)
    })?;
    Ok(setup.unwrap_or_default())
}

/// What concerns some interfaces.
pub fn of_interfaces(pins: &Pins, ifindexes: &[u32]) -> Result<Facts> {
    let setup = datapath::read(pins, || {
        let mut setup = Facts::default();
        let store = RuleStore::open(pins)?;
        let mut interfaces = datapath::interfaces(pins)?;
        interfaces.retain(|interface| ifindexes.contains(&interface.ifindex));
        let (survey, rules) = (Survey::take()?, store.list()?);
        live(&mut setup, pins, &store, &survey, &interfaces, rules)?;
        Ok(setup)
    })?;
    Ok(setup.unwrap_or_default())
}

/// Interfaces, backends, and the devices of both.
fn live(
    setup: &mut Facts,
    pins: &Pins,
    store: &RuleStore,
    survey: &Survey,
    interfaces: &[Interface],
    rules: Vec<Rule>,
) -> Result<()> {
    setup.attached = datapath::attached(pins)?;
    setup.interfaces = interfaces
        .iter()
        .map(|interface| ingress(interface, pins, survey))
        .collect();
    let networks = Networks::behind(&leading(setup, survey))?;
    setup.backends = targets(&rules, &networks);
    let used = setup.interfaces.iter().map(|i| i.ifindex);
    let used: BTreeSet<u32> = used
        .chain(setup.backends.iter().map(|b| b.ifindex))
        .collect();
    let devices = survey.devices().iter();
    for device in devices.filter(|device| used.contains(&device.ifindex)) {
        let mut link = link(device, store, survey)?;
        if setup.live().any(|i| i.ifindex == device.ifindex) {
            link.below = strangers(&link);
        }
        setup.devices.insert(device.ifindex, link);
    }
    setup.below = below(setup, survey);
    let (neighbours, ports) = (Neighbours::read()?, device::bridge_ports()?);
    host_side(setup, &neighbours, &ports)?;
    setup.strays = strays(setup, &rules, &neighbours, &ports);
    setup.rules = rules;
    other_side(setup);
    Ok(())
}

fn host(pins: &Pins, survey: &Survey) -> HostFacts {
    HostFacts {
        no_bpffs: datapath::no_bpffs(pins).map(|why| why.to_string()),
        lacks_to_attach: capability::missing(&capability::ATTACH),
        lacks_to_look: capability::missing(&capability::ENTER),
        tells_features: survey.is_told(),
        ..HostFacts::default()
    }
}

fn remains(pins: &Pins, host: &HostFacts) -> Result<Vec<StalePins>> {
    let mut remains: Vec<StalePins> = datapath::other_versions(pins)?
        .into_iter()
        .map(|other| StalePins::OtherVersion(other.path))
        .collect();
    let others = datapath::other_namespaces(pins)?;
    // Who doesn't see into namespaces can't tell which of them live.
    let sees_in = host.lacks_to_look.is_empty();
    if sees_in && !others.is_empty() {
        let living = Namespaces::cookies();
        let dead = others
            .into_iter()
            .filter(|(cookie, _)| !living.contains(cookie));
        remains.extend(dead.map(|(_, path)| StalePins::OtherNamespace(path)));
    }
    Ok(remains)
}

fn losses(store: &RuleStore, rules: &[Rule]) -> Result<BTreeMap<u32, Failures>> {
    let mut losses: BTreeMap<u32, Failures> = BTreeMap::new();
    let by_counter = store.failures()?.unwrap_or_default();
    for backend in rules.iter().flat_map(|rule| &rule.backends) {
        if let Some(failures) = by_counter.get(&backend.counter) {
            *losses.entry(backend.ifindex).or_default() += *failures;
        }
    }
    Ok(losses)
}

fn outcomes(pins: &Pins, interfaces: &[Interface]) -> Result<BTreeMap<u32, Outcomes>> {
    let of = |interface: &Interface| Ok((interface.ifindex, interface.outcomes(pins)?.1));
    interfaces.iter().map(of).collect()
}

fn ingress(interface: &Interface, pins: &Pins, survey: &Survey) -> InterfaceFacts {
    let (ifindex, name) = (interface.ifindex, interface.name());
    // Members of a group can't ask.
    let ids = interface.ids(pins).ok();
    let state = ids.as_ref().map_or(LinkState::Attached, |ids| ids.state);
    let moved = ids.filter(|_| state == LinkState::Moved);
    let namesake = survey.devices().iter().find(|device| device.name == name);
    let foreign = Some(ifindex)
        .filter(|_| state == LinkState::Detached)
        .and_then(|ifindex| Foreign::find(ifindex).ok().flatten());
    InterfaceFacts {
        ifindex,
        mode: interface.mode,
        frags: interface.frags,
        state,
        successor: namesake.map(|d| d.ifindex).filter(|&now| now != ifindex),
        foreign: foreign.map(|foreign| foreign.describe()),
        elsewhere: moved.as_ref().and_then(elsewhere),
        name,
    }
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
fn leading(setup: &Facts, survey: &Survey) -> BTreeSet<u32> {
    let live: BTreeSet<u32> = setup.live().map(|interface| interface.ifindex).collect();
    let devices = survey.devices().iter();
    let ports = devices.filter(|device| live.contains(&device.ifindex));
    let masters: BTreeSet<u32> = ports.filter_map(|port| port.master).collect();
    &live | &masters
}

fn targets(rules: &[Rule], networks: &Networks) -> Vec<BackendFacts> {
    let mut targets = BTreeMap::new();
    let lost = lost_locators(rules);
    for rule in rules {
        for backend in &rule.backends {
            let target = match targets.entry(identity(backend)) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => new.insert(target(backend)),
            };
            remember(target, rule, backend);
            if let Some(locator) = backend.origin.as_ref().filter(|o| lost.contains(o)) {
                lose(target, rule, locator);
            }
            if target.sources.len() < SOURCES {
                let mut sources = networks.sources(rule, backend);
                sources.retain(|source| !target.sources.contains(source));
                target.sources.extend(sources);
            }
        }
    }
    targets.into_values().collect()
}

fn remember(target: &mut BackendFacts, rule: &Rule, backend: &Backend) {
    match &backend.origin {
        Some(origin) => {
            target.found = true;
            target.followed |= origin.is_followed();
            target.by_route |= *origin == Locator::Route;
        }
        None => {
            let (count, first) = target.by_hand;
            target.by_hand = (count + 1, first.or(Some(rule.matches)));
        }
    }
}

/// What many rules have in common is looked up once.
fn lost_locators(rules: &[Rule]) -> HashSet<&Locator> {
    let backends = rules.iter().flat_map(|rule| &rule.backends);
    let mut lost: HashSet<&Locator> = backends.filter_map(|b| b.origin.as_ref()).collect();
    lost.retain(|locator| discovery::is_lost(locator));
    lost
}

fn lose(target: &mut BackendFacts, rule: &Rule, locator: &Locator) {
    let mut known = target.lost.iter_mut();
    match known.find(|lost| lost.locator == *locator) {
        Some(lost) => lost.rules += 1,
        None => target.lost.push(LostLocator {
            locator: locator.clone(),
            rules: 1,
            first: rule.matches,
        }),
    }
}

/// What makes backends one for the checks.
pub(super) type Identity = (IpAddr, u32, Mac, Mac, bool, bool, bool);

pub(super) fn identity(backend: &Backend) -> Identity {
    let Backend {
        server,
        ifindex,
        mac,
        source_mac,
        completes_checksum,
        ..
    } = *backend;
    let rewrite = &backend.rewrite;
    (
        server,
        ifindex,
        mac,
        source_mac,
        completes_checksum,
        rewrite.keep_ip,
        rewrite.push_vlan.is_some(),
    )
}

fn target(backend: &Backend) -> BackendFacts {
    BackendFacts {
        server: backend.server,
        mac: backend.mac,
        source_mac: backend.source_mac,
        completes_checksum: backend.completes_checksum,
        ifindex: backend.ifindex,
        keep_ip: backend.rewrite.keep_ip,
        push_vlan: backend.rewrite.push_vlan.is_some(),
        found: false,
        followed: false,
        by_route: false,
        has_route: false,
        is_own: false,
        port: None,
        lost: Vec::new(),
        by_hand: (0, None),
        sources: Vec::new(),
        neighbour: None,
        other_port: None,
        other_device: None,
        there: None,
        answers: None,
    }
}

fn link(device: &Device, store: &RuleStore, survey: &Survey) -> Result<DeviceFacts> {
    Ok(DeviceFacts {
        features: survey.features(device),
        enabled: device.enabled,
        promiscuous: device.promiscuous,
        in_service: store.has_egress(device.ifindex)?,
        completes_checksum: device.completes_checksum()?,
        there: None,
        below: Vec::new(),
    })
}

/// All devices below those that are looked at, as far as they are in this namespace.
fn below(setup: &Facts, survey: &Survey) -> BTreeMap<u32, Features> {
    let mut below = BTreeMap::new();
    let mut next: Vec<u32> = setup
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

/// At the ports of a device. Members of a group can't ask.
fn strangers(link: &DeviceFacts) -> Vec<(String, String)> {
    let program = |port: &Related| {
        let program = probe_peer::stranger(port.ifindex).ok().flatten()?;
        Some((port.ifname.clone(), program))
    };
    link.features.ports.iter().filter_map(program).collect()
}

/// What this namespace knows of the backends.
fn host_side(setup: &mut Facts, neighbours: &Neighbours, ports: &Ports) -> Result<()> {
    for target in &mut setup.backends {
        let route = route::lookup(target.server, None)?;
        target.has_route = matches!(route, Route::Hop(_));
        target.is_own = matches!(route, Route::Local);
        let Some(link) = setup.devices.get(&target.ifindex) else {
            continue;
        };
        target.answers = Some(answers(target, link)?);
        target.port = ports.get(&(target.ifindex, target.mac)).copied();
        let master = link.features.master.as_ref();
        let above = master.map(|master| master.ifindex);
        let known = neighbours.next_hop(target.server, target.ifindex, above)?;
        let other_port = |mac| {
            let port = ports.get(&(above?, mac))?;
            Some(*port)
                .filter(|port| *port != target.ifindex)
                .and_then(device::name_of)
        };
        let peer = link.peer().map(|peer| peer.nsid);
        target.neighbour = known.and_then(|next| {
            Some(Neighbour {
                mac: next.mac,
                device: device::name_of(next.ifindex)?,
                behind: other_port(next.mac),
                peer_has_address: next.mac == target.mac
                    || peer.is_none_or(|nsid| next.is_in(nsid, target.server)),
            })
        });
        target.other_port = other_port(target.mac);
        // A device that is down has no routes: its link is what is wrong.
        if target.by_route && link.enabled {
            let nsid = peer.flatten();
            let device = discovery::other_device(target.server, target.ifindex, above, nsid)?;
            target.other_device = device.and_then(device::name_of);
        }
    }
    Ok(())
}

/// Where the host gets what the server answers.
fn answers(target: &BackendFacts, link: &DeviceFacts) -> Result<ReplyArrival> {
    let own = (link.features.ifindex, link.name());
    let master = link.features.master.as_ref();
    let (ifindex, device) = master.map_or(own, |master| (master.ifindex, &master.ifname));
    Ok(ReplyArrival {
        device: device.to_string(),
        rp_filter: sysctl::rp_filter(device),
        forwards: sysctl::forwards(target.server, device),
        accept_local: sysctl::accept_local(device),
        back: probe_peer::back(None, target.server, ifindex)?.way,
    })
}

/// Where all attached interfaces are ports of one bridge, the sources that it has elsewhere.
fn strays(setup: &Facts, rules: &[Rule], neighbours: &Neighbours, ports: &Ports) -> Vec<Stray> {
    let attached: Vec<u32> = setup.live().map(|interface| interface.ifindex).collect();
    let master = |ifindex: &u32| setup.devices.get(ifindex)?.features.master.as_ref();
    let Some(bridge) = attached.first().and_then(master) else {
        return Vec::new();
    };
    if bridge.kind.as_deref() != Some("bridge")
        || !attached.iter().all(|port| master(port) == Some(bridge))
    {
        return Vec::new();
    }
    let of = |source: IpAddr| {
        let mac = neighbours.get(bridge.ifindex, source)?;
        let port = ports.get(&(bridge.ifindex, mac))?;
        Some(Stray {
            source,
            mac,
            bridge: bridge.ifname.clone(),
            port: device::name_of(*port).filter(|_| !attached.contains(port))?,
        })
    };
    let hosts = rules.iter().map(|rule| rule.matches.src);
    let hosts = hosts.filter(|src| src.prefix_len() == src.max_prefix_len());
    let sources: BTreeSet<IpAddr> = hosts.map(|src| src.addr()).collect();
    sources.into_iter().filter_map(of).collect()
}

/// What the peers' namespaces know of them, each entered once.
fn other_side(setup: &mut Facts) {
    for link in setup.devices.values_mut() {
        let ifindex = link.features.ifindex;
        let mut targets: Vec<&mut BackendFacts> = setup
            .backends
            .iter_mut()
            .filter(|target| target.ifindex == ifindex)
            .collect();
        let peer = link.features.peer.as_ref().map(|peer| &peer.device);
        link.there = peer.and_then(|peer| probe_peer::look(peer, &mut targets));
    }
}
